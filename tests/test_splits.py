"""Splits: dealt by hash, kept for good, and never with one group on both sides."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from stores import damage
from tables_kit import layout_at

from featstore.errors import GateError, IntegrityError, UsageError
from featstore.heads import bind
from featstore.records import SplitRecord, SplitScoring
from featstore.splits import Items, Kept, Split, assign, read, score, sides_of, write


def _record(**changes: object) -> SplitRecord:
    plain = SplitRecord(
        split_id="", table="photos", label="label", origin="made", seed=0, test_share=0.2, folds=5, group_column=None,
        near_threshold=None, scored=(), created_ts="2026-05-04T00:00:00+00:00",
    )  # fmt: skip
    return replace(plain, **changes)  # type: ignore[arg-type]


def _items(
    numbers: Sequence[int],
    *,
    classes: int = 3,
    names: Sequence[str | None] | None = None,
    contents: Sequence[str] | None = None,
    near: Sequence[str | None] | None = None,
    sides: Sequence[bool | None] | None = None,
) -> Items:
    ids = [f"item{at:05d}" for at in numbers]
    contents = [f"content{at}" for at in numbers] if contents is None else contents
    names = [None] * len(ids) if names is None else names
    groups = bind(names, contents, [None] * len(ids) if near is None else near)
    return Items(ids, contents, names, groups, np.array([at % classes for at in numbers], np.int64), sides)


def _side(split: Split, items: Items) -> dict[str, str]:
    kind = np.where(split.excluded, "none", np.where(split.test, "test", "train"))
    return dict(zip(items.ids, kind.tolist(), strict=True))


def _no_group_straddles(split: Split, items: Items) -> bool:
    test, train = set(items.groups[split.test].tolist()), set(items.groups[split.train].tolist())
    return not test & train


def test_a_fifth_of_each_class_is_tested_and_folds_are_even() -> None:
    items = _items(range(3000))
    split = assign(items, _record())
    for label in range(3):
        own = items.strata == label
        assert split.test[own].sum() == 200
        assert sorted(np.bincount(split.fold[own & split.train]).tolist()) == [160] * 5
    assert (split.fold[split.test] == -1).all()
    assert not split.excluded.any()
    assert split.leakage == 0


def test_the_same_items_in_any_order_get_the_same_sides() -> None:
    names = [f"g{at // 3}" for at in range(400)]
    items = _items(range(400), names=names)
    order = np.random.default_rng(0).permutation(400).tolist()
    mixed = _items(order, names=[names[at] for at in order])
    one, other = assign(items, _record()), assign(mixed, _record())
    assert _side(one, items) == _side(other, mixed)
    assert one.kept.record.split_id != ""
    assert len(one.kept.record.split_id) == 12
    assert _side(one, items) != _side(assign(items, _record(seed=1)), items)


def test_three_items_of_a_class_are_one_to_test_and_two_in_different_folds() -> None:
    items = Items(
        [f"i{at}" for at in range(103)], [f"c{at}" for at in range(103)], [None] * 103, np.arange(103),
        np.array([0] * 100 + [1] * 3, np.int64),
    )  # fmt: skip
    split = assign(items, _record())
    rare = items.strata == 1
    assert split.test[rare].sum() == 1
    assert len(set(split.fold[rare & split.train].tolist())) == 2


def test_groups_and_twins_stay_together() -> None:
    names = [f"g{at % 50}" if at % 2 else None for at in range(600)]
    contents = [f"c{at % 400}" for at in range(600)]
    items = _items(range(600), names=names, contents=contents, near=[str(at // 4) for at in range(600)])
    split = assign(items, _record())
    assert _no_group_straddles(split, items)
    for group in np.unique(items.groups[split.train]).tolist():
        assert len(set(split.fold[split.train & (items.groups == group)].tolist())) == 1


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**31), st.integers(20, 120), st.integers(1, 6), st.integers(2, 30))
def test_no_growth_changes_a_side_and_no_group_ever_straddles(seed: int, n: int, steps: int, groups: int) -> None:
    """Items come, go, are renamed and changed, and groups are found between them; sides stay."""
    generator = np.random.default_rng(seed)
    kept: Kept | None = None
    had: dict[tuple[str, str], str] = {}
    for step in range(steps):
        there = np.flatnonzero(generator.random(n * (step + 1)) < 0.8).tolist()
        contents = [f"content{at if generator.random() > 0.1 else at // 2}" for at in there]
        names = [f"g{generator.integers(groups)}" if generator.random() < 0.1 else None for _ in there]
        items = _items(there, names=names, contents=contents)
        split = assign(items, _record(), kept)
        assert _no_group_straddles(split, items)
        assert split.leakage == 0
        kept = split.kept
        rows = kept.rows.to_pydict()
        sides = {
            (item, content): "none" if out else "test" if test else "train"
            for item, content, test, out in zip(
                rows["item_id"], rows["content_sha256"], rows["test"], rows["excluded"], strict=True
            )
        }
        assert len(sides) == kept.rows.num_rows
        assert {key: sides[key] for key in had} == had
        used = _side(split, items)
        for item, content in zip(items.ids, contents, strict=True):
            assert used[item] in (sides[item, content], "none")
        by_item: dict[str, set[str]] = {}
        for (item, _), side in sides.items():
            by_item.setdefault(item, set()).add(side)
        assert all(len(found - {"none"}) < 2 for found in by_item.values())
        had = sides


def test_a_new_item_goes_with_its_group_and_a_renamed_one_with_its_content() -> None:
    items = _items(range(200), names=[f"g{at}" for at in range(200)])
    first = assign(items, _record())
    sides = _side(first, items)
    more = Items(
        [*items.ids, *(f"new{at}" for at in range(200)), *(f"renamed{at}" for at in range(200))],
        [*items.contents, *(f"other{at}" for at in range(200)), *items.contents],
        [*items.names, *items.names, *([None] * 200)],
        bind([*items.names, *items.names, *([None] * 200)], [*items.contents, *[None] * 200, *items.contents]),
        np.tile(items.strata, 3),
    )
    found = _side(assign(more, _record(), first.kept), more)
    for at in range(200):
        side = sides[f"item{at:05d}"]
        assert found[f"item{at:05d}"] == found[f"new{at}"] == found[f"renamed{at}"] == side


def test_a_new_item_that_belongs_to_both_sides_is_left_out_for_good() -> None:
    items = _items(range(100))
    first = assign(items, _record())
    test, train = (items.ids[int(np.flatnonzero(side)[0])] for side in (first.test, first.train))
    both = [*items.ids, "bridge"]
    contents = [*items.contents, "bridge"]
    near = ["x" if item in (test, train, "bridge") else None for item in both]
    grown = Items(both, contents, [None] * 101, bind(contents, near), np.append(items.strata, 0))
    split = assign(grown, _record(), first.kept)
    sides = _side(split, grown)
    assert sides["bridge"] == "none"
    assert sides[test] == "test"
    assert sides[train] == "none", "it is near what is tested, by what this training knows"
    assert split.near == 1
    alone = Items(["bridge"], ["bridge"], [None], np.zeros(1, np.int64), np.zeros(1, np.int64))
    assert _side(assign(alone, _record(), split.kept), alone) == {"bridge": "none"}
    again = _side(assign(items, _record(), split.kept), items)
    assert again[train] == "train", "no item has changed its side"


def test_new_groups_are_dealt_by_their_hash_alone() -> None:
    first = assign(_items(range(100)), _record())
    many = _items(range(100, 5100))
    one = assign(many, _record(), first.kept)
    assert 0.18 < one.test.mean() < 0.22
    assert (np.bincount(one.fold[one.train]) > 700).all()
    few = _items(range(100, 200))
    assert _side(assign(few, _record(), first.kept), few).items() <= _side(one, many).items()


def test_a_given_split_is_taken_as_it_is() -> None:
    sides = [at % 4 == 0 for at in range(200)]
    items = _items(range(200), sides=sides)
    split = assign(items, _record(origin="split"))
    assert split.test.tolist() == sides
    assert len(np.unique(split.fold[split.train])) == 5
    more = _items(range(210), sides=[*sides, *[None] * 5, *[True] * 5])
    found = assign(more, _record(), split.kept)
    assert found.test[205:].all()


def test_a_given_split_that_leaks_is_refused_with_counts_or_reported() -> None:
    names = [f"g{at // 2}" for at in range(200)]
    items = _items(range(200), names=names, sides=[at % 20 == 0 for at in range(200)])
    with pytest.raises(GateError, match=r"10 groups stand on both sides, so that 10 of 10 test items") as caught:
        assign(items, _record(origin="split"))
    assert caught.value.context == {"groups": 10, "test_items": 10, "training_items": 10}
    split = assign(items, _record(origin="split"), allow_leakage=True)
    assert split.leakage == 10
    assert split.test.sum() == 10
    assert split.train.sum() == 190
    later = assign(items, _record(), split.kept)
    assert (later.leakage, later.near) == (0, 10), "without the permission what leaks is left out"


def test_words_of_a_split_column() -> None:
    assert sides_of(["train", " Val", "TEST", None, "dev"], "split") == [False, False, True, None, False]
    with pytest.raises(UsageError, match=r"2 items have a word that names no side: 'exam' \(2\)"):
        sides_of(["train", "exam", "exam", "test"], "split")
    with pytest.raises(UsageError, match="2 labelled items are for training and 0 for the test"):
        sides_of(["train", "val"], "split")


def test_a_split_is_kept_and_grows_and_is_replaced(tmp_path: Path) -> None:
    layout = layout_at(tmp_path)
    assert read(layout, "photos", "label") is None
    first = assign(_items(range(100)), _record()).kept
    write(layout, first)
    found = read(layout, "photos", "label")
    assert found is not None
    assert found.record == first.record
    assert found.rows.equals(first.rows)
    grown = assign(_items(range(150)), _record(), found)
    assert grown.added == 50
    write(layout, grown.kept)
    again = read(layout, "photos", "label")
    assert again is not None
    assert again.rows.num_rows == 150
    assert again.record.split_id == first.record.split_id
    write(layout, assign(_items(range(100)), _record(seed=1)).kept)
    other = read(layout, "photos", "label")
    assert other is not None
    assert other.record.split_id != first.record.split_id


def test_every_look_at_the_test_items_is_counted(tmp_path: Path) -> None:
    layout = layout_at(tmp_path)
    kept = assign(_items(range(100)), _record()).kept
    write(layout, kept)
    scoring = SplitScoring(head="h", version=1, space_id="tiny-0a1b2c3d", ts="2026-05-04T00:00:00+00:00")
    assert [score(layout, kept.record, scoring) for _ in range(3)] == [1, 2, 3]
    write(layout, assign(_items(range(100)), _record(seed=1)).kept)
    with pytest.raises(IntegrityError, match="was replaced"):
        score(layout, kept.record, scoring)


@pytest.mark.parametrize("file", ["label.json", "label.parquet"])
def test_a_damaged_split_is_never_used(file: str, tmp_path: Path) -> None:
    layout = layout_at(tmp_path)
    write(layout, assign(_items(range(100)), _record()).kept)
    where = layout.storage.local(f"splits/photos/{file}")
    damage(where, "flip", bit=8 * (where.stat().st_size // 3))
    with pytest.raises(IntegrityError, match=file):
        read(layout, "photos", "label")


def test_the_sides_of_another_split_are_not_taken_for_this_ones(tmp_path: Path) -> None:
    layout = layout_at(tmp_path)
    write(layout, assign(_items(range(100)), _record()).kept)
    sides = layout.storage.local("splits/photos/label.parquet")
    before = sides.read_bytes()
    write(layout, assign(_items(range(100)), _record(seed=1)).kept)
    sides.write_bytes(before)
    with pytest.raises(IntegrityError, match="does not belong to the split"):
        read(layout, "photos", "label")
    sides.unlink()
    with pytest.raises(IntegrityError, match="is missing"):
        read(layout, "photos", "label")


def test_a_label_of_any_name_has_a_file_of_its_own(tmp_path: Path) -> None:
    layout = layout_at(tmp_path)
    labels = ["a/b", "a-b", "../../evil", "ä ö", "x" * 300, "label"]
    paths = [layout.split("photos", label) for label in labels]
    assert len(set(paths)) == len(labels)
    assert all(path.startswith("splits/photos/") and path.count("/") == 2 and len(path) < 120 for path in paths)
    write(layout, assign(_items(range(100)), _record(label="../../evil")).kept)
    assert read(layout, "photos", "../../evil") is not None
