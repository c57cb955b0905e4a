"""Which side labelled items are on by the split that is kept: what is new is dealt in, nothing is dealt anew.

Nearness is looked at for new items only, against all others: what the split has seen stays where it was.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from featstore.errors import UsageError
from featstore.extract.progress import Reporter
from featstore.heads import bind
from featstore.layout import Layout
from featstore.neighbours import nearest_others
from featstore.records import SplitRecord
from featstore.settings import HeadSettings
from featstore.splits import Items, Kept, assign, locked, read, write
from featstore.tables import FeatureTable
from featstore.training import beyond
from featstore.training.dataset import Dataset, gather

__all__ = ["Standing", "standing"]

# Neighbours of a new item that are looked at; those of one group hang together, so that few are enough.
_NEIGHBOURS = 10


@dataclass(frozen=True)
class Standing:
    """Labelled items and their sides.

    Attributes:
        data: The items, in the order of ``item_id``.
        train: (n,) bool, those to learn from.
        test: (n,) bool, those to test on.
        fold: (n,) int64, the fold of an item to learn from; -1 for others.
        groups: (n,) int64, what belongs together.
        record: How the split came about.
    """

    data: Dataset
    train: NDArray[np.bool_]
    test: NDArray[np.bool_]
    fold: NDArray[np.int64]
    groups: NDArray[np.int64]
    record: SplitRecord


def standing(layout: Layout, table: FeatureTable, settings: HeadSettings, reporter: Reporter) -> Standing:
    """Finds the sides of a table's labelled items; those of new ones are written down.

    Raises:
        NotFoundError: The label's column or file is not there, or the table is empty.
        UsageError: The labels cannot be used, or no split is kept for them.
        IntegrityError: The table or the split is damaged.
    """
    reporter.stage("reading labels")
    data = gather(layout, [table], settings)
    with locked(layout, table.name, settings.label):
        kept = read(layout, table.name, settings.label)
        if kept is None:
            raise UsageError(
                f"'{table.name}' has no split for '{settings.label}' any more, so nothing says what to test on.",
                hint=f"Make another by training: featstore train-head {table.name} --label {settings.label}",
            )
        groups = _groups(table, data, kept, settings, reporter)
        sides = None if kept.record.origin == "made" else data.sides
        strata = np.zeros(len(data), np.int64)
        items = Items(data.ids, data.contents, data.names, groups, strata, sides)
        split = assign(items, kept.record, kept, allow_leakage=settings.allow_leakage)
        if split.added:
            write(layout, split.kept)
    return Standing(data, split.train, split.test, split.fold, groups, split.kept.record)


def _groups(
    table: FeatureTable, data: Dataset, kept: Kept, settings: HeadSettings, reporter: Reporter
) -> NDArray[np.int64]:
    """What belongs together: by name, content and text, as the split has it, and new items with what is near them."""
    columns = (kept.rows[name].to_pylist() for name in ("item_id", "content_sha256", "group"))
    known = {(item, content): group for item, content, group in zip(*columns, strict=True)}
    seen = [known.get(pair) for pair in zip(data.ids, data.contents, strict=True)]
    keys: list[Sequence[str | None]] = [data.names, data.contents, data.parents]
    keys.append([None if group is None else str(group) for group in seen])
    new = np.flatnonzero([group is None for group in seen])
    threshold = kept.record.near_threshold
    if len(new) and threshold is not None and _fit(table, data, settings):
        reporter.stage("looking for near-duplicates", len(new))
        keys.append([str(group) for group in _near(table.vectors_at(data.rows[0]), new, threshold).tolist()])
    return bind(*keys)


def _fit(table: FeatureTable, data: Dataset, settings: HeadSettings) -> bool:
    """Whether the vectors have room in memory; if not, a training would pass over near-duplicates as well."""
    return not beyond.needed([table], len(data), replace(settings, kind="torch-linear"))


def _near(vectors: NDArray[np.float32], new: NDArray[np.int64], threshold: float) -> NDArray[np.int64]:
    """(n,) int64: one number for items that are near each other, where one of them is new."""
    near, cosines = nearest_others(vectors, new, _NEIGHBOURS)
    close = cosines >= threshold
    one, other = np.repeat(new, close.sum(axis=1)), near[close]
    label = np.arange(len(vectors))
    while (label[one] != label[other]).any():
        least = np.minimum(label[one], label[other])
        np.minimum.at(label, one, least)
        np.minimum.at(label, other, least)
    return label
