"""Reads a few rows of a version by their numbers: of each file only the row groups, of a group only the pages."""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from featstore.errors import NotFoundError
from featstore.tables import checked
from featstore.tables.vectors import fill, gather

if TYPE_CHECKING:
    from featstore.storage import Stat
    from featstore.tables.entries import LiveFile
    from featstore.tables.footer import DataFile
    from featstore.tables.reading import Reader

__all__ = ["Verified", "find", "locate", "rows_at", "vectors_at"]

_SPARSE = 8
# So many rows are taken one by one.
_FEW = 32

_IDS_AT_ONCE = 1_000_000


class Verified:
    """Row groups that have passed their checksums in this process, by file.

    A file is remembered in the store once the whole of it has passed; a search reads a group here and there.
    """

    def __init__(self) -> None:
        self._groups: dict[str, tuple[Stat, set[int]]] = {}

    def has(self, path: str, stat: Stat, group: int) -> bool:
        """Whether a row group of an unchanged file has passed."""
        before, groups = self._groups.get(path, (None, set[int]()))
        return before == stat and group in groups

    def add(self, path: str, stat: Stat, group: int) -> int:
        """Adds a row group; returns how many of the file have passed now."""
        before, groups = self._groups.get(path, (None, set[int]()))
        if before != stat:
            groups = set()
        self._groups[path] = (stat, {*groups, group})
        return len(groups | {group})


def rows_at(reader: Reader, rows: NDArray[np.int64], names: Sequence[str] | None) -> pa.Table:
    """As ``FeatureTable.rows_at``."""
    wanted = reader.readable(names)
    unique, back = _distinct(_numbers(rows))
    tables = []
    for live, places in _by_file(reader, unique):
        with reader.opening(live) as file:
            for group, inside in _by_group(file, places):
                tables.append(_taken(reader.read_group(file, wanted, group), inside))
    schema = pa.schema([reader.schema.field(name) for name in wanted])
    if not tables:
        return schema.empty_table()
    return _taken(pa.concat_tables(tables), back)


def vectors_at(reader: Reader, rows: NDArray[np.int64]) -> NDArray[np.float32]:
    """As ``FeatureTable.vectors_at``."""
    unique, back = _distinct(_numbers(rows))
    out = np.empty((len(unique), reader.dim), np.float32)
    known = checked.recall(reader.layout) if len(unique) else {}
    done = 0
    for live, places in _by_file(reader, unique):
        path = reader.path(live)
        with reader.opening(live) as file:
            passed = known.get(path) == file.stat
            for group, inside in _by_group(file, places):
                part = out[done : done + len(inside)]
                done += len(inside)
                safe = passed or reader.verified.has(path, file.stat, group)
                if safe and file.ours and len(inside) < file.chunks[group].rows // _SPARSE:
                    part[:] = gather(file.only(group), inside, reader.dim)
                    continue
                whole = np.empty((file.chunks[group].rows, reader.dim), np.float32)
                fill(whole, [(file.only(group), 0, not safe)])
                part[:] = whole[inside]
                if not safe and reader.verified.add(path, file.stat, group) == len(file.chunks):
                    checked.remember(reader.layout, {path: file.stat})
    return out if np.array_equal(back, np.arange(len(out))) else out[back]


def locate(reader: Reader, ids: Sequence[str], names: Sequence[str]) -> pa.Table:
    """As ``FeatureTable.locate``."""
    wanted = reader.readable(names)
    known = list(filter(_encodable, dict.fromkeys(ids)))
    asked, raw = pa.array(known, pa.string()), sorted(item.encode() for item in known)
    schema = pa.schema([*(reader.schema.field(name) for name in wanted), pa.field("_at", pa.int64())])
    tables = [schema.empty_table()]
    before = itertools.accumulate((live.rows for live in reader.files), initial=0)
    start = {live.path: rows for live, rows in zip(reader.files, before, strict=False)}
    for live, hits in itertools.groupby(_holding(reader, asked, raw), key=lambda hit: hit[0]):
        with reader.opening(live) as file:
            for _, group, places in hits:
                rows = _taken(reader.read_group(file, wanted, group), places)
                numbers = start[live.path] + file.chunks[group].first_row + places
                tables.append(rows.append_column("_at", pa.array(numbers)))
    return pa.concat_tables(tables)


def _holding(
    reader: Reader, asked: pa.Array[Any], raw: Sequence[bytes]
) -> Iterator[tuple[LiveFile, int, NDArray[np.int64]]]:
    """The row groups that hold some of the ids, and where in them."""
    waiting: list[tuple[LiveFile, int, pa.ChunkedArray[Any]]] = []
    for live in reader.files:
        with reader.opening(live) as file:
            groups = [group for group in range(len(file.chunks)) if _may_hold(file, group, raw)]
            waiting += [(live, group, reader.read_group(file, ["item_id"], group)["item_id"]) for group in groups]
        # Each look-up begins with a table of all that is asked for: one for many groups.
        if sum(len(column) for *_, column in waiting) >= _IDS_AT_ONCE:
            yield from _found(waiting, asked)
            waiting = []
    yield from _found(waiting, asked)


