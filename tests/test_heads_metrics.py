"""Figures and their intervals, calibration, sets that cover: beside scikit-learn and beside what is known by design."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.metrics import accuracy_score, balanced_accuracy_score, f1_score, log_loss

from featstore.errors import SettingsError, UsageError
from featstore.heads import (
    abstains,
    bootstrap,
    calibrate,
    ece,
    figures,
    judged,
    mean_of,
    paired,
    probabilities,
    reliability,
    sets,
    temperature,
)
from featstore.heads import metrics as metrics_module
from featstore.records import HeadTask


def drawn(n: int, c: int, *, sure: float = 1.0, seed: int = 0) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Logits and truths drawn by their own probabilities: perfectly calibrated at temperature 1."""
    generator = np.random.default_rng(seed)
    logits = sure * generator.standard_normal((n, c))
    chances = probabilities("classification", logits, 1.0)
    return (chances.cumsum(axis=1) < generator.random((n, 1))).sum(axis=1).clip(0, c - 1), logits


@pytest.mark.parametrize("dense", [True, False])
def test_the_figures_are_scikit_learns(dense: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not dense:
        monkeypatch.setattr(metrics_module, "_DENSE", 0)
    truth, logits = drawn(800, 5, sure=1.5)
    chances = probabilities("classification", logits, 1.0)
    guess = chances.argmax(axis=1)
    found = figures("classification", truth, chances, np.arange(800) // 2)
    assert found["accuracy"].value == pytest.approx(accuracy_score(truth, guess))
    assert found["balanced_accuracy"].value == pytest.approx(balanced_accuracy_score(truth, guess))
    assert found["macro_f1"].value == pytest.approx(f1_score(truth, guess, average="macro"))
    assert found["log_loss"].value == pytest.approx(log_loss(truth, chances))
    assert found["ece"].value == pytest.approx(ece(truth, chances))
    assert all(each.low <= each.value <= each.high for each in found.values())


def test_ways_of_few_and_of_many_classes_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    truth, logits = drawn(500, 6)
    chances = probabilities("classification", logits, 1.0)
    groups = np.random.default_rng(1).integers(0, 90, 500)
    one = figures("classification", truth, chances, groups, draws=200)
    monkeypatch.setattr(metrics_module, "_DENSE", 0)
    other = figures("classification", truth, chances, groups, draws=200)
    for name, found in one.items():
        assert (found.value, found.low, found.high) == pytest.approx(
            (other[name].value, other[name].low, other[name].high), abs=1e-12
        )


@pytest.mark.parametrize("task", ["classification", "multilabel", "regression"])
def test_an_interval_is_that_of_one_draw_after_the_other(task: HeadTask, monkeypatch: pytest.MonkeyPatch) -> None:
    """Draws are worked on together, however many fit; whole groups are drawn."""
    truth, logits = drawn(240, 5)
    groups = np.random.default_rng(1).integers(0, 70, 240)
    given, said = {
        "classification": (truth, probabilities("classification", logits, 1.0)),
        "multilabel": (logits > 0.5, np.round(probabilities("multilabel", logits - 1, 1.0), 1)),
        "regression": (np.round(logits[:, 0], 1), np.round(logits[:, 0] + logits[:, 1], 1)),
    }[task]
    together = figures(task, given, said, groups, draws=60)
    monkeypatch.setattr(bootstrap, "_DRAWN", 1)
    one_by_one = figures(task, given, said, groups, draws=60)
    _, at = np.unique(groups, return_inverse=True)
    generator = np.random.Generator(np.random.PCG64(0))
    by_hand: dict[str, list[float]] = {}
    for _ in range(60):
        rows = np.concatenate(
            [np.flatnonzero(at == group) for group in generator.integers(0, at.max() + 1, at.max() + 1)]
        )
        for name, each in figures(task, given[rows], said[rows], rows, draws=1).items():
            by_hand.setdefault(name, []).append(each.value)
    for name, found in together.items():
        expected = (found.value, *np.quantile(by_hand[name], [0.025, 0.975]))
        assert (found.value, found.low, found.high) == pytest.approx(expected, abs=1e-12)
        other = one_by_one[name]
        assert (found.value, found.low, found.high) == pytest.approx((other.value, other.low, other.high), abs=1e-12)


def test_classes_that_are_not_there_do_not_count() -> None:
    truth = np.array([0, 0, 3, 3])
    chances = np.eye(9)[[0, 0, 3, 5]]
    found = figures("classification", truth, chances, np.arange(4), draws=50)
    assert found["balanced_accuracy"].value == 0.75
    assert found["macro_f1"].value == pytest.approx((1 + 2 / 3 + 0) / 3)
    assert np.isfinite(found["log_loss"].value)


def test_the_interval_is_that_of_the_mean_and_wider_by_groups() -> None:
    generator = np.random.default_rng(0)
    right = generator.random(2000) < 0.8
    alone = mean_of(right, np.arange(2000))
    assert alone.value == right.mean()
    assert (alone.high - alone.low) / 2 == pytest.approx(1.96 * np.sqrt(0.16 / 2000), rel=0.12)
    in_pairs = mean_of(np.repeat(right[:1000], 2), np.repeat(np.arange(1000), 2))
    assert in_pairs.high - in_pairs.low == pytest.approx((alone.high - alone.low) * np.sqrt(2), rel=0.15)


@pytest.mark.parametrize("seed", range(3))
def test_intervals_hold_the_truth_as_often_as_they_say(seed: int) -> None:
    held = 0
    for trial in range(100):
        values = np.random.default_rng(1000 * seed + trial).random(300) < 0.7
        found = mean_of(values, np.arange(300), draws=200, seed=trial)
        held += found.low <= 0.7 <= found.high
    assert 86 <= held <= 100


def test_a_difference_is_paired() -> None:
    truth, logits = drawn(1500, 4, sure=3)
    a = probabilities("classification", logits, 1.0)
    worse = logits.copy()
    worse[:30] = -worse[:30]
    b = probabilities("classification", worse, 1.0)
    groups = np.arange(1500)
    found = paired("classification", truth, a, b, groups)
    single = [figures("classification", truth, each, groups)["accuracy"] for each in (a, b)]
    assert found["accuracy"].value == pytest.approx(single[1].value - single[0].value)
    assert found["accuracy"].high < 0
    assert found["accuracy"].high - found["accuracy"].low < 0.5 * (single[0].high - single[0].low)
    same = paired("classification", truth, a, a, groups)
    assert all((each.value, each.low, each.high) == (0, 0, 0) for each in same.values())


def test_a_reliability_diagram_counts_every_item() -> None:
    truth, logits = drawn(4000, 3, sure=2)
    chances = probabilities("classification", logits, 1.0)
    found = reliability(truth, chances)
    assert found.shape == (15, 3)
    assert found[:, 0].sum() == 4000
    full = found[:, 0] > 100
    assert np.abs(found[full, 1] - found[full, 2]).max() < 0.12
    assert ece(truth, chances) < 0.03
    assert ece(truth, probabilities("classification", logits, 0.3)) > 0.1


@pytest.mark.parametrize("true", [0.2, 1.0, 8.0])
def test_the_temperature_is_found(true: float) -> None:
    truth, logits = drawn(20_000, 4)
    assert temperature("classification", logits * true, truth) == pytest.approx(true, rel=0.06)
    labels = np.random.default_rng(1).random(logits.shape) < 1 / (1 + np.exp(-logits))
    assert temperature("multilabel", logits * true, labels) == pytest.approx(true, rel=0.06)


def test_the_temperature_stays_sound_where_all_is_right_or_wrong() -> None:
    truth = np.arange(60) % 3
    perfect = np.eye(3)[truth]
    found = temperature("classification", perfect, truth)
    chances = probabilities("classification", perfect, found)
    assert 0.95 < chances[0, 0] < 1 - 1e-4
    wrong = probabilities("classification", -perfect, temperature("classification", -perfect, truth))
    assert np.isfinite(wrong).all()
    assert wrong.max() < 0.4
    assert temperature("classification", np.zeros((60, 3)), truth) == 1.0
    assert temperature("regression", np.zeros((60, 1)), truth) == 1.0


def test_sets_cover_as_often_as_asked() -> None:
    for seed in range(5):
        truth, logits = drawn(4000, 6, sure=2, seed=seed)
        chances = probabilities("classification", logits, 0.5)  # overconfident: the bounds do not mind
        bounds = calibrate(chances[:2000], truth[:2000], np.arange(2000))
        for coverage in (0.8, 0.9, 0.95):
            members = sets(chances[2000:], bounds, coverage)
            assert abs(members[np.arange(2000), truth[2000:]].mean() - coverage) < 0.03
        told = judged(bounds, chances[2000:], truth[2000:], np.arange(2000))
        assert told.coverage is not None
        assert told.coverage.value == pytest.approx(0.9, abs=0.03)
        assert told.set_size == pytest.approx(sets(chances[2000:], bounds, 0.9).sum(axis=1).mean())


def test_sets_grow_with_the_coverage_and_abstain_unless_one() -> None:
    truth, logits = drawn(600, 4, sure=2)
    chances = probabilities("classification", logits, 1.0)
    bounds = calibrate(chances, truth, np.arange(600))
    sizes = [sets(chances, bounds, coverage).sum(axis=1) for coverage in (0.5, 0.8, 0.9, 0.99)]
    assert all((small <= large).all() for small, large in itertools.pairwise(sizes))
    assert (abstains(sets(chances, bounds, 0.9)) == (sizes[2] != 1)).all()
    between = sets(chances, bounds, 0.895)
    assert (between == sets(chances, bounds, 0.9)).all()


def test_few_groups_are_not_trusted_with_much() -> None:
    """Ten groups cannot bound 99 %: the set is every class."""
    truth, logits = drawn(500, 4, sure=3)
    chances = probabilities("classification", logits, 1.0)
    few = calibrate(chances, truth, np.arange(500) // 50)
    many = calibrate(chances, truth, np.arange(500))
    assert sets(chances, few, 0.99).all()
    assert not sets(chances, many, 0.99).all()
    assert sets(chances, few, 0.8).sum() >= sets(chances, many, 0.8).sum()


def test_what_cannot_be_measured_is_said() -> None:
    truth, logits = drawn(50, 3)
    chances = probabilities("classification", logits, 1.0)
    with pytest.raises(UsageError, match="there are no items"):
        figures("classification", truth[:0], chances[:0], truth[:0])
    with pytest.raises(UsageError, match="there are no items"):
        mean_of(chances[:0, 0], truth[:0])
    with pytest.raises(UsageError, match="do not belong together"):
        figures("classification", truth, chances[:40], truth)
    bad = chances.copy()
    bad[3, 1] = np.nan
    with pytest.raises(UsageError, match="a prediction is not finite"):
        figures("classification", truth, bad, np.arange(50))
    with pytest.raises(UsageError, match="there are no items"):
        calibrate(chances[:0], truth[:0], truth[:0])
    bounds = calibrate(chances, truth, np.arange(50))
    for coverage in (0.2, 1.0, 90):
        with pytest.raises(SettingsError, match=r"it must be between 0\.5 and 0\.999"):
            sets(chances, bounds, coverage)
