"""Each gate by its effect: what it lets pass, what it refuses, and that it says why."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.datasets import load_digits

from featstore.finetune import probe
from featstore.finetune.examples import Start
from featstore.finetune.frozen import best, renewed, start
from featstore.finetune.gates import forgetting, gain, geometry, latency, parity
from featstore.finetune.gates.forgetting import Task
from featstore.finetune.gates.outcome import told
from featstore.heads import fit
from featstore.records import Estimate

GENERATOR = np.random.default_rng(5)


def _vectors(n: int = 300, d: int = 24) -> NDArray[np.float32]:
    return np.random.default_rng(1).normal(size=(n, d)).astype(np.float32)


# ── gain ──────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("low", "least", "status"),
    [
        (0.01, 0.0, "passed"),
        (0.0, 0.0, "refused"),
        (-0.01, 0.0, "refused"),
        (0.03, 0.05, "refused"),
        (-0.1, -0.2, "passed"),
    ],
)
def test_the_lower_end_must_be_above_the_limit(low: float, least: float, status: str) -> None:
    found = gain.gain(Estimate(value=0.05, low=low, high=0.1), least, items=200)
    assert (found.status, found.value, found.limit) == (status, low, least)
    assert "+0.0500" in (found.note or "")


def test_a_gain_is_paired_by_item_and_drawn_by_group() -> None:
    pixels, truth = load_digits().data.astype(np.float32), load_digits().target.astype(np.int64)
    train, test = np.arange(600), np.arange(600, 1000)
    folds = np.arange(600) % 3
    classes = tuple(str(number) for number in range(10))
    blurred = pixels[:, ::4].copy()
    heads = [fit(x[train], truth[train], classes, folds, kind="ridge").head for x in (blurred, pixels)]
    sides = [(heads[0], blurred[test]), (heads[1], pixels[test])]
    single = gain.gained(truth[test], sides[0], sides[1], test, seed=0)
    assert single.low > 0.05
    assert gain.gained(truth[test], sides[1], sides[0], test, seed=0).value == pytest.approx(-single.value)
    same = gain.gained(truth[test], sides[1], sides[1], test, seed=0)
    assert (same.value, same.low, same.high) == (0, 0, 0)
    grouped = gain.gained(truth[test], sides[0], sides[1], truth[test], seed=0)  # ten groups say less
    assert grouped.value == pytest.approx(single.value)
    assert grouped.high - grouped.low > single.high - single.low


@pytest.mark.heavy
def test_chance_alone_is_hardly_ever_a_gain() -> None:
    passed = 0
    for seed in range(100):
        drawn = np.random.default_rng(seed)
        truth = drawn.integers(0, 2, 200)
        vectors = drawn.normal(size=(2, 400, 8)).astype(np.float32)
        folds = np.arange(200) % 3
        known = drawn.integers(0, 2, 200)
        heads = [fit(x[:200], known, ("a", "b"), folds, kind="prototypes").head for x in vectors]
        found = gain.gained(
            truth, (heads[0], vectors[0][200:]), (heads[1], vectors[1][200:]), np.arange(200), seed=seed
        )
        passed += gain.gain(found, 0.0, items=200).status == "passed"
    assert passed <= 7  # 2.5 in a hundred are expected


# ── forgetting ────────────────────────────────────────────────────────────────────────────


def _task(kind: str = "logistic", n: int = 500) -> tuple[Task, NDArray[np.float32]]:
    found = load_digits()
    fold = np.arange(n) % 4
    task = Task(
        name="digits", task="classification", kind=kind, weights=None, classes=tuple(map(str, range(10))),  # type: ignore[arg-type]
        truth=found.target[:n].astype(np.int64), fold=np.where(fold == 3, -1, fold), groups=np.arange(n), seed=0,
    )  # fmt: skip
    return task, found.data[:n].astype(np.float32)


@pytest.mark.heavy
def test_a_head_that_loses_what_it_knew_refuses() -> None:
    task, pixels = _task()
    turned = pixels @ np.linalg.qr(GENERATOR.normal(size=(64, 64)))[0].astype(np.float32)
    same = forgetting.head(task, pixels, turned, lambda _: None)
    assert forgetting.judged(same, 0.01).status == "passed"
    assert (same.kind, same.items) == ("head", 125)
    flat = (pixels @ GENERATOR.normal(size=(64, 3))).astype(np.float32)
    lost = forgetting.head(task, pixels, flat, lambda _: None)
    assert lost.before - lost.after == pytest.approx(-lost.difference.value)
    refused = forgetting.judged(lost, 0.01)
    assert (refused.status, refused.gate) == ("refused", "forgetting.digits")
    assert refused.value == pytest.approx(lost.before - lost.after)
    assert "on 125 items" in told(refused)
    assert forgetting.judged(lost, 1.0).status == "passed"


def test_heads_of_numbers_and_of_several_labels_count_too() -> None:
    pixels = load_digits().data[:400].astype(np.float32)
    fold = np.where(np.arange(400) % 4 == 3, -1, np.arange(400) % 4)
    noise = np.random.default_rng(0).normal(size=(400, 8)).astype(np.float32)
    number = pixels @ np.random.default_rng(1).normal(size=64)
    digit = load_digits().target[:400]
    several = np.column_stack([digit % 2 == 0, digit > 4])
    for kind, truth, classes in (("regression", number, ()), ("multilabel", several, ("even", "high"))):
        task = Task(
            name=kind, task=kind, kind="ridge", weights=None, classes=classes, truth=truth, fold=fold,  # type: ignore[arg-type]
            groups=np.arange(400), seed=0,
        )  # fmt: skip
        assert forgetting.judged(forgetting.head(task, pixels, pixels, lambda _: None), 0.0).status == "passed"
        assert forgetting.judged(forgetting.head(task, pixels, noise, lambda _: None), 0.01).status == "refused"


@pytest.mark.heavy
def test_neutral_items_are_there_for_both_kinds_and_a_probe_learns_them() -> None:
    for modality in ("image", "text"):
        found = probe.neutral(modality)
        assert 800 <= len(found.truth) <= 2_000
        assert len(np.unique(found.truth)) >= 10
        first = found.read(0)
        assert first == found.read(0)
        assert isinstance(first, bytes if modality == "image" else str)
    digits = probe.neutral("image")
    pixels = load_digits().data[: len(digits.truth)].astype(np.float32)
    knows = probe.right(pixels, digits.truth)
    assert knows.mean() > 0.85
    guesses = probe.right(np.random.default_rng(0).normal(size=(len(pixels), 8)).astype(np.float32), digits.truth)
    lost = forgetting.probe("digits", knows, guesses, seed=0)
    assert forgetting.judged(lost, 0.01).status == "refused"
    assert forgetting.judged(forgetting.probe("digits", guesses, knows, seed=0), 0.01).status == "passed"


def test_a_head_that_cannot_be_measured_is_named_and_refuses_nothing() -> None:
    found = forgetting.unknown("animals", 0.01, "its labels are gone")
    assert (found.gate, found.status, found.note) == ("forgetting.animals", "not judged", "its labels are gone")


# ── geometry ──────────────────────────────────────────────────────────────────────────────


def test_the_effective_rank_counts_directions() -> None:
    assert geometry.effective_rank(np.eye(7, dtype=np.float32)) == pytest.approx(7)
    line = np.outer(np.arange(1, 20), np.ones(5)).astype(np.float32)
    assert geometry.effective_rank(line) == pytest.approx(1, abs=1e-3)
    assert geometry.effective_rank(np.zeros((4, 3), np.float32)) == 0


def test_values_of_another_model_are_counted_and_not_compared() -> None:
    before, other = _vectors(), _vectors()
    before[:, 3] = other[:, 5] = 0
    assert geometry.dead(before, other, same=False).status == "passed"
    assert geometry.dead(before, other, same=True).status == "refused"


def test_collapsed_vectors_are_refused_and_turned_ones_are_not() -> None:
    before = _vectors()
    turned = before @ np.linalg.qr(GENERATOR.normal(size=(24, 24)))[0].astype(np.float32)
    assert geometry.rank(before, turned, 0.2).status == "passed"
    flat = before.copy()
    flat[:, 6:] *= 0.01
    refused = geometry.rank(before, flat, 0.2)
    assert refused.status == "refused"
    assert refused.value is not None
    assert refused.value > 0.5


def test_a_value_that_has_stopped_varying_is_refused() -> None:
    before = _vectors()
    before[:, 3] = 0  # it never varied
    after = before.copy()
    assert geometry.dead(before, after, same=True).status == "passed"
    after[:, 5] = 0.25
    found = geometry.dead(before, after, same=True)
    assert (found.status, found.value) == ("refused", 1.0)
    other = np.concatenate([_vectors(300, 30), np.zeros((300, 1), np.float32)], axis=1)
    assert geometry.dead(before, other, same=False).status == "passed"  # another model: as many stand still as before


def test_an_item_without_a_vector_is_refused() -> None:
    assert geometry.sound(0, 10).status == "passed"
    found = geometry.sound(2, 10, "the model gave NaN")
    assert found.status == "refused"
    assert "2 of 10 items have no vector: the model gave NaN" in told(found)


# ── parity ────────────────────────────────────────────────────────────────────────────────


def test_a_graph_that_is_not_the_network_is_refused() -> None:
    vectors = _vectors()
    head = Start(weight=GENERATOR.normal(size=(4, 24)).astype(np.float32), bias=np.zeros(4, np.float32))
    near = vectors * (1 + 1e-6)
    assert parity.cosine(vectors, near).status == parity.agreement(head, vectors, near).status == "passed"
    one_off = vectors.copy()
    one_off[7] = -one_off[7]
    assert parity.cosine(vectors, one_off).status == "refused"
    found = parity.agreement(head, vectors, one_off)
    assert found.status == "refused"
    assert found.value == pytest.approx(299 / 300)
    broken = parity.cosine(vectors, np.full_like(vectors, np.nan))
    assert broken.status == "refused"


def test_the_start_says_what_the_fitted_head_says() -> None:
    pixels, truth = load_digits().data[:300].astype(np.float32), load_digits().target[:300].astype(np.int64)
    classes, folds = tuple(map(str, range(10))), np.arange(300) % 3
    head = fit(pixels, truth, classes, folds, kind="logistic").head
    begun = start(pixels, truth, classes, folds, np.arange(300), weights=None, seed=0)
    said = parity.logits(begun, pixels)
    chances = np.exp(said - said.max(axis=1, keepdims=True))
    chances /= chances.sum(axis=1, keepdims=True)
    assert np.allclose(chances, head.probabilities(pixels), atol=1e-3)


def test_what_a_network_has_learned_from_does_not_flatter_a_head_on_its_vectors() -> None:
    pixels, truth = load_digits().data[:600].astype(np.float32), load_digits().target[:600].astype(np.int64)
    validated, folds = np.arange(600) % 3 == 0, np.arange(600) % 3
    vectors = pixels.copy()
    vectors[~validated, :10] += 60 * np.eye(10, dtype=np.float32)[truth[~validated]]
    rest = {"weights": None, "seed": 0, "progress": lambda _: None}
    classes = tuple(map(str, range(10)))
    fooled = best(vectors, truth, classes, folds, np.arange(600), **rest)
    wary = renewed(vectors, truth, classes, folds, np.arange(600), validated, **rest)
    assert (fooled.items, wary.items) == (600, 200)
    assert wary.unseen["accuracy"].value < fooled.unseen["accuracy"].value - 0.1


# ── latency ───────────────────────────────────────────────────────────────────────────────


@dataclass
class _Slow:
    """An encoder that takes its time."""

    seconds: float
    calls: int = 0

    def encode(self, read: object, count: int, observer: object) -> None:
        self.calls += 1
        time.sleep(self.seconds * count)


def test_a_slower_model_is_refused_after_it_was_timed_three_times() -> None:
    old, slow, same = _Slow(2e-4), _Slow(8e-4), _Slow(2e-4)
    found = latency.latency(old, slow, lambda at: b"", 10, 2.0)  # type: ignore[arg-type]
    assert found.status == "refused"
    assert found.value is not None
    assert 2.5 < found.value < 6
    assert slow.calls == 1 + 3 * 5
    assert latency.latency(old, same, lambda at: b"", 10, 2.0).status == "passed"  # type: ignore[arg-type]
    assert same.calls < slow.calls
