"""Drift with a head: no more alarms than said where nothing moved, none missed where something did."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.datasets import load_digits
from train_world import add_table, store_at

from featstore import drift
from featstore.heads import fit, probabilities
from featstore.records import DriftReport
from featstore.store import Store
from featstore.training.unseen import of_table

DIGITS = load_digits()
IMAGES = (DIGITS.images / 16).astype(np.float32)
VECTORS = np.ascontiguousarray(IMAGES.reshape(len(IMAGES), -1))
LABELS = DIGITS.target.astype(np.int64)
CLASSES = tuple(str(digit) for digit in range(10))


def judged(before: NDArray[np.int64], after: NDArray[np.int64], *, seed: int, kind: str = "prototypes") -> DriftReport:
    """What is said of digits by their pixels and by a head that was fitted on those that were there."""
    folds = np.arange(len(before)) % 5
    known = fit(VECTORS[before], LABELS[before], CLASSES, folds, task="classification", kind=kind)  # type: ignore[arg-type]
    unseen = probabilities("classification", known.out_of_fold, known.head.settings["temperature"])
    said = {"digits": (unseen, known.head.probabilities(VECTORS[after]))}
    return drift.compare(VECTORS[before], VECTORS[after], said=said, seed=seed)


def alarms(splits: int, *, first: int) -> int:
    found = 0
    for seed in range(first, first + splits):
        order = np.random.default_rng(seed).permutation(len(LABELS))
        found += bool(judged(order[:250], order[250:500], seed=seed).drifted)
    return found


def test_few_alarms_where_nothing_moved() -> None:
    # 1 is expected of 20; more than 4 have a chance below 1 in 300 at a level of 5 %.
    assert alarms(20, first=1000) <= 4


@pytest.mark.heavy
def test_at_most_one_in_twenty_alarms_with_a_head() -> None:
    assert alarms(200, first=0) <= 10


@pytest.mark.parametrize("kind", ["prototypes", "ridge"])
def test_labels_that_shift_are_seen_by_the_head(kind: str) -> None:
    order = np.random.default_rng(5).permutation(len(LABELS))
    before, rest = order[:700], order[700:]
    twice = np.isin(LABELS[rest], (0, 1))
    after = np.concatenate([rest[twice], rest[~twice][: 4 * int(twice.sum()) // 3]])
    report = judged(before, after, seed=1, kind=kind)
    measure = next(found for found in report.measures if found.name == "classes")
    assert report.drifted
    assert measure.adjusted <= 0.05
    assert measure.effect > 0.15
    assert measure.about == "share of the predictions of head 'digits' that moved to other classes"


# ── through a store: the table, its head, the command's own way ───────────────────────────


def world(folder: Path, *, known: NDArray[np.int64], came: NDArray[np.float32], labels: Any = None) -> Store:
    """A table of digits with a head, and a second version with what came."""
    store = store_at(folder)
    add_table(store, VECTORS[known], ids=[f"a{at}" for at in known], label=[CLASSES[LABELS[at]] for at in known])
    store.train_head("photos", name="digits", kind="prototypes", curve=False, baselines=False)
    named = [None] * len(came) if labels is None else labels
    add_table(store, came, ids=[f"b{at}" for at in range(len(came))], run="b", label=named)
    return store


def seen(store: Store) -> DriftReport:
    found = store.diff("photos:0", "photos:1").drift
    assert found is not None
    return found


def test_a_new_category_is_seen_and_its_items_named(tmp_path: Path) -> None:
    order = np.random.default_rng(1).permutation(len(LABELS))
    rest, new = order[LABELS[order] != 7], order[LABELS[order] == 7]
    came = np.concatenate([rest[900:1580], new[:170]])
    report = seen(world(tmp_path, known=rest[:900], came=VECTORS[came]))
    assert report.drifted
    assert {item.item_id for item in report.shifted} & {f"b{at}" for at in range(680, 850)}
    assert [(found.name, found.head) for found in report.measures if found.head] == [("classes", "digits")]


def test_more_of_the_same_is_no_drift(tmp_path: Path) -> None:
    order = np.random.default_rng(2).permutation(len(LABELS))
    report = seen(world(tmp_path, known=order[:900], came=VECTORS[order[900:]]))
    assert report.drifted is False
    measure = next(found for found in report.measures if found.head == "digits")
    assert measure.effect < 3 * measure.expected


def test_a_head_answers_for_what_it_has_learned_as_if_it_had_not(tmp_path: Path) -> None:
    order = np.random.default_rng(3).permutation(len(LABELS))
    store = world(tmp_path, known=order[:600], came=VECTORS[order[600:900]])
    table = store.table("photos:0").features
    head = of_table(store.layout, table)["digits"]
    rows = table.rows(["item_id", "content_sha256"])
    vectors = table.matrix()[1]
    said = head(rows["content_sha256"].to_pylist(), vectors)
    full = head.head.probabilities(vectors)
    learned = np.array([content in head.places for content in rows["content_sha256"].to_pylist()], np.bool_)
    assert 0.7 < learned.mean() < 0.9
    assert np.allclose(said[~learned], full[~learned])
    assert not np.allclose(said[learned], full[learned])
    assert np.allclose(said.sum(axis=1), 1, atol=1e-5)


def test_a_version_before_the_head_is_asked_with_the_oldest_head(tmp_path: Path) -> None:
    order = np.random.default_rng(4).permutation(len(LABELS))
    store = world(
        tmp_path, known=order[:400], came=VECTORS[order[400:800]], labels=[CLASSES[LABELS[at]] for at in order[400:800]]
    )
    store.train_head("photos", name="digits", kind="prototypes", curve=False, baselines=False)
    newest, first = (of_table(store.layout, store.table(f"photos:{at}").features)["digits"] for at in (1, 0))
    assert len(newest.places) > len(first.places)


def test_heads_that_predict_numbers_or_belong_elsewhere_say_nothing(tmp_path: Path) -> None:
    store = store_at(tmp_path)
    add_table(store, VECTORS[:300], size=VECTORS[:300].sum(axis=1).tolist(), label=[CLASSES[at] for at in LABELS[:300]])
    add_table(store, VECTORS[:300], name="paintings", label=[CLASSES[at] for at in LABELS[:300]])
    store.train_head("photos", label="size", kind="ridge", curve=False, baselines=False)
    store.train_head("paintings", kind="prototypes", curve=False, baselines=False)
    assert of_table(store.layout, store.table("photos").features) == {}