def _found(
    waiting: Sequence[tuple[LiveFile, int, pa.ChunkedArray[Any]]], asked: pa.Array[Any]
) -> Iterator[tuple[LiveFile, int, NDArray[np.int64]]]:
    import pyarrow.compute as pc

    chunks = [chunk for *_, column in waiting for chunk in column.chunks]
    mask = pc.is_in(pa.chunked_array(chunks, pa.string()), value_set=asked).to_numpy()
    ends = np.cumsum([len(column) for *_, column in waiting])
    for (live, group, _), inside in zip(waiting, np.split(mask, ends[:-1]), strict=False):
        places = np.flatnonzero(inside)
        if len(places):
            yield live, group, places


def find(reader: Reader, ids: Sequence[str]) -> NDArray[np.int64]:
    """As ``FeatureTable.find``."""
    import pyarrow.compute as pc

    out = np.full(len(ids), -1, np.int64)
    # Half a surrogate pair is in no UTF-8 file, so in no id.
    asked = {item: at for at, item in enumerate(dict.fromkeys(filter(_encodable, ids)))}
    found = np.full(len(asked), -1, np.int64)
    wanted = pa.array(list(asked), pa.string())
    raw = sorted(item.encode() for item in asked)
    start = 0
    for live in reader.files:
        with reader.opening(live) as file:
            for group, chunk in enumerate(file.chunks):
                if _may_hold(file, group, raw):
                    column = reader.read_group(file, ["item_id"], group)["item_id"]
                    places = np.flatnonzero(pc.is_in(column, value_set=wanted).to_numpy())
                    for place in places.tolist():
                        found[asked[column[place].as_py()]] = start + chunk.first_row + place
        start += live.rows
    for at, item in enumerate(ids):
        if item in asked:
            out[at] = found[asked[item]]
    return out


def _may_hold(file: DataFile, group: int, ids: Sequence[bytes]) -> bool:
    """Whether a row group's statistics leave room for one of the ids, which are sorted."""
    found = file.metadata.row_group(group)
    for at in range(found.num_columns):
        column = found.column(at)
        if column.path_in_schema == "item_id":
            bounds = column.statistics
            if bounds is None or not bounds.has_min_max:
                return bool(ids)
            low, high = str(bounds.min).encode(), str(bounds.max).encode()
            at = bisect.bisect_left(ids, low)
            return at < len(ids) and ids[at] <= high
    return bool(ids)


def _encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _taken(rows: pa.Table, places: NDArray[np.int64]) -> pa.Table:
    """The rows at some places; few of them without pyarrow's kernels, whose import takes as long as a small search."""
    if len(places) > _FEW:
        return rows.take(places)
    parts = [rows.slice(place, 1) for place in places.tolist()]
    return pa.concat_tables([rows.slice(0, 0), *parts]).combine_chunks()


def _distinct(numbers: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """As ``numpy.unique`` with the inverse, which loads a package for masks."""
    ordered = np.sort(numbers)
    first = np.ones(len(ordered), np.bool_)
    first[1:] = ordered[1:] != ordered[:-1]
    return ordered[first], np.searchsorted(ordered[first], numbers)


def _numbers(rows: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.asarray(rows, np.int64).reshape(-1)


def _by_file(reader: Reader, unique: NDArray[np.int64]) -> Iterator[tuple[LiveFile, NDArray[np.int64]]]:
    """The files that hold rows given in rising order, with the rows' places in them."""
    starts = np.cumsum([0, *(live.rows for live in reader.files)])
    if len(unique) and (unique[0] < 0 or unique[-1] >= starts[-1]):
        bad = int(unique[0] if unique[0] < 0 else unique[-1])
        raise NotFoundError(f"the table has {starts[-1]:,} rows; there is no row {bad:,}.")
    cuts = np.searchsorted(unique, starts)
    for at, live in enumerate(reader.files):
        if cuts[at] < cuts[at + 1]:
            yield live, unique[cuts[at] : cuts[at + 1]] - starts[at]


def _by_group(file: DataFile, places: NDArray[np.int64]) -> Iterator[tuple[int, NDArray[np.int64]]]:
    """The row groups that hold places given in rising order, with the places in them."""
    starts = np.array([*(chunk.first_row for chunk in file.chunks), file.rows])
    cuts = np.searchsorted(places, starts)
    for group, chunk in enumerate(file.chunks):
        if cuts[group] < cuts[group + 1]:
            yield group, places[cuts[group] : cuts[group + 1]] - chunk.first_row
