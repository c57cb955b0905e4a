"""Heads for items that have several labels, and their figures."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score, f1_score, log_loss
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from featstore.heads.fitting import fit
from featstore.heads.metrics import figures, paired
from featstore.heads.metrics_multilabel import average_precision, best_thresholds, label_figures, multilabel
from featstore.heads.multilabel import thresholds
from tests.head_world import weighted

KINDS = ("prototypes", "ridge", "logistic", "knn")
NAMES = ("even", "prime", "large", "loop", "one")


def _labels(n=400, classes=6, seed=0):
    """Truth, and probabilities that know something of it; many are equal."""
    generator = np.random.default_rng(seed)
    truth = generator.random((n, classes)) < np.linspace(0.05, 0.6, classes)
    scores = np.clip(np.round(0.3 * truth + generator.random((n, classes)) * 0.7, 2), 0.01, 0.99)
    return truth, scores


def test_the_figures_are_scikit_learns():
    truth, scores = _labels()
    found = weighted(multilabel(truth, scores), np.ones(len(truth)))
    given = scores >= 0.5
    assert found["mAP"] == pytest.approx(average_precision_score(truth, scores, average="macro"), abs=1e-12)
    assert found["micro_f1"] == pytest.approx(f1_score(truth, given, average="micro"), abs=1e-12)
    assert found["macro_f1"] == pytest.approx(f1_score(truth, given, average="macro"), abs=1e-12)
    by_label = [log_loss(truth[:, label], scores[:, label]) for label in range(truth.shape[1])]
    assert found["log_loss"] == pytest.approx(np.mean(by_label), abs=1e-12)


def test_weights_count_items_as_often_as_they_say():
    """What the bootstrap leans on: a weight of 3 is the item three times."""
    truth, scores = _labels(120)
    weights = np.random.default_rng(1).integers(0, 4, len(truth))
    repeated = multilabel(np.repeat(truth, weights, axis=0), np.repeat(scores, weights, axis=0))
    expected = weighted(repeated, np.ones(int(weights.sum())))
    assert weighted(multilabel(truth, scores), weights.astype(float)) == pytest.approx(expected, abs=1e-12)


def test_a_label_that_nobody_has_changes_no_mean():
    truth, scores = _labels()
    more = np.column_stack([truth, np.zeros(len(truth), bool)])
    likely = np.column_stack([scores, np.full(len(truth), 0.01)])
    without, with_it = (weighted(multilabel(t, s), np.ones(len(t))) for t, s in ((truth, scores), (more, likely)))
    assert with_it["mAP"] == without["mAP"]
    assert with_it["macro_f1"] == without["macro_f1"]
    assert np.isnan(average_precision(more, likely)[-1])
    assert np.isnan(label_figures(more, likely)["recall"][-1])


def test_calibration_error_is_none_where_probabilities_are_true():
    generator = np.random.default_rng(0)
    chances = generator.random((20_000, 3))
    truth = generator.random(chances.shape) < chances
    right, wrong = (weighted(multilabel(truth, p), np.ones(len(truth)))["ece"] for p in (chances, chances**3))
    assert right < 0.01 < 0.1 < wrong


def test_thresholds_make_the_best_f1_and_rare_labels_keep_a_half():
    truth, scores = _labels(600)
    truth[:, 0] = False
    truth[:4, 0] = True
    truth[:, 1] = True
    found = best_thresholds(truth, scores)
    assert found[0] == found[1] == 0.5
    for label in range(2, truth.shape[1]):
        tried = [f1_score(truth[:, label], scores[:, label] >= at) for at in np.linspace(0, 1, 201)]
        reached = f1_score(truth[:, label], scores[:, label] >= found[label])
        assert reached == pytest.approx(max(tried), abs=1e-12)


def test_intervals_hold_the_figures_and_pairs_their_difference():
    truth, scores = _labels()
    groups = np.arange(len(truth)) // 2
    worse = np.clip(scores + np.random.default_rng(3).normal(0, 0.3, scores.shape), 0, 1)
    found = figures("multilabel", truth, scores, groups, draws=200)
    for estimate in found.values():
        assert estimate.low <= estimate.value <= estimate.high
        assert estimate.high - estimate.low > 0
    difference = paired("multilabel", truth, worse, scores, groups, draws=200)["mAP"]
    assert difference.low > 0


@pytest.fixture(scope="module")
def digits():
    """Pictures of digits, what is true of each digit, and which of them to learn from."""
    data = load_digits()
    digit = data.target
    truth = [digit % 2 == 0, np.isin(digit, [2, 3, 5, 7]), digit > 4, np.isin(digit, [0, 6, 8, 9]), digit == 1]
    return data.data.astype(np.float32), np.column_stack(truth), np.arange(len(digit)) % 3 > 0


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_gives_calibrated_labels(digits, kind):
    vectors, truth, known = digits
    folds = np.arange(known.sum()) % 5
    found = fit(vectors[known], truth[known], NAMES, folds, task="multilabel", kind=kind)
    chances = found.head.probabilities(vectors[~known])
    reached = figures("multilabel", truth[~known], chances, np.arange(len(chances)), draws=1)
    assert reached["mAP"].value > 0.85
    assert reached["ece"].value < 0.03
    # What was found out of fold is what new items get, thresholds included.
    own = figures("multilabel", truth[known], 1 / (1 + np.exp(-found.out_of_fold)), folds, draws=1)
    assert own["log_loss"].value == pytest.approx(reached["log_loss"].value, abs=0.05)
    bounds = found.head.arrays["thresholds"]
    assert (found.head.predict(vectors[~known]) == (chances >= bounds)).all()
    expected = thresholds(1 / (1 + np.exp(-found.out_of_fold / found.head.settings["temperature"])), truth[known])
    assert np.allclose(bounds, expected, atol=1e-12)


@pytest.mark.heavy
def test_the_logistic_head_is_as_good_as_scikit_learns(digits):
    vectors, truth, known = digits
    head = fit(vectors[known], truth[known], NAMES, np.arange(known.sum()) % 5, task="multilabel", kind="logistic").head
    peer = make_pipeline(StandardScaler(), OneVsRestClassifier(LogisticRegression(C=1.0, max_iter=1000)))
    peer.fit(vectors[known], truth[known])
    ours, theirs = (
        average_precision_score(truth[~known], scores, average="macro")
        for scores in (head.probabilities(vectors[~known]), peer.predict_proba(vectors[~known]))
    )
    assert ours > theirs - 0.01


@pytest.mark.parametrize("weights", [None, "balanced"])
@pytest.mark.heavy
def test_all_kinds_are_tried_and_the_best_is_kept(digits, weights):
    vectors, truth, known = digits
    found = fit(
        vectors[known], truth[known], NAMES, np.arange(known.sum()) % 5, task="multilabel", weights=weights
    )  # fmt: skip
    scores = {each.kind: each.score for each in found.candidates if each.score is not None}
    assert set(scores) == set(KINDS)
    assert scores[found.head.kind] == min(scores.values())


@pytest.mark.heavy
def test_the_other_kinds_have_thresholds_of_their_own(digits):
    vectors, truth, known = digits
    given = (vectors[known], truth[known], NAMES, np.arange(known.sum()) % 5)
    found = fit(*given, task="multilabel")
    for kind, later in found.others.items():
        alone = fit(*given, task="multilabel", kind=kind).head
        assert later().arrays["thresholds"] == pytest.approx(alone.arrays["thresholds"]), kind


@pytest.mark.parametrize("kind", KINDS)
def test_labels_that_nobody_everybody_or_hardly_anybody_has(kind):
    generator = np.random.default_rng(0)
    vectors = generator.normal(size=(60, 5)).astype(np.float32)
    rare = np.arange(60) < 3
    truth = np.column_stack([vectors[:, 0] > 0, np.zeros(60, bool), np.ones(60, bool), rare])
    head = fit(vectors, truth, ("some", "none", "all", "rare"), np.arange(60) % 5, task="multilabel", kind=kind).head
    chances = head.probabilities(vectors)
    assert np.isfinite(chances).all()
    assert chances[:, 1].max() < 0.5 < chances[:, 2].min()
    assert (head.arrays["thresholds"][1:] == 0.5).all()


@pytest.mark.parametrize("kind", KINDS)
def test_constant_and_more_values_than_items(kind):
    generator = np.random.default_rng(0)
    vectors = np.column_stack([generator.normal(size=(40, 90)), np.full((40, 10), 7.0)]).astype(np.float32)
    truth = np.column_stack([vectors[:, 0] > 0, vectors[:, 1] > 0])
    head = fit(vectors, truth, ("a", "b"), np.arange(40) % 4, task="multilabel", kind=kind).head
    assert np.isfinite(head.probabilities(vectors)).all()


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_twice(digits, kind):
    vectors, truth, known = digits
    folds = np.arange(known.sum()) % 5
    first, second = (
        fit(vectors[known], truth[known], NAMES, folds, task="multilabel", kind=kind).head for _ in range(2)
    )
    for name, array in first.arrays.items():
        assert array.tobytes() == second.arrays[name].tobytes(), name
