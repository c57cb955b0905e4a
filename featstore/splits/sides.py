"""Which side items are on: dealt out at first, found again or joined to what they belong to later."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from featstore.records import SplitRecord
from featstore.splits.dealing import deal, deal_one, keys
from featstore.splits.known import Known

__all__ = ["Items", "Sides", "first_sides", "later_sides"]


@dataclass(frozen=True)
class Items:
    """n items in the order of ``item_id``.

    Attributes:
        ids: Their ids.
        contents: Their contents' hashes.
        names: What the user calls the group of each; None for none.
        groups: (n,) int64 from 0: what belongs together, by name, content or nearness.
        strata: (n,) int64: what is spread evenly over the sides: the class.
        sides: Whether each is tested, where a column says it.
    """

    ids: Sequence[str]
    contents: Sequence[str]
    names: Sequence[str | None]
    groups: NDArray[np.int64]
    strata: NDArray[np.int64]
    sides: Sequence[bool | None] | None = None

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True)
class Sides:
    """Where n items are, as it is written down.

    Attributes:
        test: (n,) bool, the test side.
        fold: (n,) int64, the fold that an item has on the training side.
        group: (n,) int64, the number that its group has in the kept split.
        excluded: (n,) bool, items on no side.
        new: (n,) bool, items that the split has not seen.
    """

    test: NDArray[np.bool_]
    fold: NDArray[np.int64]
    group: NDArray[np.int64]
    excluded: NDArray[np.bool_]
    new: NDArray[np.bool_]


def first_sides(items: Items, record: SplitRecord) -> Sides:
    """Deals all items out, or takes the sides that a column says."""
    names = keys(items.groups, items.names, items.contents)
    given = None if items.sides is None else _given(items, names, record)
    whole = None if given is None else _all(items.groups, given, len(names))
    chosen, fold = deal(
        items.groups,
        names,
        items.strata,
        seed=record.seed,
        share=record.test_share,
        folds=record.folds,
        test=whole,
    )
    test = chosen[items.groups] if given is None else given
    none = np.zeros(len(items), np.bool_)
    return Sides(test, fold[items.groups], items.groups, none, ~none)


def _given(items: Items, names: Sequence[str], record: SplitRecord) -> NDArray[np.bool_]:
    """The sides of a column; an item of which it says nothing goes with its group, or by its hash."""
    assert items.sides is not None
    of_group: dict[int, bool] = {}
    for group, side in zip(items.groups.tolist(), items.sides, strict=True):
        if side is not None:
            of_group[group] = of_group.get(group, False) or side
    found = []
    for group, side in zip(items.groups.tolist(), items.sides, strict=True):
        if side is None and group not in of_group:
            of_group[group] = deal_one(names[group], seed=record.seed, share=record.test_share, folds=record.folds)[0]
        found.append(of_group[group] if side is None else side)
    return np.array(found, np.bool_)


def later_sides(items: Items, record: SplitRecord, known: Known, allowed: bool) -> Sides:
    """Finds the items that were there, and gives new ones the side of what they belong to, or one by their hash.

    Args:
        items: The items.
        record: How the split is made.
        known: What it has seen.
        allowed: A new item that belongs to both sides stays where a column says, rather than on none.
    """
    count = len(items)
    new = np.array([not known.has(i, c) for i, c in zip(items.ids, items.contents, strict=True)], np.bool_)
    words: Sequence[bool | None] = items.sides if items.sides is not None else [None] * count
    # The sides that each group has: by what was known of it, and by what is said of what is new.
    of_group: dict[int, set[bool]] = {}
    linked: dict[int, int] = {}
    for at, (item, content, name, group) in enumerate(
        zip(items.ids, items.contents, items.names, items.groups.tolist(), strict=True)
    ):
        sides = of_group.setdefault(group, set())
        for row in known.linked(item, content, name):
            sides.add(known.test[row])
            linked[group] = min(linked.get(group, row), row)
        word = words[at]
        if new[at] and word is not None:
            sides.add(word)
    names = keys(items.groups, items.names, items.contents)
    test, excluded = np.zeros(count, np.bool_), np.zeros(count, np.bool_)
    fold, numbers = np.zeros(count, np.int64), np.zeros(count, np.int64)
    fresh: dict[int, int] = {}
    for at, group in enumerate(items.groups.tolist()):
        seen = known.row(items.ids[at], items.contents[at])
        if seen is not None:
            test[at], excluded[at] = known.test[seen], known.excluded[seen]
            fold[at], numbers[at] = known.fold[seen], known.group[seen]
            continue
        sides, word = of_group[group], words[at]
        dealt = deal_one(names[group], seed=record.seed, share=record.test_share, folds=record.folds)
        if len(sides) == 2:
            test[at] = bool(word) if allowed and word is not None else False
            excluded[at] = not (allowed and word is not None)
        else:
            test[at] = next(iter(sides)) if sides else dealt[0]
        near = linked.get(group)
        joined = near is not None and known.fold[near] >= 0
        fold[at] = known.fold[near] if near is not None and joined else dealt[1]
        if near is None:
            numbers[at] = fresh.setdefault(group, known.groups + len(fresh))
        else:
            numbers[at] = known.group[near]
    return Sides(test, fold, numbers, excluded, new)


def _all(groups: NDArray[np.int64], test: NDArray[np.bool_], count: int) -> NDArray[np.bool_]:
    """Which groups have test items only."""
    return np.asarray(np.bincount(groups, weights=~test, minlength=count) == 0, np.bool_)
