"""What of a table is written out: a version, some rows, some columns."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from featstore.errors import IntegrityError, NotFoundError, UsageError
from featstore.layout import Layout
from featstore.tables import FeatureTable, past, where

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Selected", "Selection", "absent", "asked_ids", "named_columns", "select"]

# Columns that no export leaves out, and that so need not be named.
_ALWAYS = ("item_id", "embedding")

_BLOCK_BYTES = 32 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """Which rows and columns; without anything set, all of them.

    Attributes:
        where: A Polars SQL expression over the columns beside the vectors.
        ids: The items to take.
        allow_missing: Leave out ids that the table does not hold, rather than refuse.
        as_of: Take the newest version of that time, and only rows with max(event_ts, created_ts) at or before it.
        columns: The columns beside ``item_id`` and ``embedding``; a default for the format when None.
    """

    where: str | None = None
    ids: Sequence[str] | None = None
    allow_missing: bool = False
    as_of: str | datetime | None = None
    columns: Sequence[str] | None = None


@dataclass(frozen=True)
class Selected:
    """Rows and columns of one version, found but not read yet.

    Attributes:
        table: The version.
        columns: The columns between ``item_id`` and the vectors.
        keep: For each data file which rows are taken; None for all.
        rows: How many are.
        missing: Ids that were asked for and are not there, sorted.
        as_of: The time that was asked for, ISO 8601 in UTC.
    """

    table: FeatureTable
    columns: tuple[str, ...]
    keep: Mapping[str, NDArray[np.bool_]] | None
    rows: int
    missing: tuple[str, ...]
    as_of: str | None

    def metadata(self) -> pa.Table:
        """``item_id`` and the columns, of the taken rows."""
        found = self.table.rows(["item_id", *self.columns])
        if self.keep is not None:
            masks = [self.keep[file] for file in self.table.files]
            found = found.filter(pa.array(np.concatenate(masks) if masks else np.zeros(0, np.bool_)))
        return found.drop_columns(["_file", "_row"])

    def blocks(self) -> Iterator[tuple[pa.Table, NDArray[np.float32]]]:
        """The taken rows and their vectors, in pieces of some 32 MiB, however few rows of each file are taken."""
        waiting: list[tuple[pa.Table, NDArray[np.float32]]] = []
        for rows, vectors in self.table.stream(["item_id", *self.columns], self.keep):
            waiting.append((rows, vectors))
            if sum(found.nbytes + at.nbytes for found, at in waiting) >= _BLOCK_BYTES:
                yield _joined(waiting)
                waiting = []
        if waiting:
            yield _joined(waiting)


def select(layout: Layout, table: FeatureTable, wanted: Selection, *, default: Sequence[str] | None = None) -> Selected:
    """Finds the rows and columns.

    Args:
        layout: The store.
        table: A version; with ``as_of`` the newest that may be taken.
        wanted: What to take.
        default: The columns to take where none are named; all when None.

    Raises:
        NotFoundError: A column or an id is not there, or there was no version at that time.
        UsageError: The expression or the time cannot be understood.
        IntegrityError: An id occurs twice.
    """
    as_of = None if wanted.as_of is None else past.moment(wanted.as_of)
    if as_of is None:
        past.check_kept(layout, table)
    else:
        table = past.at_time(layout, table, as_of)
    known = [name for name in table.column_names if name not in _ALWAYS]
    columns = list(known if default is None else default)
    if wanted.columns is not None:
        columns = named_columns(wanted.columns, known)
    needed = {"item_id"}
    if wanted.where is not None:
        needed |= set(where.columns_of(wanted.where, table.column_names))
    if as_of is not None:
        needed |= {"event_ts", "created_ts"}
    rows = table.rows(sorted(needed))
    _check_unique(rows, table)
    mask = np.ones(rows.num_rows, np.bool_)
    missing: tuple[str, ...] = ()
    if wanted.ids is not None:
        asked = asked_ids(wanted.ids)
        missing = absent(asked, rows["item_id"], table, allowed=wanted.allow_missing)
        mask &= pc.is_in(rows["item_id"], value_set=asked).to_numpy()
    if as_of is not None:
        mask &= _not_after(rows["event_ts"], as_of) & _not_after(rows["created_ts"], as_of)
    if wanted.where is not None:
        mask &= where.picked(rows.drop_columns(["_file", "_row"]), wanted.where)
    return Selected(
        table=table,
        columns=tuple(columns),
        keep=None if mask.all() else _by_file(rows, mask, table),
        rows=int(mask.sum()),
        missing=missing,
        as_of=None if as_of is None else as_of.isoformat().replace("+00:00", "Z"),
    )


def named_columns(named: Sequence[str], known: Sequence[str]) -> list[str]:
    """The columns that were named, without those that no export leaves out.

    Raises:
        NotFoundError: There is no such column; the nearest is named.
    """
    wanted = [name for name in dict.fromkeys(named) if name not in _ALWAYS]
    for name in wanted:
        if name not in known:
            raise where.nearest_column(name, known, asked="--columns")
    return wanted


def _check_unique(rows: pa.Table, table: FeatureTable) -> None:
    distinct = pc.count_distinct(rows["item_id"]).as_py()
    if distinct != rows.num_rows:
        raise IntegrityError(
            f"{rows.num_rows - distinct} item_ids occur more than once in {table.path}.",
            hint="Another program has written to the table; open an earlier version and extract again.",
        )


def _not_after(times: pa.ChunkedArray[Any], when: datetime) -> NDArray[np.bool_]:
    """Where a time is at or before another, or not known."""
    found: Any = pc.less_equal(times, pa.scalar(when, times.type))
    return np.asarray(found.fill_null(True).to_numpy(), np.bool_)


def asked_ids(wanted: Sequence[str]) -> pa.Array[Any]:
    """Ids as a sorted array, each once.

    Raises:
        UsageError: They are no texts.
    """
    try:
        return pa.array(sorted(set(wanted)), pa.string())
    except (pa.ArrowException, TypeError, UnicodeError) as error:
        raise UsageError(f"ids are texts, as the item_id column holds them: {error}.") from error


def absent(asked: pa.Array[Any], ids: pa.ChunkedArray[Any], table: FeatureTable, *, allowed: bool) -> tuple[str, ...]:
    """The ids that were asked for and are not among those that are there.

    Raises:
        NotFoundError: There are some, and they are not allowed.
    """
    there = pc.is_in(asked, value_set=ids.combine_chunks())
    missing = tuple(str(value) for value in asked.filter(pc.invert(there)).to_pylist())
    if missing and not allowed:
        first = ", ".join(repr(item) for item in missing[:5]) + (", …" if len(missing) > 5 else "")
        raise NotFoundError(
            f"{len(missing):,} of {len(asked):,} ids are not in version {table.version} of '{table.name}': {first}.",
            hint="Ids are the item_id column, one a line. To leave these out: --allow-missing",
        )
    return missing


def _by_file(rows: pa.Table, mask: NDArray[np.bool_], table: FeatureTable) -> dict[str, NDArray[np.bool_]]:
    """Cuts a mask over all rows into one for each file; ``rows()`` gives whole files in the order of ``files``."""
    begins = np.flatnonzero(rows["_row"].to_numpy() == 0)
    names = rows["_file"].take(begins).to_pylist()
    pieces = dict(zip(map(str, names), np.split(mask, begins[1:]), strict=True))
    return {file: pieces.get(file, np.zeros(0, np.bool_)) for file in table.files}


def _joined(found: list[tuple[pa.Table, NDArray[np.float32]]]) -> tuple[pa.Table, NDArray[np.float32]]:
    if len(found) == 1:
        return found[0]
    return pa.concat_tables([rows for rows, _ in found]), np.concatenate([vectors for _, vectors in found])
