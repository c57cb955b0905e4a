"""Drift: no false alarms where nothing moved, none missed where something did."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.datasets import load_digits

from featstore import drift
from featstore.records import DriftReport

DIGITS = load_digits()
IMAGES = (DIGITS.images / 16).astype(np.float32)
LABELS = DIGITS.target
SPLITS = 200


def vectors(images: NDArray[np.float32]) -> NDArray[np.float32]:
    """(n, 64) float32, as a model that passes its pixels through would give them."""
    return np.ascontiguousarray(images.reshape(len(images), -1))


def blurred(images: NDArray[np.float32]) -> NDArray[np.float32]:
    padded = np.pad(images, ((0, 0), (1, 1), (1, 1)), mode="edge")
    near = [padded[:, y : y + 8, x : x + 8] for y in range(3) for x in range(3)]
    return np.mean(near, axis=0, dtype=np.float32)


def effect(report: DriftReport, name: str) -> float:
    return next(measure.effect for measure in report.measures if measure.name == name)


@pytest.mark.heavy
def test_at_most_one_in_twenty_alarms_where_nothing_moved() -> None:
    chance, alarms = np.random.default_rng(0), 0
    each: dict[str, int] = {}
    for seed in range(SPLITS):
        order = chance.permutation(len(IMAGES))
        said = np.eye(10)[LABELS]
        report = drift.compare(
            vectors(IMAGES[order[:250]]),
            vectors(IMAGES[order[250:500]]),
            said={"digits": (said[order[:250]], said[order[250:500]])},
            seed=seed,
        )
        alarms += bool(report.drifted)
        for measure in report.measures:
            each[measure.name] = each.get(measure.name, 0) + (measure.p <= 0.05)
    assert alarms <= 0.05 * SPLITS
    assert set(each) == {"classifier", "mmd", "centroid", "norm", "novelty", "classes"}
    # Each alone is exact: 10 of 200 are expected, more than 21 have a chance below 1 in 1,000.
    assert all(count <= 21 for count in each.values()), each


@pytest.mark.parametrize("shift", ["new category", "blur", "labels", "brightness"])
def test_planted_shifts_are_found(shift: str) -> None:
    chance, found, tries = np.random.default_rng(1), 0, 5
    for seed in range(tries):
        order = chance.permutation(len(IMAGES))
        old, new = order[:900], order[900:]
        if shift == "new category":  # a fifth of what comes is of a kind that was not there
            old, rest = old[LABELS[old] != 7], order[LABELS[order] == 7]
            new = np.concatenate([new[LABELS[new] != 7][:700], rest[:175]])
        images = IMAGES[new]
        if shift == "blur":
            images = blurred(images)
        elif shift == "labels":  # twice as many of two classes
            often = np.isin(LABELS[new], (0, 1))
            images = np.concatenate([IMAGES[new[often]], IMAGES[new[~often]][: 4 * int(often.sum()) // 3]])
        elif shift == "brightness":
            images = images * np.float32(0.9)
        found += bool(drift.compare(vectors(IMAGES[old]), vectors(images), seed=seed).drifted)
    assert found >= 0.9 * tries


def test_the_most_shifted_items_are_the_new_ones() -> None:
    order = np.random.default_rng(2).permutation(len(IMAGES))
    rest, new = order[LABELS[order] != 7], order[LABELS[order] == 7][:150]
    after = np.concatenate([rest[900:1500], new])
    report = drift.compare(
        vectors(IMAGES[rest[:900]]), vectors(IMAGES[after]), after_ids=[str(LABELS[at]) for at in after], examples=10
    )
    assert [item.item_id for item in report.shifted].count("7") >= 9
    assert effect(report, "classifier") > 0.57


def test_lengths_and_classes() -> None:
    order = np.random.default_rng(3).permutation(len(IMAGES))
    before, after = vectors(IMAGES[order[:600]]), vectors(IMAGES[order[600:1200]])
    longer = drift.compare(before, after * np.float32(1.2))
    assert longer.drifted
    assert effect(longer, "norm") > 0.5
    said = np.eye(2)[np.zeros(600, int)], np.eye(2)[(np.arange(600) < 60).astype(int)]
    moved = drift.compare(before, after, said={"kinds": said})
    assert moved.drifted
    assert effect(moved, "classes") == pytest.approx(0.1, abs=1e-6)
    assert not drift.compare(before, after).drifted


def test_what_is_expected_of_classes_is_what_chance_moves() -> None:
    order = np.random.default_rng(3).permutation(len(IMAGES))
    before, after = order[:300], order[300:600]
    said = np.eye(10)[LABELS[before]], np.eye(10)[LABELS[after]]
    report = drift.compare(vectors(IMAGES[before]), vectors(IMAGES[after]), said={"digits": said})
    (found,) = (measure for measure in report.measures if measure.name == "classes")
    apart = np.abs(said[0].mean(axis=0) - said[1].mean(axis=0)).sum() / 2
    assert found.effect == pytest.approx(apart, abs=1e-6)
    assert 0.5 * apart < found.expected < 2 * apart


def test_equal_lengths_are_said() -> None:
    order = np.random.default_rng(4).permutation(len(IMAGES))
    unit = vectors(IMAGES) / np.linalg.norm(vectors(IMAGES), axis=1, keepdims=True)
    report = drift.compare(unit[order[:300]], unit[order[300:600]])
    assert "norm" not in {measure.name for measure in report.measures}
    assert report.note is not None
    assert "one length" in report.note


def test_too_few_is_said_and_nothing_is_claimed() -> None:
    report = drift.compare(vectors(IMAGES[:500]), vectors(IMAGES[500:600]))
    assert (report.enough, report.drifted, report.measures) == (False, None, ())
    assert report.note == "too few to say: 500 before, 100 after; it takes 200 on each side"


def test_the_same_twice_and_samples_of_many() -> None:
    chance = np.random.default_rng(5)
    before, after = (chance.standard_normal((5000, 8)).astype(np.float32) for _ in range(2))
    first, second = (drift.compare(before, after, seed=3) for _ in range(2))
    assert first == second
    assert (first.before, first.after, first.sampled) == (5000, 5000, drift.MOST)


def test_vectors_without_spread() -> None:
    report = drift.compare(np.ones((300, 4), np.float32), np.ones((300, 4), np.float32))
    assert report.drifted is False
    zeros = drift.compare(np.zeros((300, 4), np.float32), np.zeros((300, 4), np.float32))
    assert zeros.drifted is False
