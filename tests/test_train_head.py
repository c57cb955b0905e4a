"""Training a head: from labels to a kept head with honest figures."""

from __future__ import annotations

import io
import json
import re
import signal
import subprocess
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cli_world import COMMAND, environment, inside, schema
from jsonschema import Draft202012Validator
from PIL import Image
from sklearn.base import clone
from sklearn.model_selection import cross_val_score
from train_world import OTHER, SPACE, add_table, blobs, content, keep_texts, store_at

from featstore.errors import (
    GateError,
    IntegrityError,
    LockedError,
    NotFoundError,
    SettingsError,
    StorageError,
    UsageError,
)
from featstore.extract import previews
from featstore.extract.progress import Reporter
from featstore.heads.fitting import fit
from featstore.heads.head import Head
from featstore.heads.opening import open_head
from featstore.records import BaselineFigures, CurvePoint, Estimate, HeadCard
from featstore.settings import HeadSettings, TorchSettings
from featstore.splits import read
from featstore.storage import frames, locks
from featstore.store import Store
from featstore.training.advice import advise
from featstore.training.curve import learning_curve
from featstore.training.measuring import Side, word

QUICK: dict[str, Any] = {"curve": False, "baselines": False, "kind": "prototypes"}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return store_at(tmp_path)


def _rows(store: Store, card: HeadCard) -> dict[str, list[Any]]:
    path = store.layout.head(card.head, card.version, card.predictions.file)
    return frames.read(store.layout.storage, path).to_pydict()


def _side(store: Store, card: HeadCard, side: str) -> set[str]:
    rows = _rows(store, card)
    return {item for item, where in zip(rows["item_id"], rows["side"], strict=True) if where == side}


def _tree(store: Store) -> dict[str, bytes]:
    return {
        path: store.layout.storage.read(path)
        for path in store.layout.storage.files()
        if not path.startswith(("locks/", "cache/"))
    }


# ── the main line ─────────────────────────────────────────────────────────────────────────


@pytest.mark.heavy
def test_alone_it_works_where_one_table_has_labels(store: Store) -> None:
    x, y = blobs(300)
    add_table(store, x, label=y)
    head = store.train_head()
    card = head.card
    assert (card.head, card.version, card.table, card.space_id, card.table_version) == (
        "photos-label",
        1,
        "photos",
        SPACE,
        0,
    )
    assert (card.task, card.classes, card.labels_from) == ("classification", ("class0", "class1", "class2"), "label")
    assert card.n_train + card.n_test == 300
    assert 55 <= card.n_test <= 65
    assert (card.leakage, card.test_scored, card.n_excluded, card.conflicts) == (0, 1, 0, 0)
    assert card.metrics["accuracy"].value > 0.95
    assert card.metrics["accuracy"].low <= card.metrics["accuracy"].value <= card.metrics["accuracy"].high
    assert set(card.metrics) == set(card.validation) == set(card.training)
    assert set(card.baselines) == {"majority", "prototypes", "knn", "ridge"}
    assert card.baselines["majority"].metrics["accuracy"].value < 0.6
    assert len(card.learning_curve) >= 3
    assert card.advice
    assert card.fit
    assert sum(each.n_test for each in card.classes_figures) == card.n_test
    assert (head.predict(x) == np.array(y)).mean() > 0.95
    assert [each.kind for each in card.candidates if each.score is not None] != []
    assert store.heads() == [card]


def test_predictions_hold_every_item_once_and_unseen(store: Store) -> None:
    x, y = blobs(200, spread=2)
    add_table(store, x, label=y)
    card = store.train_head(**QUICK).card
    rows = _rows(store, card)
    truth = dict(zip([f"item{at:05d}" for at in range(200)], y, strict=True))
    assert rows["item_id"] == sorted(truth)
    assert rows["truth"] == [truth[item] for item in rows["item_id"]]
    assert rows["content_sha256"] == [content(item) for item in rows["item_id"]]
    assert all((fold == -1) == (side == "test") for fold, side in zip(rows["fold"], rows["side"], strict=True))
    chances = np.array(rows["probabilities"])
    assert chances.shape == (200, 3)
    assert np.allclose(chances.sum(axis=1), 1, atol=1e-5)
    assert [card.classes[at] for at in chances.argmax(axis=1)] == rows["predicted"]
    _, head = open_head(store.layout, "photos-label")
    order = [int(item[4:]) for item in rows["item_id"]]
    own = head.probabilities(x[order])
    test = np.array([side == "test" for side in rows["side"]])
    assert np.allclose(own[test], chances[test], atol=1e-6)
    assert not np.allclose(own[~test], chances[~test], atol=1e-4), "training items are predicted by heads without them"
    right = np.array(rows["predicted"]) == np.array(rows["truth"])
    assert card.metrics["accuracy"].value == pytest.approx(right[test].mean())
    assert card.validation["accuracy"].value == pytest.approx(right[~test].mean())


