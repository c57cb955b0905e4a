"""Folds for cross-validation: stratified by label, and what belongs together in one fold.

An item whose twin was trained on is no test. So items of one group (a product, a patient, a video) and
items of equal content share a fold.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

__all__ = ["bind", "fold", "judges", "rare"]


def bind(*keys: Sequence[str | None]) -> NDArray[np.int64]:
    """Groups items that share a value of any key, directly or through others.

    Args:
        *keys: For each key one value an item, such as its group and its content's hash; None binds nothing.

    Returns:
        (n,) int64, the group of each item, numbered from 0 in the order of their first items.

    Raises:
        ValueError: The keys have different lengths.
    """
    count = len(keys[0]) if keys else 0
    if any(len(values) != count for values in keys):
        raise ValueError(f"keys of different lengths: {[len(values) for values in keys]}")
    parent = list(range(count))

    def root(item: int) -> int:
        while parent[item] != item:
            parent[item] = parent[parent[item]]
            item = parent[item]
        return item

    for values in keys:
        first: dict[str, int] = {}
        for item, value in enumerate(values):
            if value is not None:
                a, b = root(first.setdefault(value, item)), root(item)
                parent[max(a, b)] = min(a, b)
    numbers: dict[int, int] = {}
    return np.array([numbers.setdefault(root(item), len(numbers)) for item in range(count)], np.int64)


def rare(labels: Sequence[str], groups: NDArray[np.int64], folds: int) -> dict[str, int]:
    """Classes that cannot be in every fold, because they have fewer groups than there are folds.

    Args:
        labels: n classes.
        groups: (n,) int64, as ``bind`` gives them.
        folds: The number of folds.

    Returns:
        Each such class with its number of items.
    """
    members: dict[str, set[int]] = {}
    counts: dict[str, int] = {}
    for label, group in zip(labels, groups.tolist(), strict=True):
        members.setdefault(label, set()).add(group)
        counts[label] = counts.get(label, 0) + 1
    return {label: counts[label] for label in sorted(members) if len(members[label]) < folds}


def fold(labels: NDArray[np.int64], groups: NDArray[np.int64], folds: int, *, seed: int = 0) -> NDArray[np.int64]:
    """Deals items out to folds: each group whole, each class as evenly as the groups allow.

    Args:
        labels: (n,) int64 classes, each with at least ``folds`` groups.
        groups: (n,) int64, as ``bind`` gives them.
        folds: How many folds.
        seed: Of the shuffling.

    Returns:
        (n,) int64, the fold of each item, from 0; the same for the same arguments.
    """
    from sklearn.model_selection import StratifiedGroupKFold

    found = np.zeros(len(labels), np.int64)
    splitter = StratifiedGroupKFold(n_splits=folds, shuffle=True, random_state=seed)
    for number, (_, test) in enumerate(splitter.split(np.zeros((len(labels), 1)), labels, groups)):
        found[test] = number
    return found


def judges(folds: NDArray[np.int64]) -> NDArray[np.int64]:
    """The folds that hold items, as they are taken where not all can judge.

    Large groups can leave a fold with next to nothing, which says nothing of the others: one with less than half of
    what would be even comes last.

    Args:
        folds: (n,) int64, the fold of each item.

    Returns:
        (m,) int64 numbers, ascending among the full ones and among the others.
    """
    numbers, counts = np.unique(folds, return_counts=True)
    return np.asarray(numbers[np.argsort(2 * counts * len(numbers) < len(folds), kind="stable")], np.int64)
