"""A table as it was at a time, read from its history where the version of that time is no longer kept."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from featstore.errors import NotFoundError
from featstore.export.selection import Selected, Selection, absent, asked_ids, named_columns
from featstore.storage import frames
from featstore.tables import past, where
from featstore.tables.timeline import Timeline

if TYPE_CHECKING:
    from featstore.layout import Layout
    from featstore.tables import FeatureTable

__all__ = ["Remembered", "remembered"]

_BLOCK_BYTES = 32 << 20


@dataclass(frozen=True)
class Remembered(Selected):
    """Rows of a table and of its history, sorted by id.

    Attributes:
        timeline: The newest version with its history.
        numbers: (rows,) int64, the rows as the timeline numbers them.
    """

    timeline: Timeline
    numbers: NDArray[np.int64]

    def metadata(self) -> pa.Table:
        """``item_id`` and the columns."""
        return self.timeline.metadata(self.numbers, ["item_id", *self.columns])

    def blocks(self) -> Iterator[tuple[pa.Table, NDArray[np.float32]]]:
        """The rows and their vectors, in pieces of some 32 MiB."""
        step = max(1, _BLOCK_BYTES // (4 * self.table.dim))
        for start in range(0, len(self.numbers), step):
            numbers = self.numbers[start : start + step]
            yield self.timeline.metadata(numbers, ["item_id", *self.columns]), self.timeline.vectors(numbers)


def remembered(
    layout: Layout, table: FeatureTable, wanted: Selection, *, default: Sequence[str] | None = None
) -> Remembered | None:
    """Finds the rows that counted at a time; None where the version of that time is there, or nothing knows it.

    Args:
        layout: The store.
        table: The newest version that may be read.
        wanted: What to take; ``as_of`` is the time.
        default: The columns to take where none are named; all when None.

    Raises:
        NotFoundError: A column or an id is not there.
        UsageError: The expression or the time cannot be understood.
        IntegrityError: The history is damaged.
    """
    if wanted.as_of is None:
        return None
    when = past.moment(wanted.as_of)
    if datetime.fromisoformat(table.history()[-1].timestamp) > when:
        return None
    try:
        past.at_time(layout, table, when)
    except NotFoundError:
        timeline = Timeline.of(layout, table)
        return _selected(timeline, wanted, when, default) if timeline.reaches(when) else None
    return None


def _selected(timeline: Timeline, wanted: Selection, when: datetime, default: Sequence[str] | None) -> Remembered:
    table = timeline.table
    known = [name for name in table.column_names if name not in ("item_id", "embedding")]
    columns = list(known if default is None else default)
    if wanted.columns is not None:
        columns = named_columns(wanted.columns, known)
    asked = asked_ids(_everything(timeline) if wanted.ids is None else wanted.ids)
    ids = [str(item) for item in asked.to_pylist()]
    numbers = timeline.at(ids, np.full(len(ids), Timeline.micros(when), np.int64)).rows
    there = pa.chunked_array([asked.filter(pa.array(numbers >= 0))])
    numbers = numbers[numbers >= 0]
    missing = () if wanted.ids is None else absent(asked, there, table, allowed=wanted.allow_missing)
    if wanted.where is not None:
        needed = {"item_id", *where.columns_of(wanted.where, table.column_names)}
        numbers = numbers[where.picked(timeline.metadata(numbers, sorted(needed)), wanted.where)]
    return Remembered(
        table=table,
        columns=tuple(columns),
        keep=None,
        rows=len(numbers),
        missing=missing,
        as_of=when.isoformat().replace("+00:00", "Z"),
        timeline=timeline,
        numbers=numbers,
    )


def _everything(timeline: Timeline) -> list[str]:
    found = frames.strings(timeline.table.rows(["item_id"]), "item_id")
    if timeline.kept is not None:
        found += frames.strings(timeline.kept.rows(["item_id"]), "item_id")
    return found