def test_the_same_command_twice_gives_the_same_bytes_and_says_so(store: Store) -> None:
    x, y = blobs(200, spread=2)
    add_table(store, x, label=y)
    one = store.train_head(curve=False).card
    two = store.train_head(curve=False).card
    assert (one.version, two.version) == (1, 2)
    assert one.head_file.sha256 == two.head_file.sha256
    assert one.predictions.sha256 == two.predictions.sha256
    assert one.metrics == two.metrics
    assert (one.test_scored, two.test_scored) == (1, 2)
    assert one.previous is None
    assert two.previous is not None
    assert (two.previous.version, two.previous.metrics, two.previous.note) == (1, one.metrics, None)
    assert all(abs(found.value) < 1e-9 for found in two.previous.difference.values())


def test_a_head_is_a_scikit_learn_estimator(store: Store) -> None:
    x, y = blobs(150)
    add_table(store, x, label=y)
    head = store.train_head(**QUICK)
    assert clone(head).predict(x[:5]).tolist() == head.predict(x[:5]).tolist()
    assert head.predict_proba(x).shape == (150, 3)
    assert head.score(x, y) > 0.95
    assert head.n_features_in_ == 16
    assert cross_val_score(head, x, np.array(y), cv=3).mean() > 0.9
    assert store.head("photos-label:1").predict(x[:5]).tolist() == head.predict(x[:5]).tolist()
    with pytest.raises(UsageError, match="this head takes 16 values"):
        head.predict(x[:, :5])


def test_classes_that_are_numbers_are_scored_as_they_are_given(store: Store) -> None:
    x, y = blobs(150)
    numbers = [int(name[-1]) for name in y]
    add_table(store, x, label=numbers)
    head = store.train_head(**QUICK)
    assert head.score(x, numbers) > 0.95
    assert head.fit(x, np.array(numbers)).score(x, np.array(numbers)) > 0.95
    with pytest.raises(UsageError, match="are in one fold"):
        head.fit(x, numbers, groups=np.zeros(150))


def test_labels_from_a_file(store: Store, tmp_path: Path) -> None:
    x, y = blobs(120)
    add_table(store, x)
    lines = [f"item{at:05d},{label}" for at, label in enumerate(y[:100])]
    file = tmp_path / "labels.csv"
    file.write_text("\n".join(["item_id,label", *lines, "item00000,other", "nobody,class1"]) + "\n")
    card = store.train_head(labels=str(file), **QUICK).card
    assert card.n_train + card.n_test == 99
    assert (card.n_unlabelled, card.conflicts, card.labels_from) == (21, 1, "labels.csv")
    assert any("1 items have several labels" in warning for warning in card.warnings)
    assert any("1 ids in labels.csv are not in the table: 'nobody'" in warning for warning in card.warnings)


def test_where_picks_the_items(store: Store) -> None:
    x, y = blobs(200)
    add_table(store, x, label=y, size=list(range(200)))
    card = store.train_head(where="size < 100", **QUICK).card
    assert card.n_train + card.n_test == 100
    assert max(_rows(store, card)["item_id"]) == "item00099"


def test_a_column_beside_the_vectors_tells_the_head_nothing(store: Store) -> None:
    generator = np.random.default_rng(0)
    y = [f"c{at}" for at in generator.integers(0, 2, 400)]
    add_table(store, generator.standard_normal((400, 8)).astype(np.float32), label=y, leak=y)
    assert store.train_head(curve=False).card.metrics["accuracy"].value < 0.65


# ── the split ─────────────────────────────────────────────────────────────────────────────


def test_an_item_stays_on_its_side_as_the_table_grows_and_for_every_model(store: Store) -> None:
    x, y = blobs(300)
    add_table(store, x[:200], label=y[:200])
    first = store.train_head(**QUICK).card
    add_table(store, x[200:], label=y[200:], ids=[f"item{at:05d}" for at in range(200, 300)], run="run2")
    second = store.train_head(**QUICK).card
    add_table(store, x[:, ::-1], label=y, space=OTHER)
    third = store.train_head(f"photos@{OTHER}", **QUICK).card
    assert first.split_id == second.split_id == third.split_id
    assert _side(store, first, "test") < _side(store, second, "test")
    assert _side(store, first, "train") < _side(store, second, "train")
    assert _side(store, second, "test") == _side(store, third, "test")
    assert [card.test_scored for card in (first, second, third)] == [1, 2, 3]
    assert second.previous is not None
    assert "the test items that both have" in str(second.previous.note)
    kept = read(store.layout, "photos", "label")
    assert kept is not None
    assert [each.version for each in kept.record.scored] == [1, 2, 3]


def test_another_split_is_another_story(store: Store) -> None:
    x, y = blobs(200)
    add_table(store, x, label=y)
    one = store.train_head(**QUICK).card
    two = store.train_head(new_split=True, **QUICK).card
    assert one.split_id != two.split_id
    assert _side(store, one, "test") != _side(store, two, "test")
    assert two.test_scored == 1
    assert any("cannot be compared" in warning for warning in two.warnings)
    assert two.previous is not None
    assert two.previous.difference == {}
    assert "another split" in str(two.previous.note)
    with pytest.raises(UsageError, match="tested on different splits"):
        store.diff_heads("photos-label:1", "photos-label:2")


