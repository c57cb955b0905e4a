"""The ids of a whole table: gathered file by file, and looked at for one that is missing or occurs twice."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from featstore.errors import IntegrityError
from featstore.layout import Layout
from featstore.storage import Stat, hashing
from featstore.tables import checked

__all__ = ["Ids", "duplicates"]

# Strings are made in one go, while no other thread can run; those of a whole table are too many for that.
_STRINGS_AT_ONCE = 8192


class Ids:
    """Takes the ids of a version's files, in their order."""

    def __init__(self, rows: int) -> None:
        self.items: NDArray[np.object_] = np.empty(rows, object)
        self._chunks: list[pa.Array[Any]] = []
        self._marks: list[list[Any]] = []
        self._done = 0

    def add(self, path: str, stat: Stat, column: pa.ChunkedArray[Any]) -> None:
        """Takes the ids of the next file, with what shows that it is still the same."""
        for chunk in column.chunks:
            self._chunks.append(chunk)
            for start in range(0, len(chunk), _STRINGS_AT_ONCE):
                made = chunk.slice(start, _STRINGS_AT_ONCE).to_numpy(zero_copy_only=False)
                self.items[self._done : self._done + len(made)] = made
                self._done += len(made)
        self._marks.append([path, stat.size, stat.mtime_ns, stat.inode, stat.ctime_ns])

    def check(self, layout: Layout, folder: str) -> None:
        """Looks through the ids of all files.

        Raises:
            IntegrityError: One occurs twice or is null.
        """
        column = pa.chunked_array(self._chunks, pa.string())
        where = layout.storage.local(folder)
        if column.null_count:
            raise IntegrityError(f"{column.null_count} rows of {where} have no item_id.")
        # Once looked at, the same files cannot come to hold an id twice.
        marks = hashing.of_json(self._marks)
        if checked.distinct(layout, folder) == marks:
            return
        if _distinct(column) != len(column):
            raise _twice(column, where)
        checked.remember(layout, {}, distinct=(folder, marks))


def duplicates(column: pa.ChunkedArray[Any]) -> list[str]:
    """The values that occur more than once."""
    import pyarrow.compute as pc

    counts = pc.value_counts(column)
    twice = counts.filter(pc.greater(counts.field("counts"), pa.scalar(1)))
    return [str(value) for value in twice.field("values").to_pylist()]


def _twice(column: pa.ChunkedArray[Any], where: Path) -> IntegrityError:
    found = duplicates(column)
    return IntegrityError(
        f"{len(found)} item_ids occur more than once in {where}, the first is {found[0]!r}.",
        hint="Another program has written to the table; open an earlier version and extract again.",
    )


def _distinct(column: pa.ChunkedArray[Any]) -> int:
    import polars as pl  # counts three times as fast as pyarrow

    series = pl.from_arrow(column)
    return series.n_unique() if isinstance(series, pl.Series) else 0
