"""Heads that predict numbers, and their figures."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import spearmanr
from sklearn.datasets import load_diabetes
from sklearn.linear_model import RidgeCV
from sklearn.metrics import mean_absolute_error, r2_score, root_mean_squared_error
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from featstore.errors import FeatstoreError, SettingsError, UsageError
from featstore.heads.fitting import fit
from featstore.heads.metrics import figures, paired
from featstore.heads.metrics_regression import regression
from featstore.heads.regression import calibrate, intervals
from tests.head_world import weighted

KINDS = ("ridge", "knn")


def test_the_figures_are_those_of_scikit_learn_and_scipy():
    generator = np.random.default_rng(0)
    truth = np.round(generator.normal(5, 2, 300), 1)  # with ties
    values = np.round(truth + generator.normal(0, 1, 300), 1)
    found = weighted(regression(truth, values), np.ones(300))
    assert found["mae"] == pytest.approx(mean_absolute_error(truth, values), abs=1e-12)
    assert found["rmse"] == pytest.approx(root_mean_squared_error(truth, values), abs=1e-12)
    assert found["r2"] == pytest.approx(r2_score(truth, values), abs=1e-12)
    assert found["spearman"] == pytest.approx(spearmanr(truth, values).statistic, abs=1e-12)


def test_weights_count_items_as_often_as_they_say():
    generator = np.random.default_rng(1)
    truth, values = generator.normal(size=80), np.round(generator.normal(size=80), 1)
    weights = generator.integers(0, 4, 80)
    repeated = regression(np.repeat(truth, weights), np.repeat(values, weights))
    expected = weighted(repeated, np.ones(int(weights.sum())))
    assert weighted(regression(truth, values), weights.astype(float)) == pytest.approx(expected, abs=1e-12)


def test_large_numbers_that_lie_close_together():
    truth = 1e9 + np.random.default_rng(0).normal(size=200)
    values = truth + np.random.default_rng(1).normal(size=200) * 0.1
    found = weighted(regression(truth, values), np.ones(200))
    assert found["r2"] == pytest.approx(r2_score(truth - 1e9, values - 1e9), abs=1e-6)


def test_where_nothing_varies_nothing_is_explained():
    flat, some = np.full(10, 0.1), np.arange(10.0)
    assert weighted(regression(flat, some), np.ones(10))["r2"] == 0
    assert weighted(regression(flat, some), np.ones(10))["spearman"] == 0
    assert weighted(regression(some, flat), np.ones(10))["spearman"] == 0


def test_intervals_hold_the_figures_and_pairs_their_difference():
    generator = np.random.default_rng(2)
    truth = generator.normal(size=300)
    near, far = (truth + generator.normal(0, spread, 300) for spread in (0.5, 0.6))
    groups = np.arange(300) // 3
    for estimate in figures("regression", truth, near[:, None], groups, draws=200).values():
        assert estimate.low < estimate.value < estimate.high
    found = paired("regression", truth, far, near, groups, draws=400)
    assert found["rmse"].high < 0 < found["r2"].low


@pytest.fixture(scope="module")
def diabetes():
    data = load_diabetes()
    return data.data.astype(np.float32), data.target.astype(np.float64), np.arange(len(data.target)) % 3 > 0


def test_ridge_is_as_good_as_scikit_learns(diabetes):
    vectors, truth, known = diabetes
    found = fit(vectors[known], truth[known], (), np.arange(known.sum()) % 5, task="regression", kind="ridge")
    peer = make_pipeline(StandardScaler(), RidgeCV(np.logspace(-3, 4, 30))).fit(vectors[known], truth[known])
    ours = r2_score(truth[~known], found.head.predict(vectors[~known]))
    assert ours > r2_score(truth[~known], peer.predict(vectors[~known])) - 0.01
    # What is predicted out of fold is about as good as what is predicted of new items.
    outside = r2_score(truth[known], found.out_of_fold[:, 0])
    assert 0.3 < outside < ours + 0.1


def test_ridge_is_the_closed_form():
    generator = np.random.default_rng(0)
    vectors = generator.normal(size=(50, 4)).astype(np.float32)
    truth = vectors @ np.array([1.0, -2.0, 0.5, 0.0]) + 3 + generator.normal(size=50) * 0.1
    head = fit(vectors, truth, (), np.arange(50) % 5, task="regression", kind="ridge").head
    exact = vectors.astype(np.float64)
    centred = exact - exact.mean(axis=0)
    if head.input == "standard":
        centred = centred / centred.std(axis=0)
    matrix = centred.T @ centred
    matrix += head.settings["penalty"] * matrix.trace() / 4 * np.eye(4)
    expected = centred @ np.linalg.solve(matrix, centred.T @ truth) + truth.mean()
    assert head.input != "unit"
    assert np.allclose(head.predict(vectors), expected, atol=1e-8)


def test_neighbours_follow_what_no_line_does():
    generator = np.random.default_rng(0)
    angle = generator.random(1_500) * 2 * np.pi
    vectors = np.column_stack([np.cos(angle), np.sin(angle)]).astype(np.float32)
    truth = np.sin(5 * angle)
    found = fit(vectors, truth, (), np.arange(1_500) % 5, task="regression")
    assert {each.kind for each in found.candidates if each.score is not None} == set(KINDS)
    assert found.head.kind == "knn"
    assert r2_score(truth, found.out_of_fold[:, 0]) > 0.5
    one = found.head.predict(np.array([[2.0, 0.0]], np.float32))
    assert one[0] == pytest.approx(0.0, abs=0.3)


@pytest.mark.parametrize("kind", KINDS)
def test_large_numbers_constant_values_and_few_items(kind):
    generator = np.random.default_rng(0)
    vectors = np.column_stack([generator.normal(size=(12, 30)), np.full(12, 5.0)]).astype(np.float32)
    truth = 1e9 + generator.normal(size=12)
    head = fit(vectors, truth, (), np.arange(12) % 3, task="regression", kind=kind).head
    assert np.abs(head.predict(vectors) - 1e9).max() < 5


def test_what_cannot_be_learnt_is_said():
    vectors, folds = np.ones((6, 2), np.float32), np.arange(6) % 2
    with pytest.raises(UsageError, match="row 2 is not finite"):
        fit(vectors, np.array([1, 2, np.nan, 4, 5, 6]), (), folds, task="regression")
    with pytest.raises(UsageError, match="nothing to learn"):
        fit(vectors, np.full(6, 3.5), (), folds, task="regression")
    with pytest.raises(UsageError, match="no head of kind 'logistic' for regression"):
        fit(vectors, np.arange(6.0), (), folds, task="regression", kind="logistic")


def test_numbers_have_no_classes_to_weigh(diabetes):
    vectors, truth = diabetes[:2]
    with pytest.raises(UsageError, match="numbers have no classes to weigh"):
        fit(vectors, truth, (), np.arange(len(truth)) % 5, task="regression", kind="ridge", weights="balanced")


def test_a_head_of_numbers_has_no_probabilities(diabetes):
    vectors, truth, _ = diabetes
    head = fit(vectors, truth, (), np.arange(len(truth)) % 5, task="regression", kind="ridge").head
    with pytest.raises(FeatstoreError, match="no probabilities"):
        head.probabilities(vectors)


def test_intervals_hold_the_truth_as_often_as_asked():
    generator = np.random.default_rng(0)
    inside = []
    for _ in range(40):
        vectors = generator.normal(size=(700, 6)).astype(np.float32)
        truth = vectors.sum(axis=1) + generator.standard_t(3, size=700)
        found = fit(vectors[:200], truth[:200], (), np.arange(200) % 5, task="regression", kind="ridge")
        bounds = calibrate(found.out_of_fold, truth[:200], np.arange(200))
        low, high = intervals(found.head.predict(vectors[200:]), bounds, 0.9).T
        inside.append(((low <= truth[200:]) & (truth[200:] <= high)).mean())
    assert np.mean(inside) == pytest.approx(0.9, abs=0.015)


def test_few_groups_promise_only_what_they_can():
    values, truth = np.zeros(40), np.arange(40.0)
    bounds = calibrate(values, truth, np.arange(40) // 10)  # 4 groups
    assert max(bounds.levels) == 0.8
    assert bounds.scores[-1] == 39
    with pytest.raises(SettingsError, match=r"coverage is 0.9; 40 items allow 0.5 to 0.8"):
        intervals(values, bounds, 0.9)
    with pytest.raises(UsageError, match="no items"):
        calibrate(np.zeros(0), np.zeros(0), np.zeros(0, np.int64))
