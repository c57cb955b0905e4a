"""From labelled items to sides: what belongs together, which classes can be learned, and the split that is kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import numpy as np
from numpy.typing import NDArray

from featstore.errors import UsageError
from featstore.heads import bind
from featstore.layout import Layout
from featstore.records import SplitRecord
from featstore.settings import HeadSettings
from featstore.splits import Items, Kept, Split, assign, locked, read, write
from featstore.training.dataset import Dataset
from featstore.training.learnable import at_odds, both_sides, learnable

__all__ = ["Division", "divide"]

# Parts of a range of values that are spread evenly.
_BINS = 10

# How a split is made where nothing else is said.
_TEST_SHARE = 0.2
_FOLDS = 5


@dataclass(frozen=True)
class Division:
    """Labelled items and their sides; items of classes that were dropped are gone.

    ``groups`` (n,) int64 is what belongs together, numbered from 0.
    """

    data: Dataset
    split: Split
    groups: NDArray[np.int64]
    warnings: tuple[str, ...]

    @property
    def record(self) -> SplitRecord:
        """How the split came about."""
        return self.split.kept.record


def divide(
    layout: Layout,
    table: str,
    data: Dataset,
    near: Sequence[NDArray[np.int64]],
    settings: HeadSettings,
    *,
    threshold: float | None,
    keep: bool = True,
) -> Division:
    """Binds what belongs together and gives every item its side, the one that it has had before if it has.

    Args:
        layout: The store.
        table: The name of the table that the split is kept for.
        data: The labelled items.
        near: For each table (n,) int64, the groups of items that are near in its space.
        settings: What was asked.
        threshold: The cosine from which items were near, for the record.
        keep: Write the split down.

    Raises:
        UsageError: There is a single class, too few groups, or a split that is not the one asked for.
        GateError: A given split leaks.
        IntegrityError: The kept split is damaged.
    """
    groups = bind(data.names, data.contents, data.parents, *([str(g) for g in one.tolist()] for one in near))
    data, groups, warnings = learnable(data, groups, settings)
    items = Items(data.ids, data.contents, data.names, groups, _strata(data), data.sides)
    with locked(layout, table, settings.label):
        before = read(layout, table, settings.label)
        folds = max(2, min(settings.folds or _FOLDS, len(np.unique(groups)) // 2))
        warnings += _same_terms(before, data, folds, settings)
        kept = None if settings.new_split else before
        record = _record(table, data, folds, settings, before, threshold)
        if kept is not None and kept.record.origin == "made":
            items = replace(items, sides=None)
        split = assign(items, record, kept, allow_leakage=settings.allow_leakage)
        if keep and (kept is None or split.added):
            write(layout, split.kept)
    data, groups, split, dropped = both_sides(data, groups, split, settings)
    if settings.new_split and before is not None:
        warnings.append("a new split: figures on its test items cannot be compared with earlier ones")
    if split.leakage:
        warnings.append(
            f"leakage: {split.leakage:,} training items belong together with test items, so the figures are too good"
        )
    if split.near:
        warnings.append(
            f"{split.near:,} training items are left out, since they belong together with test items by what this "
            "training knows; --new-split makes a split that has them whole"
        )
    return Division(data, split, groups, (*warnings, *dropped, *at_odds(data)))


def _record(
    table: str,
    data: Dataset,
    folds: int,
    settings: HeadSettings,
    before: Kept | None,
    threshold: float | None,
) -> SplitRecord:
    # The seed of an earlier split would make that split again, its test items well known.
    seed = settings.seed if before is None else max(settings.seed, before.record.seed + 1)
    return SplitRecord(
        split_id="",
        table=table,
        label=settings.label,
        origin=data.split_column or "made",
        seed=seed,
        test_share=settings.test_share or _TEST_SHARE,
        folds=folds,
        group_column=data.group_column,
        near_threshold=threshold,
        scored=(),
        created_ts=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def _same_terms(before: Kept | None, data: Dataset, folds: int, settings: HeadSettings) -> list[str]:
    """What of the kept split is not as it would be made now."""
    if before is None or settings.new_split:
        return []
    record = before.record
    origin = data.split_column or "made"
    again = "Say --new-split to replace it; figures on its test items cannot be compared with earlier ones then."
    if settings.split is not None and record.origin != settings.split:
        how = "made by featstore" if record.origin == "made" else f"the column '{record.origin}'"
        raise UsageError(
            f"--split {settings.split}: '{record.table}' has a split for '{record.label}' already, {how}.", hint=again
        )
    found = []
    if origin != record.origin and record.origin == "made":
        found.append(f"the column '{origin}' is not used: this label has a split already (--new-split)")
    if data.group_column != record.group_column and data.group_column is not None:
        found.append(f"groups are named by '{data.group_column}' now, which the split did not know (--new-split)")
    if record.origin == "made":
        if settings.test_share is not None and settings.test_share != record.test_share:
            asked = f"a test share of {settings.test_share:g}"
            found.append(f"{asked} is not used: this label has a split already, of {record.test_share:g} (--new-split)")
        if settings.folds is not None and folds != record.folds:
            found.append(f"{folds} folds are not used: this label has a split already, of {record.folds} (--new-split)")
    return found


def _strata(data: Dataset) -> NDArray[np.int64]:
    """What is spread evenly: the class, the rarest label, or the tenth of the values."""
    if data.task == "classification":
        return np.asarray(data.truth, np.int64)
    if data.task == "regression":
        ranks = np.argsort(np.argsort(data.truth, kind="stable"), kind="stable")
        return np.asarray(ranks * _BINS // max(1, len(data)), np.int64)
    often = data.truth.sum(axis=0)
    by_rarity = np.argsort(often, kind="stable")
    first = data.truth[:, by_rarity].argmax(axis=1)
    return np.where(data.truth.any(axis=1), by_rarity[first], len(often)).astype(np.int64)