def test_a_kept_split_says_that_it_is_not_the_one_asked_for(store: Store) -> None:
    x, y = blobs(200)
    add_table(store, x, label=y)
    quick = {name: value for name, value in QUICK.items() if name not in ("test_share", "folds")}
    asked = {"test_share": 0.3, "folds": 4, **quick}

    def said(card: HeadCard) -> list[str]:
        return [warning for warning in card.warnings if "not used" in warning]

    first, again, plain = (store.train_head(**given).card for given in (asked, asked, quick))
    assert not said(first) + said(again) + said(plain)
    assert first.split_id == again.split_id == plain.split_id
    other = store.train_head(**{**asked, "test_share": 0.5, "folds": 5}).card
    assert other.split_id == first.split_id
    share, folds = said(other)
    assert "a test share of 0.5 is not used: this label has a split already, of 0.3 (--new-split)" in share
    assert "5 folds are not used" in folds
    assert not said(store.train_head(new_split=True, **{**asked, "test_share": 0.5, "folds": 5}).card)


def test_no_new_split_is_one_that_was_there_before(store: Store) -> None:
    x, y = blobs(120)
    add_table(store, x, label=y)
    made = [store.train_head(**QUICK).card, *(store.train_head(new_split=True, **QUICK).card for _ in range(3))]
    assert len({card.split_id for card in made}) == 4
    assert len({frozenset(_side(store, card, "test")) for card in made}) == 4


def test_planted_twins_do_not_flatter(store: Store) -> None:
    """Noise with labels by chance, each vector twice but for a hair: a naive split finds the twins."""
    generator = np.random.default_rng(3)
    half = generator.standard_normal((250, 64)).astype(np.float32)
    twins = half + 0.01 * generator.standard_normal(half.shape).astype(np.float32)
    labels = [f"c{at}" for at in generator.integers(0, 2, 250)] * 2
    add_table(store, np.concatenate([half, twins]), label=labels)
    card = store.train_head(kind="knn", curve=False, baselines=False).card
    from sklearn.neighbors import KNeighborsClassifier

    naive = cross_val_score(KNeighborsClassifier(1), np.concatenate([half, twins]), labels, cv=5).mean()
    assert naive > 0.9
    assert card.leakage == 0
    assert card.n_groups == 250
    assert card.metrics["accuracy"].low < 0.5 < card.metrics["accuracy"].high + 0.05


def test_groups_are_never_split_and_chunks_go_with_their_text(store: Store) -> None:
    x, y = blobs(300)
    group = [f"patient{at // 6}" for at in range(300)]
    add_table(store, x, label=y, patient=group)
    card = store.train_head(group="patient", **QUICK).card
    rows = _rows(store, card)
    owner = {f"item{at:05d}": name for at, name in enumerate(group)}
    sides = {(owner[item], side) for item, side in zip(rows["item_id"], rows["side"], strict=True)}
    assert len(sides) == 50
    assert card.n_groups == 50
    add_table(store, x, name="texts", label=y, parent=group)
    chunks = store.train_head("texts", **QUICK).card
    assert chunks.n_groups == 50


