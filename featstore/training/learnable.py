"""Whether labelled items can be learned and measured: enough groups of every class, on both sides."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from featstore.errors import UsageError
from featstore.heads import bind
from featstore.settings import HeadSettings
from featstore.splits import Split
from featstore.training.dataset import Dataset

__all__ = ["at_odds", "both_sides", "learnable"]

# One group to test, and two to predict each from the other.
_LEAST_GROUPS = 3
_FEWEST = 6
_NAMED = 5


def learnable(
    data: Dataset, groups: NDArray[np.int64], settings: HeadSettings
) -> tuple[Dataset, NDArray[np.int64], list[str]]:
    """Refuses what cannot be learned and measured, with counts; or leaves rare classes out where that was asked.

    Args:
        data: The labelled items.
        groups: (n,) int64, what belongs together.
        settings: What was asked.

    Returns:
        The items that are left, their groups, and what a person should know.

    Raises:
        UsageError: There is a single class, one in too few groups, or groups that are the classes.
    """
    total = len(np.unique(groups))
    if data.task != "classification":
        if total < _FEWEST:
            raise UsageError(
                f"{len(data):,} labelled items are in {total} groups that belong together; at least {_FEWEST} are "
                "needed to learn from some and test on others.",
                hint="Label more items.",
            )
        return _known_labels(data, groups) if data.task == "multilabel" else (data, groups, [])
    if len(data.classes) < 2:
        raise UsageError(
            f"all {len(data):,} labelled items are {data.classes[0][:60]!r}; a head needs two classes at least.",
            hint="Label items of another class, or name another column with --label.",
        )
    pairs = np.unique(np.stack([data.truth, groups]), axis=1)
    of_class = np.bincount(pairs[0], minlength=len(data.classes))
    items = np.bincount(data.truth, minlength=len(data.classes))
    rare = of_class < _LEAST_GROUPS
    if not rare.any():
        return data, groups, []
    if data.group_column is not None and total <= len(data.classes):
        raise UsageError(
            f"the groups of column '{data.group_column}' are the classes: {total:,} groups of {len(data):,} items for "
            f"{len(data.classes):,} classes, so that no class could be both learned and tested.",
            hint="Name another column with --group; --group item_id groups nothing.",
        )
    named = _listed(data.classes, items, of_class, rare)
    if not settings.drop_rare or (~rare).sum() < 2:
        raise UsageError(
            f"{int(rare.sum()):,} of {len(data.classes):,} classes are in fewer than {_LEAST_GROUPS} groups of items "
            f"that belong together: {named}.",
            hint="Label more items of them, or leave those classes out with --drop-rare. "
            "Copies and near-duplicates count as one (--near-threshold).",
            context={"classes": [data.classes[at] for at in np.flatnonzero(rare).tolist()]},
        )
    kept = ~rare[data.truth]
    left = f"{int((~kept).sum()):,} items of {int(rare.sum()):,} rare classes are left out: {named}"
    return data.of(kept, ~rare), bind([str(g) for g in groups[kept].tolist()]), [left]


def _known_labels(data: Dataset, groups: NDArray[np.int64]) -> tuple[Dataset, NDArray[np.int64], list[str]]:
    few = data.truth.sum(axis=0) < _LEAST_GROUPS
    if not few.any():
        return data, groups, []
    return data, groups, [f"{int(few.sum()):,} of {len(data.classes):,} labels are on fewer than {_LEAST_GROUPS} items"]


def _listed(
    classes: Sequence[str], items: NDArray[np.int64], groups: NDArray[np.int64], which: NDArray[np.bool_]
) -> str:
    at = sorted(np.flatnonzero(which).tolist(), key=lambda c: (groups[c], classes[c]))
    named = [f"{classes[c][:60]!r} ({items[c]:,} items, {groups[c]:,} groups)" for c in at[:_NAMED]]
    return ", ".join(named) + (f" and {len(at) - _NAMED:,} more" if len(at) > _NAMED else "")


def both_sides(
    data: Dataset, groups: NDArray[np.int64], split: Split, settings: HeadSettings
) -> tuple[Dataset, NDArray[np.int64], Split, list[str]]:
    """Refuses a split that leaves nothing to learn from or to test on, or a class with nothing to learn from.

    Returns:
        The items that are left, their groups and sides, and what a person should know.

    Raises:
        UsageError: A side, or the training side of a class, is empty.
    """
    train, test = int(split.train.sum()), int(split.test.sum())
    if not train or not test or len(np.unique(split.fold[split.train])) < 2:
        raise UsageError(
            f"the split leaves {train:,} items to learn from and {test:,} to test on, of {len(data):,} labelled ones.",
            hint="Label more items, or make another split of those there are: --new-split",
        )
    if data.task != "classification":
        return data, groups, split, []
    learnt = np.bincount(data.truth[split.train], minlength=len(data.classes)) > 0
    if learnt.all():
        return data, groups, split, []
    items = np.bincount(data.truth, minlength=len(data.classes))
    bound = np.array([len(np.unique(groups[data.truth == c])) for c in range(len(data.classes))], np.int64)
    named = _listed(data.classes, items, bound, ~learnt)
    if not settings.drop_rare or learnt.sum() < 2:
        raise UsageError(
            f"{int((~learnt).sum()):,} of {len(data.classes):,} classes have no item on the training side: {named}.",
            hint="Label more items of them, leave them out with --drop-rare, or make another split: --new-split",
        )
    kept = learnt[data.truth]
    part = replace(split, test=split.test[kept], fold=split.fold[kept], excluded=split.excluded[kept])
    return data.of(kept, learnt), groups[kept], part, [f"classes without a training item are left out: {named}"]


def at_odds(data: Dataset) -> list[str]:
    """Says how many items of equal content are labelled differently."""
    if data.task != "classification":
        return []
    seen: dict[str, set[int]] = {}
    for content, label in zip(data.contents, data.truth.tolist(), strict=True):
        seen.setdefault(content, set()).add(label)
    count = Counter(data.contents)
    torn = [content for content, labels in seen.items() if len(labels) > 1]
    if not torn:
        return []
    return [f"{sum(count[c] for c in torn):,} items of equal content ({len(torn):,}) have different labels"]
