"""The items that a head is trained on: those with a label whose vectors every table has, in the order of their ids."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featstore.errors import NotFoundError, UsageError
from featstore.heads.fitting import weigh
from featstore.labels import Labels, from_file, from_table, truth_of
from featstore.labels.column import texts
from featstore.layout import Layout
from featstore.records import HeadTask, SourceRecord
from featstore.settings import HeadSettings
from featstore.splits import sides_of
from featstore.storage import documents, frames
from featstore.tables import FeatureTable, where

__all__ = ["Dataset", "gather"]

# Columns that an extract made for just this, used where nothing else is named.
_GROUP, _SPLIT, _PARENT = "group", "split", "parent"


@dataclass(frozen=True)
class Dataset:
    """n labelled items in the order of ``item_id``.

    Attributes:
        ids: Their ids.
        contents: Their contents' hashes.
        task: What is predicted.
        classes: The classes in order; none for regression.
        truth: (n,) class numbers, (n, c) bool or (n,) values.
        names: What the user calls the group of each; None for none.
        parents: The text that a chunk is of; None for what is no chunk.
        sides: Whether each is tested, where a column says it.
        group_column: The column that the names are from.
        split_column: The column that the sides are from.
        rows: For each table (n,) int64, the items' rows.
        labels: What was given.
        unlabelled: Items of the table, picked by ``--where``, that have no label.
        warnings: What a person should know.
    """

    ids: list[str]
    contents: list[str]
    task: HeadTask
    classes: tuple[str, ...]
    truth: NDArray[Any]
    names: list[str | None]
    parents: list[str | None]
    sides: list[bool | None] | None
    group_column: str | None
    split_column: str | None
    rows: tuple[NDArray[np.int64], ...]
    labels: Labels
    unlabelled: int
    warnings: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.ids)

    def of(self, which: NDArray[np.bool_], classes: NDArray[np.bool_] | None = None) -> Dataset:
        """The same for some of the items, and with some of the classes only."""
        at = np.flatnonzero(which).tolist()
        truth = self.truth[which]
        if classes is not None:
            truth = truth[:, classes] if truth.ndim == 2 else (np.cumsum(classes) - 1)[truth]
        return replace(
            self,
            ids=[self.ids[i] for i in at],
            contents=[self.contents[i] for i in at],
            truth=truth,
            classes=self.classes
            if classes is None
            else tuple(name for name, kept in zip(self.classes, classes.tolist(), strict=True) if kept),
            names=[self.names[i] for i in at],
            parents=[self.parents[i] for i in at],
            sides=None if self.sides is None else [self.sides[i] for i in at],
            rows=tuple(rows[which] for rows in self.rows),
        )


def gather(layout: Layout, tables: Sequence[FeatureTable], settings: HeadSettings) -> Dataset:
    """Joins labels to the items of one table, or to those that several tables share.

    Args:
        layout: The store.
        tables: The tables; labels, groups and sides are those of the first.
        settings: What was asked.

    Raises:
        NotFoundError: A column or file is not there, or the table is empty.
        UsageError: The labels cannot be used, or nothing is labelled.
        IntegrityError: A table is damaged.
    """
    first = tables[0]
    if not len(first):
        raise NotFoundError(f"table '{first.name}' is empty; there is nothing to learn from.")
    labels = _labels(layout, first, settings)
    wanted = np.array([value is not None for value in labels.values], np.bool_)
    picked = np.ones(len(labels), np.bool_)
    if settings.where is not None:
        columns = where.columns_of(settings.where, first.column_names)
        picked = where.picked(first.rows(columns or ["item_id"]), settings.where)
    rows = first.rows(["item_id", "content_sha256"])
    ids, contents = frames.strings(rows, "item_id"), frames.strings(rows, "content_sha256")
    shared, missing = _shared(tables, ids, contents, wanted & picked)
    order = np.array(sorted(np.flatnonzero(shared).tolist(), key=lambda row: ids[row]), np.int64)
    said = f"--labels {settings.labels}" if settings.labels else f"--label {settings.label}"
    if not len(order):
        what = "picked by --where " if settings.where else ""
        raise UsageError(
            f"{said}: none of {int(picked.sum()):,} items {what}has a label"
            + (" and is in every table." if len(tables) > 1 else "."),
            hint="Name the labels with --label COLUMN, or give a file: --labels FILE.csv",
        )
    truth = truth_of(
        [labels.values[row] for row in order.tolist()], task=settings.task, separator=settings.separator, where=said
    )
    _check(truth.task, settings)
    names, group = _column(first, settings.group, _GROUP, "--group")
    words, split = _column(first, settings.split, _SPLIT, "--split")
    parents = texts(first, _PARENT, flag="parent") if _PARENT in first.column_names else [None] * len(ids)
    at = order.tolist()
    sides, ignored = _sides([words[row] for row in at], split, asked=settings.split is not None)
    warnings = [*labels.warnings(), *truth.notes, *ignored]
    if missing:
        warnings.append(f"{missing:,} labelled items are not in every table with the same content and are left out")
    return Dataset(
        ids=[ids[row] for row in at],
        contents=[contents[row] for row in at],
        task=truth.task,
        classes=truth.classes,
        truth=truth.values,
        names=[names[row] for row in at],
        parents=[parents[row] for row in at],
        sides=sides,
        group_column=group,
        split_column=None if sides is None else split,
        rows=tuple(_places(table, first, ids, order) for table in tables),
        labels=labels,
        unlabelled=int((picked & ~wanted).sum()),
        warnings=tuple(warnings),
    )


def _check(task: HeadTask, settings: HeadSettings) -> None:
    weigh(settings.class_weights, task)
    if settings.shots and task != "classification":
        raise UsageError(
            f"--shots: so many labels of each class are drawn; the labels make a {task}.", hint="Leave the option out."
        )


def _labels(layout: Layout, table: FeatureTable, settings: HeadSettings) -> Labels:
    if settings.labels is None:
        return from_table(table, settings.label)
    source = documents.find(layout.storage, layout.source(table.name), SourceRecord)
    return from_file(settings.labels, table, settings.label, root=None if source is None else source.uri)


def _shared(
    tables: Sequence[FeatureTable], ids: list[str], contents: list[str], wanted: NDArray[np.bool_]
) -> tuple[NDArray[np.bool_], int]:
    """Which rows of the first table every table has with the same content, and how many wanted ones not."""
    there = wanted.copy()
    for table in tables[1:]:
        rows = table.rows(["item_id", "content_sha256"])
        known = dict(zip(frames.strings(rows, "item_id"), frames.strings(rows, "content_sha256"), strict=True))
        there &= np.array([known.get(i) == c for i, c in zip(ids, contents, strict=True)], np.bool_)
    return there, int(wanted.sum() - there.sum())


def _places(table: FeatureTable, first: FeatureTable, ids: list[str], order: NDArray[np.int64]) -> NDArray[np.int64]:
    return order if table is first else table.find([ids[row] for row in order.tolist()])


def _column(table: FeatureTable, named: str | None, usual: str, flag: str) -> tuple[list[str | None], str | None]:
    column = named or (usual if usual in table.column_names else None)
    if column is None:
        return [None] * len(table), None
    return texts(table, column, flag=flag), column


def _sides(words: list[str | None], column: str | None, *, asked: bool) -> tuple[list[bool | None] | None, list[str]]:
    if column is None or (not asked and not any(words)):
        return None, []
    try:
        return sides_of(words, column), []
    except UsageError as error:
        if asked:
            raise
        return None, [f"the column '{column}' is not used as the split: {error.message}"]