def test_a_given_split_that_leaks_is_refused(store: Store) -> None:
    x, y = blobs(200)
    contents = [content(str(at // 2)) for at in range(200)]
    words = ["test" if at % 10 == 0 else "val" if at % 10 == 1 else "train" for at in range(200)]
    add_table(
        store, np.repeat(x[:100], 2, axis=0), label=np.repeat(y[:100], 2).tolist(), contents=contents, split=words
    )
    before = _tree(store)
    with pytest.raises(GateError, match=r"--split split leaks: 20 groups .* 20 of 20 test items"):
        store.train_head(**QUICK)
    assert _tree(store) == before
    card = store.train_head(allow_leakage=True, **QUICK).card
    assert (card.leakage, card.n_test, card.split_origin) == (20, 20, "split")


def test_a_given_split_is_used_as_it_is(store: Store) -> None:
    x, y = blobs(200)
    words = ["test" if at < 40 else "train" for at in range(200)]
    add_table(store, x, label=y, part=words)
    card = store.train_head(split="part", **QUICK).card
    assert _side(store, card, "test") == {f"item{at:05d}" for at in range(40)}
    assert card.split_origin == "part"
    add_table(store, x, name="made", label=y, part=words)
    store.train_head("made", **QUICK)
    with pytest.raises(UsageError, match="has a split for 'label' already, made by featstore"):
        store.train_head("made", split="part", **QUICK)


# ── what cannot be learned ────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("labels", "settings", "said"),
    [
        (["a"] * 60, {}, "all 60 labelled items are 'a'"),
        ([None] * 60, {}, "none of 60 items has a label"),
        (["a"] * 58 + ["b"] * 2, {}, r"1 of 2 classes .*'b' \(2 items, 2 groups\)"),
        (["a", "b"] * 30, {"group": "label"}, "the groups of column 'label' are the classes: 2 groups of 60 items"),
        (["a", "b"] * 30, {"kind": "logistics"}, "kind"),
        (["a", "b"] * 30, {"where": "label = 'a'"}, "all 30 labelled items are 'a'"),
        ([1.5] * 60, {}, "nothing to learn"),
        (["a", "b"] * 30, {"name": "a/b"}, "cannot be the name of a head"),
        (["a", "b"] * 30, {"report": "page.txt"}, "must end in .html"),
        (["a", "b"] * 30, {"task": "regression"}, "'a' is no number"),
    ],
)
def test_what_cannot_be_done_is_said_with_counts_and_leaves_nothing(
    labels: list[Any], settings: dict[str, Any], said: str, store: Store
) -> None:
    columns = {} if labels[0] is None else {"label": labels}
    add_table(store, blobs(60)[0], label=labels) if columns else add_table(
        store, blobs(60)[0], label=["x", *[None] * 59]
    )
    before = _tree(store)
    if not columns:
        settings, said = {"where": "label IS NULL"}, "none of 59 items picked by --where has a label"
    with pytest.raises(UsageError, match=said):
        store.train_head(**{**QUICK, **settings})
    assert _tree(store) == before


def test_a_class_of_three_items_can_be_learned(store: Store) -> None:
    x, _ = blobs(103, classes=2)
    labels = ["common"] * 50 + ["other"] * 50 + ["rare"] * 3
    add_table(store, x, label=labels)
    card = store.train_head(curve=False).card
    rare = next(each for each in card.classes_figures if each.label == "rare")
    assert (rare.n_train, rare.n_test) == (2, 1)


def test_rare_classes_can_be_left_out(store: Store) -> None:
    x, y = blobs(100)
    labels = [*y[:96], "odd", "odd", "strange", "weird"]
    add_table(store, x, label=labels)
    card = store.train_head(drop_rare=True, **QUICK).card
    assert card.classes == ("class0", "class1", "class2")
    assert card.n_train + card.n_test == 96
    assert any("4 items of 3 rare classes are left out" in warning for warning in card.warnings)


def test_constant_values_and_more_values_than_items(store: Store) -> None:
    x, y = blobs(40, classes=2, dim=100)
    x[:, :50] = 3.0
    add_table(store, x, label=y)
    assert store.train_head(curve=False).card.metrics["accuracy"].value > 0.8


def test_many_classes(store: Store) -> None:
    generator = np.random.default_rng(0)
    centres = 3 * generator.standard_normal((300, 32))
    x = np.repeat(centres, 5, axis=0) + generator.standard_normal((1500, 32))
    add_table(store, x.astype(np.float32), label=[f"c{at // 5:03d}" for at in range(1500)])
    card = store.train_head(kind="ridge", near_threshold=1.0, curve=False, baselines=False).card
    assert len(card.classes) == 300
    assert card.metrics["accuracy"].value > 0.5
    assert all(each.n_test == 1 for each in card.classes_figures)


def test_which_table_is_asked_where_several_could_be_meant(store: Store) -> None:
    with pytest.raises(UsageError, match="which table"):
        store.train_head()
    x, y = blobs(60)
    add_table(store, x, label=y)
    add_table(store, x, name="bare")
    assert store.train_head(**QUICK).card.table == "photos"
    add_table(store, x, name="more", label=y)
    with pytest.raises(UsageError, match="2 of 3 tables could be meant"):
        store.train_head(**QUICK)
    with pytest.raises(NotFoundError, match="there is no column 'labl'"):
        store.train_head("photos", label="labl")
    with pytest.raises(SettingsError, match="unknown setting 'lable'; did you mean 'label'"):
        store.train_head("photos", lable="x")


# ── other tasks ───────────────────────────────────────────────────────────────────────────


def test_regression(store: Store) -> None:
    generator = np.random.default_rng(0)
    x = generator.standard_normal((300, 8)).astype(np.float32)
    price = (x @ generator.standard_normal(8) + 0.1 * generator.standard_normal(300)).tolist()
    add_table(store, x, price=price)
    head = store.train_head(label="price")
    assert head.card.task == "regression"
    assert head.card.metrics["r2"].value > 0.9
    assert head.card.baselines["majority"].metrics["r2"].value < 0.1
    assert head.card.classes == ()
    rows = _rows(store, head.card)
    assert rows["truth"] == pytest.approx([price[int(item[4:])] for item in rows["item_id"]])
    assert set(rows["probabilities"]) == {None}
    again = store.train_head(label="price", curve=False, baselines=False).card
    assert again.previous is not None
    assert again.previous.difference["r2"].value == pytest.approx(0, abs=1e-6)


def test_numbers_come_with_intervals(store: Store, tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    x = generator.standard_normal((600, 8)).astype(np.float32)
    price = x @ generator.standard_normal(8) + generator.standard_normal(600)
    add_table(store, x, price=price.tolist())
    done = inside("train-head", "--label", "price", "--kind", "ridge", "--no-curve", "--no-baselines", cwd=tmp_path)
    assert done.code == 0, done.err
    assert "classes on average" not in done.out
    assert "intervals that shall hold the true number in 90 % of cases do in" in done.out
    card = store.head("photos-price").card
    assert card.conformal is not None
    assert card.conformal.set_size is None
    assert card.conformal.coverage is not None
    assert 0.8 < card.conformal.coverage.value < 0.98
    rows = store.predict("photos-price", table="photos", coverage=0.9).to_polars()
    inside_them = [
        low <= price[int(item[4:])] <= high for item, low, high in rows["item_id", "low", "high"].iter_rows()
    ]
    assert 0.85 < np.mean(inside_them) < 0.97


@pytest.mark.parametrize(
    ("settings", "said"),
    [({"class_weights": "balanced"}, "numbers have no classes to weigh"), ({"shots": "1,4"}, "labels of each class")],
)
def test_what_is_for_classes_is_refused_for_numbers(settings: dict[str, Any], said: str, store: Store) -> None:
    x, _ = blobs(100)
    add_table(store, x, label=x[:, 0].astype(float).tolist())
    before = _tree(store)
    with pytest.raises(UsageError, match=said):
        store.train_head(curve=False, baselines=False, **settings)
    assert _tree(store) == before


def test_another_task_under_the_same_name_is_told(store: Store, tmp_path: Path) -> None:
    x, y = blobs(100)
    add_table(store, x, label=[int(name[-1]) for name in y])
    store.train_head(**QUICK)
    done = inside("train-head", "--task", "regression", "--kind", "ridge", "--no-curve", "-q", cwd=tmp_path)
    assert done.code == 0, done.err
    assert "version 1 (it predicted other classes" in done.out


@pytest.mark.heavy
def test_multilabel(store: Store) -> None:
    x, _ = blobs(300, dim=8)
    names = ["big", "red", "round"]
    labels = [str([n for n, v in zip(names, row, strict=True) if v > 0]).replace("'", '"') for row in x[:, :3]]
    add_table(store, x, tags=labels)
    head = store.train_head(label="tags", kind="logistic", curve=False)
    card = head.card
    assert (card.task, card.classes) == ("multilabel", ("big", "red", "round"))
    assert card.metrics["mAP"].value > 0.8
    assert all(each.threshold is not None for each in card.classes_figures)
    rows = _rows(store, card)
    assert rows["truth"] == [json.loads(labels[int(item[4:])]) for item in rows["item_id"]]
    assert head.predict(x).shape == (300, 3)


# ── several tables ────────────────────────────────────────────────────────────────────────


def test_tables_are_compared_on_the_same_items(store: Store) -> None:
    x, y = blobs(300)
    noisy, _ = blobs(300, spread=6)
    add_table(store, x, label=y)
    add_table(store, noisy[:290], label=y[:290], space=OTHER)
    found = store.compare_heads([f"photos@{SPACE}", f"photos@{OTHER}"], **QUICK)
    a, b = found.heads
    assert (a.head, b.head) == ("photos-label-tiny", "photos-label-other")
    assert _side(store, a, "test") == _side(store, b, "test")
    assert a.n_train + a.n_test == 290
    assert any("10 labelled items are not in every table" in warning for warning in a.warnings)
    (one,) = found.differences
    assert one.better == "a"
    assert one.metrics["accuracy"].high < 0
    assert one.metrics["accuracy"].value == pytest.approx(b.metrics["accuracy"].value - a.metrics["accuracy"].value)
    assert store.diff_heads("photos-label-tiny", "photos-label-other").metrics == one.metrics
    with pytest.raises(UsageError, match="named twice"):
        store.compare_heads([f"photos@{SPACE}", f"photos@{SPACE}"])


# ── baselines from previews ───────────────────────────────────────────────────────────────


def test_words_are_a_baseline_for_texts(store: Store) -> None:
    generator = np.random.default_rng(0)
    y = [f"c{at}" for at in generator.integers(0, 2, 300)]
    add_table(store, generator.standard_normal((300, 8)).astype(np.float32), label=y, modality="text")
    keep_texts(store, "photos", {content(f"item{at:05d}"): f"this speaks of {y[at]} number {at}" for at in range(300)})
    card = store.train_head(kind="prototypes", curve=False).card
    assert card.baselines["text"].metrics["accuracy"].value > 0.95
    assert any("counting words" in advice for advice in card.advice)


def test_a_baseline_of_words_has_the_weights_of_the_head(store: Store) -> None:
    generator = np.random.default_rng(0)
    y = ["rare" if rare else "often" for rare in generator.random(400) < 0.1]
    add_table(store, generator.standard_normal((400, 8)).astype(np.float32), label=y, modality="text")
    words = {"rare": [*["up"] * 4, "down"], "often": ["up", *["down"] * 3]}
    said = [generator.choice(words[label]) for label in y]
    keep_texts(store, "photos", {content(f"item{at:05d}"): f"{said[at]} it goes" for at in range(400)})
    plain, balanced = (
        store.train_head(kind="ridge", curve=False, class_weights=weights).card.baselines["text"].metrics
        for weights in (None, "balanced")
    )
    assert plain["balanced_accuracy"].value == 0.5
    assert balanced["balanced_accuracy"].value > 0.6


def test_colours_are_a_baseline_for_images(store: Store) -> None:
    generator = np.random.default_rng(0)
    y = [f"c{at}" for at in generator.integers(0, 2, 80)]
    add_table(store, generator.standard_normal((80, 8)).astype(np.float32), label=y)
    kept = {}
    for at in range(80):
        file = io.BytesIO()
        shade = (
            (200, 30, int(generator.integers(0, 60))) if y[at] == "c0" else (30, int(generator.integers(0, 60)), 200)
        )
        Image.new("RGB", (32, 32), shade).save(file, "JPEG")
        kept[content(f"item{at:05d}")] = file.getvalue()
    previews.keep(store.layout, "photos", "pack", kept)
    card = store.train_head(kind="prototypes", curve=False).card
    assert card.baselines["colour"].metrics["accuracy"].value > 0.95


def test_few_labels_of_each_class(store: Store) -> None:
    x, y = blobs(300, spread=2)
    add_table(store, x, label=y)
    card = store.train_head(shots="1,16", **QUICK).card
    one, many = card.shots
    assert (one.shots, many.shots, one.tries) == (1, 16, 10)
    assert one.accuracy.value < many.accuracy.value
    assert one.accuracy.high - one.accuracy.low > many.accuracy.high - many.accuracy.low


def test_no_point_of_the_curve_is_judged_by_what_chose_the_head() -> None:
    generator = np.random.default_rng(0)
    x, truth = generator.standard_normal((150, 8)).astype(np.float32), generator.integers(0, 2, 150)
    folds = np.arange(150) % 5
    head = fit(x, truth, ("a", "b"), folds, kind="ridge").head
    points = learning_curve(
        head, Side(x, truth, np.arange(150)), folds, [content(str(at)) for at in range(150)], np.eye(2)[truth],
        weights=None, torch=None, seed=0, progress=lambda _: None,
    )  # fmt: skip
    assert points[-1].items == 120
    assert points[-1].score < 0.7


# ── nothing is kept half ──────────────────────────────────────────────────────────────────


class _Stopping(Reporter):
    """Ctrl-C at a stage."""

    def __init__(self, at: str) -> None:
        self._at = at

    def stage(self, name: str, total: int | None = None) -> None:
        if name.startswith(self._at):
            raise KeyboardInterrupt


@pytest.mark.parametrize("at", ["reading vectors", "prototypes", "measuring", "baseline", "learning curve"])
def test_what_is_interrupted_leaves_no_head(at: str, store: Store) -> None:
    x, y = blobs(150)
    add_table(store, x, label=y)
    with pytest.raises(KeyboardInterrupt):
        store.train_head(reporter=_Stopping(at))
    assert store.heads() == []
    assert not store.layout.storage.exists("heads/photos-label/1")
    assert store.train_head(**QUICK).card.version == 1


def test_ctrl_c_ends_a_training_soon_and_clean(store: Store, tmp_path: Path) -> None:
    x, y = blobs(6000, dim=256, classes=8, spread=6)
    add_table(store, x, label=y)
    with subprocess.Popen(
        [*COMMAND, "train-head", "photos"], cwd=tmp_path, env=environment(), stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if line.startswith("logistic"):
                break
        process.send_signal(signal.SIGINT)
        rest = process.stderr.read()
        assert process.wait(timeout=60) == 130, rest
    assert "stopped by Ctrl-C" in rest
    assert "shards" not in rest
    assert "run the same command again" in rest
    assert not store.layout.storage.exists("heads/photos-label/1")
    assert store.heads() == []


def test_what_a_killed_training_has_left_is_replaced(store: Store) -> None:
    x, y = blobs(100)
    add_table(store, x, label=y)
    store.layout.storage.write("heads/photos-label/1/head.safetensors", b"half")
    store.layout.storage.write("heads/photos-label/1/stray", b"half")
    assert store.heads() == []
    assert store.train_head(**QUICK).card.version == 1
    assert store.layout.storage.files("heads/photos-label/1") == [
        f"heads/photos-label/1/{name}" for name in ("card.json", "head.safetensors", "predictions.parquet")
    ]


def test_one_training_of_a_head_at_a_time(store: Store) -> None:
    x, y = blobs(100)
    add_table(store, x, label=y)
    with (
        locks.hold(store.layout.storage, store.layout.head_lock("photos-label"), purpose="a test"),
        pytest.raises(LockedError, match="a test"),
    ):
        store.train_head(**QUICK)


def test_the_version_before_is_the_one_that_was_last_made(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    from featstore.training import keeping

    x, y = blobs(100)
    add_table(store, x, label=y)
    store.train_head(**QUICK)
    place, others = keeping.place, [True]

    def overtaken(layout: Any, name: str, folder: str | None = None) -> Any:
        if others and others.pop():
            store.train_head(**QUICK)
        return place(layout, name, folder)

    monkeypatch.setattr(keeping, "place", overtaken)
    card = store.train_head(**QUICK).card
    assert card.version == 3
    assert card.previous is not None
    assert card.previous.version == 2


def test_a_plan_reads_only(store: Store) -> None:
    x, y = blobs(100)
    add_table(store, x, label=y)
    before = _tree(store)
    plan = store.plan_head("photos")
    assert _tree(store) == before
    assert (plan.head, plan.version, plan.split_id) == ("photos-label", 1, None)
    card = store.train_head(**QUICK).card
    assert (card.n_train, card.n_test) == (plan.n_train, plan.n_test)
    again = store.plan_head("photos")
    assert (again.version, again.split_id, again.test_scored) == (2, card.split_id, 1)


def test_damage_is_told(store: Store) -> None:
    x, y = blobs(100)
    add_table(store, x, label=y)
    card = store.train_head(**QUICK).card
    where = store.layout.storage.local(store.layout.head(card.head, 1, card.predictions.file))
    where.write_bytes(where.read_bytes()[:-20])
    second = store.train_head(**QUICK).card
    assert second.previous is not None
    assert "cannot be read" in str(second.previous.note)
    with pytest.raises(IntegrityError, match="damaged"):
        store.diff_heads("photos-label:1", "photos-label:2")


# ── the command line ──────────────────────────────────────────────────────────────────────


def test_the_command_prints_what_counts_and_json_is_as_its_schema_says(store: Store, tmp_path: Path) -> None:
    x, y = blobs(200, spread=2)
    add_table(store, x, label=y)
    done = inside("train-head", "photos", "--kind", "ridge", "--no-curve", "--shots", "4", cwd=tmp_path)
    assert done.code == 0, done.err
    for part in ("photos-label:1: ridge", "accuracy", "validation", "training", "baselines", "leakage 0", "fit:", "→"):
        assert part in done.out, part
    again = inside("train-head", "--kind", "ridge", "--no-curve", "--json", "-q", cwd=tmp_path)
    assert again.code == 0, again.err
    Draft202012Validator(schema("outputs/train-head.json")).validate(again.json)
    fixed = "head version space_id table_version task kind n_train n_test n_groups metrics baselines leakage seed"
    assert set(fixed.split()) <= set(again.json)
    assert again.json["test_scored"] == 2
    assert set(again.json["metrics"]["accuracy"]) == {"value", "low", "high"}


def test_heads_are_listed_shown_compared_and_planned(store: Store, tmp_path: Path) -> None:
    x, y = blobs(200, spread=2)
    add_table(store, x, label=y)
    add_table(store, x[:, ::-1], label=y, space=OTHER)
    one = ("--kind", "prototypes", "--no-curve", "--no-baselines", "-q")
    assert inside("train-head", f"photos@{SPACE}", *one, cwd=tmp_path).code == 0
    assert inside("train-head", f"photos@{SPACE}", *one, cwd=tmp_path).code == 0
    both = inside("train-head", f"photos@{SPACE}", f"photos@{OTHER}", *one, "--json", cwd=tmp_path)
    Draft202012Validator(schema("outputs/train-head-compare.json")).validate(both.json)
    shown = inside("train-head", f"photos@{SPACE}", f"photos@{OTHER}", *one, cwd=tmp_path)
    assert "no clear difference" in shown.out
    listed = inside("ls", "heads", cwd=tmp_path)
    assert [row.split()[0] for row in listed.out.splitlines()[1:]] == [
        "photos-label:2", "photos-label-other:2", "photos-label-tiny:2",
    ]  # fmt: skip
    Draft202012Validator(schema("outputs/ls-heads.json")).validate(inside("ls", "heads", "--json", cwd=tmp_path).json)
    head = inside("show", "photos-label:1", "--json", cwd=tmp_path)
    Draft202012Validator(schema("outputs/show-head.json")).validate(head.json)
    assert head.json["version"] == 1
    assert "head   photos-label:2" in inside("show", "photos-label", cwd=tmp_path).out
    between = inside("diff", "photos-label:1", "photos-label:2", "--json", cwd=tmp_path)
    Draft202012Validator(schema("outputs/diff-heads.json")).validate(between.json)
    assert "no clear difference" in inside("diff", "photos-label:1", "photos-label:2", cwd=tmp_path).out
    mixed = inside("diff", "photos-label", "photos", cwd=tmp_path)
    assert (mixed.code, "'photos-label' is a head and 'photos' is none" in mixed.err) == (2, True)
    for command, said in (
        (("search", "photos-label", "--id", "x"), "there is no table 'photos-label'; that is a head."),
        (("predict", "photos", "photos"), "there is no head 'photos'; that is a table."),
    ):
        wrong = inside(*command, cwd=tmp_path)
        assert (wrong.code, said in wrong.err) == (2, True), wrong.err
    plan = inside("train-head", f"photos@{SPACE}", "--dry-run", "--json", cwd=tmp_path)
    Draft202012Validator(schema("outputs/train-head-plan.json")).validate(plan.json)
    assert "to learn from" in inside("train-head", f"photos@{SPACE}", "--dry-run", cwd=tmp_path).out


@pytest.mark.parametrize(
    ("flags", "code", "said"),
    [
        (("--label", "nothing"), 2, "no column 'nothing'"),
        (("--kind", "forest"), 2, "kind"),
        (("--folds", "1"), 2, "folds"),
        (("--group", "label"), 2, "are the classes"),
        (("--split", "words"), 5, "leaks"),
        (("--report", "page.pdf"), 2, ".html"),
        (("--dropout", "2"), 2, "dropout"),
    ],
)
def test_refusals_have_their_exit_codes(
    flags: tuple[str, ...], code: int, said: str, store: Store, tmp_path: Path
) -> None:
    x, y = blobs(100)
    words = ["test" if at % 5 == 0 else "train" for at in range(100)]
    contents = [content(str(at // 2)) for at in range(100)]
    add_table(store, x, label=y, words=words, contents=contents)
    done = inside("train-head", "photos", *flags, "-q", cwd=tmp_path)
    assert done.code == code, done.err
    assert said in done.err
    assert done.out == ""


def test_every_setting_has_a_flag_of_its_name(tmp_path: Path) -> None:
    shown = inside("train-head", "--help", cwd=tmp_path).out
    for field in (*fields(HeadSettings), *fields(TorchSettings)):
        assert re.search(rf"--{field.name.replace('_', '-')}\b", shown), field.name


def test_a_page_is_written_on_the_way(store: Store, tmp_path: Path) -> None:
    x, y = blobs(100)
    add_table(store, x, label=y)
    done = inside("train-head", "--kind", "ridge", "--no-curve", "--report", "page.html", "-q", cwd=tmp_path)
    assert done.code == 0, done.err
    assert done.out.endswith("page.html\n")
    assert "<html" in (tmp_path / "page.html").read_text("utf-8")
    assert inside("show", "photos-label", "--report", "again.html", cwd=tmp_path).code == 0
    assert (tmp_path / "again.html").stat().st_size > 1000


# ── words ─────────────────────────────────────────────────────────────────────────────────


def _estimate(value: float, width: float = 0.02) -> Estimate:
    return Estimate(value=value, low=value - width, high=value + width)


def _curve(*scores: float) -> tuple[CurvePoint, ...]:
    items = [200 * 2**at for at in range(len(scores))]
    return tuple(
        CurvePoint(items=n, score=score, low=score, high=score) for n, score in zip(items, scores, strict=True)
    )


@pytest.mark.parametrize(
    ("curve", "score", "learnt", "n", "said"),
    [
        (_curve(0.6, 0.7, 0.78, 0.84), 0.84, 0.9, 1600, "More labels would pay: from 800 to 1,600 items"),
        (_curve(0.8, 0.801, 0.801, 0.801), 0.8, 0.81, 1600, "Another backbone would"),
        (_curve(0.8, 0.801, 0.801, 0.801), 0.8, 0.95, 1600, "or fine-tuning this one"),
        (_curve(0.8, 0.801, 0.801, 0.801), 0.8, 0.95, 500, "stay with frozen features"),
        (_curve(0.99, 0.995, 0.996, 0.996), 0.996, 0.999, 1600, "Enough: 99.6%"),
        ((), 0.8, 0.9, 500, "stay with frozen features"),
    ],
)
def test_the_advice_follows_from_the_curve(
    curve: tuple[CurvePoint, ...], score: float, learnt: float, n: int, said: str
) -> None:
    advice = advise(
        "classification", n, 400, curve, {"accuracy": _estimate(score)}, {"accuracy": _estimate(learnt)}, {}
    )
    assert said in " ".join(advice)


def test_few_test_items_are_no_proof() -> None:
    figures = {"accuracy": _estimate(1.0)}
    (said,) = advise("classification", 2000, 12, _curve(1.0, 1.0), figures, figures, {})
    assert said.startswith("Label more items: 12 test items say little")


def test_a_baseline_that_does_as_well_is_pointed_out() -> None:
    simple = {"text": BaselineFigures(name="text", metrics={"accuracy": _estimate(0.85)})}
    figures = {"accuracy": _estimate(0.86)}
    assert "counting words does as well" in advise("classification", 2000, 400, (), figures, figures, simple)[0]
    better = {"accuracy": _estimate(0.95)}
    assert advise("classification", 2000, 400, (), better, better, simple) == ()


@pytest.mark.parametrize(
    ("learnt", "unseen", "tested", "said"),
    [
        (0.91, 0.90, 0.90, "it fits well"),
        (0.98, 0.90, 0.90, "overfits a little"),
        (1.0, 0.7, 0.7, "it overfits: much"),
        (0.91, 0.90, 0.80, "the test items are harder"),
        (0.91, 0.90, 0.98, "the test items are easier"),
    ],
)
def test_a_plain_word_on_overfitting(learnt: float, unseen: float, tested: float, said: str) -> None:
    head = Head("classification", "logistic", ("a", "b"), 2, "raw", {}, {})
    sides = ({"accuracy": _estimate(value)} for value in (learnt, unseen, tested))
    assert said in word(head, *sides)


def test_a_page_that_cannot_be_written_costs_no_head(tmp_path: Path) -> None:
    store = store_at(tmp_path)
    x, y = blobs(120)
    add_table(store, x, label=y)
    blocked = tmp_path / "a file"
    blocked.write_text("no folder")
    with pytest.raises(StorageError) as caught:
        store.train_head("photos", kind="prototypes", report=blocked / "page.html")
    assert "The head is kept" in str(caught.value.hint)
    assert [card.head for card in store.heads()] == ["photos-label"]
