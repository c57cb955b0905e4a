"""Heads of a classification: the optimum that scikit-learn finds, honest out-of-fold figures, the same bytes twice."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.preprocessing import Normalizer, StandardScaler
from threadpoolctl import threadpool_limits

from featstore.errors import UsageError
from featstore.heads import Fitted, Head, ece, fit, fold, probabilities
from featstore.heads.fitting import MLP_FROM
from featstore.heads.topk import largest


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    """The matrices are small: on busy cores the threads of scikit-learn's products would mostly wait for each other."""
    with threadpool_limits(1, "blas"):
        yield


LIGHT = ("prototypes", "ridge", "logistic", "knn")


def data(n: int = 600, d: int = 12, c: int = 3, *, apart: float = 1.5, seed: int = 0) -> tuple[Any, Any, Any, Any]:
    """Vectors around class means: vectors, truth, classes, folds."""
    generator = np.random.default_rng(seed)
    truth = generator.integers(0, c, n)
    means = apart * generator.standard_normal((c, d))
    vectors = (means[truth] + generator.standard_normal((n, d)) * (0.2 + np.arange(d) / d)).astype(np.float32)
    return vectors, truth, tuple(f"class {i}" for i in range(c)), fold(truth, np.arange(n), 5)


@pytest.fixture(scope="module")
def digits() -> tuple[Any, Any, Any, Any]:
    vectors, truth = load_digits(return_X_y=True)
    vectors, truth = (vectors[:900] / 4).astype(np.float32), truth[:900].astype(np.int64)
    return vectors, truth, tuple("0123456789"), fold(truth, np.arange(900), 5)


@pytest.fixture(scope="module")
def fitted(digits: Any) -> dict[str, Fitted]:
    return {kind: fit(*digits, kind=kind) for kind in LIGHT}


def _input(name: str, vectors: NDArray[np.float32]) -> NDArray[np.float64]:
    exact = vectors.astype(np.float64)
    if name == "unit":
        return np.asarray(Normalizer().fit_transform(exact))
    return np.asarray(StandardScaler().fit_transform(exact)) if name == "standard" else exact


