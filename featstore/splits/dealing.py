"""Dealing whole groups out to test and folds, by their hashes: the same for the same items, whatever their order."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from featstore.storage import hashing

__all__ = ["deal", "deal_one", "keys"]


def keys(ids: NDArray[np.int64], names: Sequence[str | None], contents: Sequence[str]) -> list[str]:
    """What each group is called: its smallest group name, or its smallest content where no item has one.

    Args:
        ids: (n,) int64, the group of each item, from 0.
        names: (n,) what the user calls the item's group.
        contents: (n,) the contents' hashes.
    """
    found: dict[int, str] = {}
    for group, name, content in zip(ids.tolist(), names, contents, strict=True):
        # A name goes before any content, which begins with a later letter.
        key = f"a:{name}" if name is not None else f"b:{content}"
        if group not in found or key < found[group]:
            found[group] = key
    return [found[group] for group in range(len(found))]


def deal_one(key: str, *, seed: int, share: float, folds: int) -> tuple[bool, int]:
    """The side and fold of one group by its hash alone: how what comes later is dealt."""
    return _unit(key, seed, "test") < share, int(_unit(key, seed, "fold") * folds)


def deal(
    groups: NDArray[np.int64],
    names: Sequence[str],
    strata: NDArray[np.int64],
    *,
    seed: int,
    share: float,
    folds: int,
    test: NDArray[np.bool_] | None = None,
) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
    """Deals groups out, each class as evenly as whole groups allow.

    A group counts as of the class that most of its items are of. In the order of their hashes a class's groups go to
    the test until it has its share of the items; two always stay for training, and of three one is tested. The others
    go to the fold that has fewest items of the class.

    Args:
        groups: (n,) int64, the group of each item, from 0.
        names: The key of each group.
        strata: (n,) int64, what is spread evenly: the class.
        seed: Of the hashes.
        share: Of the items that are tested.
        folds: How many folds.
        test: (number of groups,) bool sides that are given; only folds are dealt then.

    Returns:
        (number of groups,) bool sides and int64 folds.
    """
    count = len(names)
    sizes = np.bincount(groups, minlength=count)
    stratum = _most_frequent(groups, strata, count)
    rank = np.array([_unit(name, seed, "test") for name in names])
    order = np.lexsort((np.arange(count), rank, stratum))
    chosen = np.zeros(count, np.bool_) if test is None else test
    if test is None:
        for part in _runs(stratum[order]):
            _test(order[part], sizes, share, chosen)
    fold = np.zeros(count, np.int64)
    whole = np.zeros(folds, np.int64)
    for part in _runs(stratum[order]):
        here = np.zeros(folds, np.int64)
        for group in order[part].tolist():
            if not chosen[group]:
                to = int(np.lexsort((whole, here))[0])
                fold[group] = to
                here[to] += sizes[group]
                whole[to] += sizes[group]
    return chosen, fold


def _test(members: NDArray[np.int64], sizes: NDArray[np.int64], share: float, chosen: NDArray[np.bool_]) -> None:
    target, taken, count = share * int(sizes[members].sum()), 0, 0
    for group in members.tolist():
        size = int(sizes[group])
        if taken + size / 2 <= target and count < len(members) - 2:
            chosen[group] = True
            taken, count = taken + size, count + 1
    if not count and len(members) >= 3 and share > 0:
        chosen[members[int(np.argmin(sizes[members]))]] = True


def _most_frequent(groups: NDArray[np.int64], strata: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """The class that most items of each group are of; of equal ones the first."""
    pairs, times = np.unique(np.stack([groups, strata]), axis=1, return_counts=True)
    order = np.lexsort((pairs[1], -times, pairs[0]))
    first = np.unique(pairs[0][order], return_index=True)[1]
    found = np.zeros(count, np.int64)
    found[pairs[0][order][first]] = pairs[1][order][first]
    return found


def _runs(values: NDArray[np.int64]) -> list[slice]:
    starts = np.flatnonzero(np.diff(values, prepend=values[:1] - 1))
    ends = [*starts[1:].tolist(), len(values)]
    return [slice(a, b) for a, b in zip(starts.tolist(), ends, strict=True)]


def _unit(key: str, seed: int, purpose: str) -> float:
    """A number in [0, 1) that a text has for good."""
    return int(hashing.of_text(f"{purpose}\0{seed}\0{key}")[:13], 16) / 16**13