def _centred(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    return logits - logits.mean(axis=1, keepdims=True)


@pytest.mark.heavy
def test_logistic_is_scikit_learns_optimum(digits: Any, fitted: dict[str, Fitted]) -> None:
    vectors, truth, _, _ = digits
    head = fitted["logistic"].head
    inputs = _input(head.input, vectors)
    theirs = LogisticRegression(C=head.settings["C"], solver="newton-cholesky", tol=1e-10).fit(inputs, truth)
    difference = _centred(head.logits(vectors)) - _centred(theirs.decision_function(inputs))
    assert np.abs(difference).max() < 1e-2
    assert fitted["logistic"].candidates[0].score < 0.2


@pytest.mark.parametrize("apart", [0.3, 1.0])
def test_every_input_has_its_own_optimum(apart: float) -> None:
    """Of raw, unit and standardised vectors whichever is taken, weights are folded so that the vectors go in as are."""
    vectors, truth, classes, folds = data(apart=apart)
    head = fit(vectors, truth, classes, folds, kind="logistic").head
    inputs = _input(head.input, vectors)
    theirs = LogisticRegression(C=head.settings["C"], solver="newton-cholesky", tol=1e-10).fit(inputs, truth)
    assert np.abs(_centred(head.logits(vectors)) - _centred(theirs.decision_function(inputs))).max() < 2e-3
    assert set(head.arrays) == {"weights", "bias"}


def test_ridge_is_the_closed_form(digits: Any, fitted: dict[str, Fitted]) -> None:
    vectors, truth, _, _ = digits
    head = fitted["ridge"].head
    inputs = _input(head.input, vectors)
    strength = head.settings["penalty"] * len(inputs) * inputs.var(axis=0).mean()
    theirs = Ridge(alpha=strength, solver="cholesky").fit(inputs, np.eye(10)[truth])
    assert np.abs(head.logits(vectors) - theirs.predict(inputs)).max() < 1e-8


def test_prototypes_are_the_nearest_means(digits: Any, fitted: dict[str, Fitted]) -> None:
    vectors, truth, _, _ = digits
    head = fitted["prototypes"].head
    inputs = _input(head.input, vectors)
    means = np.stack([inputs[truth == number].mean(axis=0) for number in range(10)])
    assert (head.predict(vectors) == np.square(inputs[:, None] - means).sum(axis=2).argmin(axis=1)).all()


def test_neighbours_are_weighted_by_their_cosines(digits: Any, fitted: dict[str, Fitted]) -> None:
    vectors, truth, _, folds = digits
    found = fitted["knn"]
    unit = _input("unit", vectors).astype(np.float32)
    k, tau, floor = int(found.head.settings["k"]), found.head.settings["tau"], found.head.settings["floor"]
    for row in (0, 100, 899):
        others = np.flatnonzero(folds != folds[row])
        cosines = unit[others] @ unit[row]
        near = np.argsort(-cosines)[:k]
        weights = np.exp(cosines[near].astype(np.float64) / tau)
        shares = np.bincount(truth[others[near]], weights / weights.sum(), 10)
        assert np.allclose(found.out_of_fold[row], np.log(np.maximum(shares, floor)), atol=1e-4)


@pytest.mark.parametrize("kind", LIGHT)
def test_out_of_fold_means_unseen(kind: Any) -> None:
    """Labels that are noise can be learnt by heart but not predicted."""
    generator = np.random.default_rng(3)
    vectors = generator.standard_normal((240, 300)).astype(np.float32)
    truth = generator.integers(0, 2, 240)
    found = fit(vectors, truth, ("a", "b"), fold(truth, np.arange(240), 4), kind=kind)
    assert abs((found.out_of_fold.argmax(axis=1) == truth).mean() - 0.5) < 0.11
    if kind in ("prototypes", "knn"):
        assert (found.head.predict(vectors) == truth).mean() > 0.8
    assert found.candidates[0].score > 0.65


@pytest.mark.parametrize("kind", LIGHT)
def test_the_temperature_makes_the_probabilities_honest(kind: str, digits: Any, fitted: dict[str, Fitted]) -> None:
    _, truth, _, _ = digits
    found = fitted[kind]
    before = ece(truth, probabilities("classification", found.out_of_fold, 1.0))
    after = ece(truth, probabilities("classification", found.out_of_fold, found.head.settings["temperature"]))
    assert after < max(before, 0.035)


def test_auto_tries_all_and_says_what_it_left_out(digits: Any) -> None:
    steps: list[str] = []
    found = fit(*digits, progress=steps.append)
    assert [each.kind for each in found.candidates] == [*LIGHT, "torch-mlp"]
    assert found.candidates[-1].score is None
    assert found.candidates[-1].left_out == f"900 training items; it is tried from {MLP_FROM:,} on"
    scores = {each.kind: each.score for each in found.candidates if each.score is not None}
    # digits are a matter of neighbours; by more than a standard error, as a head that keeps its vectors has to be
    assert found.head.kind == "knn" == min(scores, key=lambda kind: scores[kind])
    assert steps[0] == "prototypes"
    assert steps[-1] == "knn: fit to all 900 items"
    assert set(found.others) == {"prototypes", "ridge", "logistic"}
    ridge = found.others["ridge"]()
    assert ridge.kind == "ridge"
    assert ridge.predict(digits[0]).shape == (900,)


def test_auto_takes_the_simple_head_where_neighbours_are_no_better() -> None:
    found = fit(*data(apart=0.7))
    assert found.head.kind in ("prototypes", "ridge", "logistic")


@pytest.mark.parametrize("kind", LIGHT)
def test_balanced_weights_find_the_rare_class(kind: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from featstore.heads import nearest

    monkeypatch.setattr(nearest, "NEIGHBOURS", (100,))
    generator = np.random.default_rng(5)
    truth = (generator.random(1500) < 0.04).astype(np.int64)
    vectors = (generator.standard_normal((1500, 8)) + truth[:, None] * 0.8).astype(np.float32)
    folds = fold(truth, np.arange(1500), 5)
    plain = fit(vectors, truth, ("no", "yes"), folds, kind=kind).head
    balanced = fit(vectors, truth, ("no", "yes"), folds, kind=kind, weights="balanced").head
    found = [(head.predict(vectors)[truth == 1] == 1).mean() for head in (plain, balanced)]
    if kind == "prototypes":
        assert found[1] >= found[0]  # a mean is one mean, whatever it is of
    else:
        assert found[1] > found[0] + 0.2


@pytest.mark.parametrize("kind", ["prototypes", "ridge", "knn"])
def test_no_label_weighs_in_what_its_own_item_is_predicted_by(kind: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from featstore.heads import nearest, ridge

    for room in (nearest, ridge):
        monkeypatch.setattr(room, "linear_inputs", lambda _: ("raw",))
    monkeypatch.setattr(ridge, "PENALTIES", (0.01,))
    monkeypatch.setattr(nearest, "NEIGHBOURS", (10,))
    monkeypatch.setattr(nearest, "FLOORS", (1e-3,))
    vectors, truth, classes, folds = data(120, apart=0.5)
    other = truth.copy()
    own = np.flatnonzero((folds == 0) & (truth == 2))
    other[own] = 0
    one, two = (
        _centred(fit(vectors, these, classes, folds, kind=kind, weights="balanced").out_of_fold[own])
        for these in (truth, other)
    )
    assert np.abs(one - two).max() < 1e-9


@pytest.mark.heavy
def test_a_fold_of_next_to_nothing_decides_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Large groups can leave a fold with a single item."""
    from featstore.heads import choosing, logistic, ridge

    vectors, truth, classes, _ = data(1500, apart=0.4)
    folds = np.r_[0, 1 + np.arange(1499) % 4]
    even = fit(vectors, truth, classes, np.arange(1500) % 5, kind="logistic")
    monkeypatch.setattr(logistic, "_WHOLE", 0)
    monkeypatch.setattr(logistic, "_SHARE", 1)
    found = fit(vectors, truth, classes, folds, kind="logistic")
    assert found.candidates[0].score < even.candidates[0].score + 0.02
    monkeypatch.setattr(ridge, "_DECOMPOSED", 0)
    monkeypatch.setattr(choosing, "_LOGITS", 0)
    assert fit(vectors, truth, classes, folds, kind="ridge").candidates[0].score < even.candidates[0].score + 0.1


@pytest.mark.heavy
def test_what_is_fitted_later_leaves_no_threads_behind() -> None:
    vectors, truth, classes, folds = data(2600)
    found = fit(vectors, truth, classes, folds)
    for later in found.others.values():
        later()
    assert not [thread.name for thread in threading.enumerate() if thread.name.startswith("heads")]


@pytest.mark.heavy
def test_the_same_bytes_twice_and_on_any_number_of_cores(tmp_path: Path) -> None:
    script = """
import hashlib, numpy as np
from featstore.heads import fit
generator = np.random.default_rng(0)
truth = generator.integers(0, 4, 2400)
vectors = (generator.standard_normal((4, 40))[truth] + generator.standard_normal((2400, 40))).astype(np.float32)
for kind in ("prototypes", "ridge", "logistic", "knn"):
    head = fit(vectors, truth, tuple("abcd"), np.arange(2400) % 4, kind=kind).head
    parts = [head.input, repr(sorted(head.settings.items()))]
    parts += [head.arrays[name].tobytes().hex() for name in sorted(head.arrays)]
    print(hashlib.sha256("".join(parts).encode()).hexdigest())
"""
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    outputs = set()
    for threads in (1, 2):
        some = cores[:threads]
        setup = f"import os\nos.sched_setaffinity(0, {some})\n" if some else ""
        done = subprocess.run(
            [sys.executable, "-c", setup + script],
            capture_output=True,
            text=True,
            check=True,
            env={**os.environ, "OPENBLAS_NUM_THREADS": str(threads), "PYTHONHASHSEED": str(threads)},
        )
        assert len(done.stdout.split()) == 4
        outputs.add(done.stdout)
    assert len(outputs) == 1


def test_vectors_on_a_disk_give_the_same_head(tmp_path: Path, digits: Any) -> None:
    vectors, truth, classes, folds = digits
    np.save(tmp_path / "vectors.npy", vectors)
    mapped = np.load(tmp_path / "vectors.npy", mmap_mode="r")
    for kind in ("ridge", "knn"):
        one, other = (fit(v, truth, classes, folds, kind=kind).head for v in (vectors, mapped))
        assert all(one.arrays[name].tobytes() == other.arrays[name].tobytes() for name in one.arrays)


@pytest.mark.heavy
def test_many_items_are_chosen_on_a_share_and_predicted_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """The ways of large tables, taken by a small one."""
    from featstore.heads import logistic, nearest

    vectors, truth, classes, folds = data(1800, apart=0.5)
    usual = {kind: fit(vectors, truth, classes, folds, kind=kind) for kind in ("logistic", "knn")}
    monkeypatch.setattr(logistic, "_WHOLE", 0)
    monkeypatch.setattr(logistic, "_SHARE", 1)
    monkeypatch.setattr(nearest, "_PAIRS", 0)
    monkeypatch.setattr(nearest, "_ASKED", 500)
    for kind, whole in usual.items():
        found = fit(vectors, truth, classes, folds, kind=kind)
        assert found.out_of_fold.shape == (1800, 3)
        agreed = (found.out_of_fold.argmax(axis=1) == whole.out_of_fold.argmax(axis=1)).mean()
        assert agreed > 0.97
        assert abs(found.candidates[0].score - whole.candidates[0].score) < 0.03


@pytest.mark.heavy
def test_neither_short_nor_long_vectors_are_trouble() -> None:
    generator = np.random.default_rng(1)
    truth = np.arange(80) % 2
    long = generator.standard_normal((80, 1100)).astype(np.float32) + truth[:, None] * 0.3
    folds = fold(truth, np.arange(80), 4)
    for kind in LIGHT:
        found = fit(long.astype(np.float32), truth, ("a", "b"), folds, kind=kind)
        assert (found.out_of_fold.argmax(axis=1) == truth).mean() > 0.8, kind
        one = fit(truth[:, None].astype(np.float32), truth, ("a", "b"), folds, kind=kind)
        assert one.out_of_fold.shape == (80, 2)
    with pytest.raises(UsageError, match="ridge' cannot be fitted here: vectors of 5,000 values"):
        fit(np.ones((80, 5000), np.float32), truth, ("a", "b"), folds, kind="ridge")


@pytest.mark.parametrize("kind", LIGHT)
def test_values_that_never_vary_and_vectors_of_zeros(kind: Any) -> None:
    vectors, truth, classes, folds = data(300)
    vectors[:, 3], vectors[:, 5], vectors[7] = 0.1, 0.0, 0.0
    found = fit(vectors, truth, classes, folds, kind=kind)
    assert np.isfinite(found.out_of_fold).all()
    assert (found.out_of_fold.argmax(axis=1) == truth).mean() > 0.9
    constant = np.full((300, 4), 0.3, np.float32)
    same = fit(constant, truth, classes, folds, kind=kind)
    chances = same.head.probabilities(constant)
    assert np.ptp(chances, axis=0).max() == 0
    assert np.isfinite(chances).all()


@pytest.mark.parametrize("kind", LIGHT)
def test_a_class_of_three_items_and_one_of_none(kind: Any) -> None:
    vectors, truth, _, _ = data(300, c=3, apart=3)
    rare = np.where(truth == 2, 0, truth)
    rare[np.flatnonzero(truth == 2)[:3]] = 2
    keep = (truth != 2) | (rare == 2)
    vectors, rare = vectors[keep], rare[keep]
    folds = np.arange(len(rare)) % 5
    folds[rare == 2] = (0, 0, 1)
    found = fit(vectors, rare, ("a", "b", "few", "none"), folds, kind=kind)
    assert found.out_of_fold.shape == (len(rare), 4)
    assert np.isfinite(found.out_of_fold).all()
    chances = found.head.probabilities(vectors)
    assert chances[:, 3].max() < 0.2
    if kind != "knn":  # of ten neighbours no more than three are of the class
        assert (found.head.predict(vectors[rare == 2]) == 2).all()
    # a fold whose others know nothing of a class
    folds[rare == 2] = 0
    assert np.isfinite(fit(vectors, rare, ("a", "b", "few", "none"), folds, kind=kind).out_of_fold).all()


def test_four_items_are_enough_to_fit() -> None:
    vectors = np.array([[0, 1], [0, 1.1], [1, 0], [1.1, 0]], np.float32)
    for kind in LIGHT:
        found = fit(vectors, np.array([0, 0, 1, 1]), ("a", "b"), np.array([0, 1, 0, 1]), kind=kind)
        assert np.isfinite(found.head.settings["temperature"])
        assert found.head.predict(vectors).tolist() == [0, 0, 1, 1] or kind == "knn"


@pytest.mark.heavy
def test_many_classes_leave_out_what_would_take_too_long() -> None:
    generator = np.random.default_rng(0)
    truth = np.tile(np.arange(1200), 3)
    vectors = (generator.standard_normal((1200, 24))[truth] + 0.3 * generator.standard_normal((3600, 24))).astype(
        np.float32
    )
    monkey = pytest.MonkeyPatch()
    with monkey.context() as patch:
        patch.setattr("featstore.heads.logistic._MANY", 50_000_000)
        patch.setattr("featstore.heads.nearest._TARGETS", 4_000_000)
        patch.setattr("featstore.heads.fitting._MLP_UP_TO", 4_000_000)
        found = fit(vectors, truth, tuple(f"{i:04}" for i in range(1200)), np.repeat(np.arange(3), 1200))
    left_out = {each.kind: each.left_out for each in found.candidates}
    assert left_out["logistic"] == "3,600 items of 24 values and 1,200 classes would take too long"
    assert "too large a head" in str(left_out["knn"])
    assert "would take too long" in str(left_out["torch-mlp"])
    assert (found.out_of_fold.argmax(axis=1) == truth).mean() > 0.9


def test_what_cannot_be_fitted_is_said() -> None:
    vectors, truth, classes, folds = data(60)
    with pytest.raises(UsageError, match="all 60 items are of one class, 'class 1'; a head needs two"):
        fit(vectors, np.ones(60, np.int64), classes, folds)
    with pytest.raises(UsageError, match="in one fold"):
        fit(vectors, truth, classes, np.zeros(60, np.int64))
    with pytest.raises(UsageError, match="do not belong together"):
        fit(vectors[:50], truth, classes, folds)
    with pytest.raises(UsageError, match="class numbers go to 2, but there are 2 classes"):
        fit(vectors, truth, classes[:2], folds)
    with pytest.raises(UsageError, match="no head of kind 'majority'"):
        fit(vectors, truth, classes, folds, kind="majority")
    with pytest.raises(UsageError, match="class weights are 'heavy'"):
        fit(vectors, truth, classes, folds, weights="heavy")
    bad = vectors.copy()
    bad[41, 3] = np.nan
    for kind in ("auto", *LIGHT):
        with pytest.raises(UsageError, match="row 41 holds a value that is not finite"):
            fit(bad, truth, classes, folds, kind=kind)  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", LIGHT)
def test_a_row_has_the_same_bits_whatever_stands_beside_it(kind: str, digits: Any, fitted: dict[str, Fitted]) -> None:
    vectors, head = digits[0], fitted[kind].head
    whole = head.probabilities(vectors)
    order = np.random.default_rng(0).permutation(len(vectors))
    assert head.probabilities(vectors[order]).tobytes() == whole[order].tobytes()
    for row in (0, 255, 256, 899):
        assert head.probabilities(vectors[row : row + 1]).tobytes() == whole[row : row + 1].tobytes()
    assert np.abs(whole.sum(axis=1) - 1).max() < 1e-12
    assert head.probabilities(vectors[:0]).shape == (0, 10)


def test_a_head_takes_what_it_was_fitted_for(fitted: dict[str, Fitted]) -> None:
    head: Head = fitted["ridge"].head
    with pytest.raises(UsageError, match="shape is 2×3; this head takes 64 values each"):
        head.logits(np.zeros((2, 3), np.float32))
    bad = np.zeros((300, 64), np.float32)
    bad[290, 0] = np.inf
    with pytest.raises(UsageError, match="row 290 holds a value that is not finite"):
        head.predict(bad)


@pytest.mark.parametrize("k", [1, 7, 40])
@pytest.mark.parametrize("m", [40, 500, 9000])
def test_the_largest_values_are_those_of_sorting(m: int, k: int) -> None:
    generator = np.random.default_rng(m + k)
    for values in (
        generator.standard_normal((20, m)).astype(np.float32),
        generator.integers(0, 3, (20, m)).astype(np.float32),
        np.zeros((20, m), np.float32),
    ):
        assert (largest(values, k) == np.argsort(-values, axis=1, kind="stable")[:, :k]).all()


def test_vectors_of_one_length_are_not_tried_twice() -> None:
    """Vectors of one length leave the unit input nothing to add: it is not tried."""
    vectors, truth, classes, folds = data(200)
    unit = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    assert fit(unit, truth, classes, folds, kind="logistic").head.input in ("raw", "standard")


@pytest.mark.parametrize("kind", ["logistic", "ridge"])
def test_what_is_only_the_noise_of_a_network_gets_no_weight(kind: str) -> None:
    vectors, truth, classes, folds = data(apart=0.8)
    generator = np.random.default_rng(3)
    wide = (vectors * np.geomspace(0.01, 100, vectors.shape[1])).astype(np.float32)  # standardising is what helps
    noise = (1e-6 * generator.standard_normal(len(wide))).astype(np.float32)  # beside a spread of hundreds
    found = fit(np.column_stack([wide, noise]), truth, classes, folds, kind=kind).head  # type: ignore[arg-type]
    assert found.input == "standard"
    assert not found.arrays["weights"][:, -1].any()
    assert np.allclose(
        found.predict(np.column_stack([wide, 1e6 * noise])), found.predict(np.column_stack([wide, noise]))
    )
