"""Reads a version's data files: rows through pyarrow, vectors page by page, every file checked first."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from featstore.errors import NotFoundError, UsageError
from featstore.layout import Layout
from featstore.storage import Stat, Storage, hashing
from featstore.tables import checked, columns, evolution
from featstore.tables.entries import LiveFile
from featstore.tables.footer import DataFile, damaged, opening
from featstore.tables.ids import Ids
from featstore.tables.log import DeltaLog
from featstore.tables.parts import PartFile
from featstore.tables.picking import Verified
from featstore.tables.vectors import THREADS, fill, gather
from featstore.tables.writer import writing

__all__ = ["Reader", "read_part"]

# A process may have few open files (256 on macOS), a table many thousands.
_OPEN_AT_ONCE = 64


@dataclass
class Reader:
    """The data files of one version."""

    layout: Layout
    log: DeltaLog
    files: tuple[LiveFile, ...]
    schema: pa.Schema
    dim: int
    footers: dict[str, str] | None = None
    verified: Verified = field(default_factory=Verified)

    def rows(self, names: Sequence[str] | None = None) -> pa.Table:
        """As ``FeatureTable.rows``."""
        wanted = self.readable(names)
        tables = []
        for live in self.files:
            with self.opening(live) as file:
                found = _read_rows(file, wanted, self.schema)
            tables.append(_with_place(found, live.path))
        if tables:
            return pa.concat_tables(tables)
        return _with_place(pa.schema([self.schema.field(name) for name in wanted]).empty_table(), "")

    def readable(self, names: Sequence[str] | None) -> list[str]:
        """The columns to read; all but the vectors by default.

        Raises:
            NotFoundError: There is no such column.
        """
        wanted = [name for name in self.schema.names if name != columns.VECTOR] if names is None else list(names)
        unknown = [name for name in wanted if name not in self.schema.names or name == columns.VECTOR]
        if unknown:
            raise NotFoundError(
                f"there is no column {', '.join(unknown)} to read; there are {', '.join(self.schema.names)}.",
                hint="Vectors are read by matrix().",
            )
        return wanted

    def read_group(self, file: DataFile, names: list[str], group: int) -> pa.Table:
        """Some columns of one row group of an open file."""
        return _read_rows(file, names, self.schema, group=group)

    def head(self, count: int) -> pa.Table:
        """The first rows, without vectors."""
        names = [name for name in self.schema.names if name != columns.VECTOR]
        for live in self.files[:1]:
            with self.opening(live) as file:
                return _read_rows(file, names, self.schema).slice(0, count)
        return pa.schema([self.schema.field(name) for name in names]).empty_table()

    def matrix(self, *, verify: bool) -> tuple[NDArray[np.object_], NDArray[np.float32]]:
        """As ``FeatureTable.matrix``."""
        ids = Ids(sum(live.rows for live in self.files))
        with ThreadPoolExecutor(THREADS) as pool:
            vectors = self.load(self.files, verify=verify, pool=pool, ids=ids)
        ids.check(self.layout, self.log.folder)
        return ids.items, vectors

    def load(
        self,
        files: Sequence[LiveFile],
        *,
        verify: bool,
        pool: Executor | None = None,
        ids: Ids | None = None,
    ) -> NDArray[np.float32]:
        """The vectors of some files, in their order; new or changed files are verified and remembered.

        ``ids`` takes the ids of the same files, read beside them; this needs a pool.
        """
        known = checked.recall(self.layout)
        out = np.empty((sum(live.rows for live in files), self.dim), np.float32)
        passed: dict[str, Stat] = {}
        start = 0
        for first in range(0, len(files), _OPEN_AT_ONCE):
            wave = files[first : first + _OPEN_AT_ONCE]
            with ExitStack() as stack:
                opened = [stack.enter_context(self.opening(live)) for live in wave]
                reading = pool.submit(self._read_ids, wave, opened, ids) if pool and ids else None
                jobs = []
                for live, file in zip(wave, opened, strict=True):
                    path = self._path(live.path)
                    if known.get(path) != file.stat:
                        passed[path] = file.stat
                    jobs.append((file, start, verify or path in passed))
                    start += live.rows
                fill(out, jobs, pool)
                if reading:
                    reading.result()
        checked.remember(self.layout, passed)
        return out

    def vectors(self, files: Sequence[str], rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """As ``FeatureTable.vectors``."""
        rows = np.asarray(rows, np.int64)
        if len(files) != len(rows):
            raise UsageError(f"{len(files)} files and {len(rows)} rows do not make pairs.")
        out = np.empty((len(rows), self.dim), np.float32)
        names, which = np.unique(np.asarray(files, object).astype(str), return_inverse=True)
        known = checked.recall(self.layout)
        for number, name in enumerate(names):
            live = self.live(str(name))
            places = np.flatnonzero(which == number)
            wanted = rows[places]
            if wanted.min() < 0 or wanted.max() >= live.rows:
                raise NotFoundError(f"{live.path} has rows 0 to {live.rows - 1}, not {wanted.min()} to {wanted.max()}.")
            with self.opening(live) as file:
                sparse = len(wanted) < live.rows // 8 and file.direct
                if sparse and known.get(self._path(live.path)) == file.stat:
                    out[places] = gather(file, wanted, self.dim)
                    continue
            out[places] = self.load([live], verify=False)[wanted]
        return out

    def groups(
        self, names: Sequence[str], keep: Mapping[str, NDArray[np.bool_]] | None
    ) -> Iterator[tuple[pa.Table, NDArray[np.float32]]]:
        """As ``FeatureTable.stream``."""
        for live in self.files:
            kept = np.ones(live.rows, np.bool_) if keep is None else keep.get(live.path)
            if kept is None or not kept.any():
                continue
            with self.opening(live) as file:
                for group, chunk in enumerate(file.chunks):
                    wanted = kept[chunk.first_row : chunk.first_row + chunk.rows]
                    if not wanted.any():
                        continue
                    rows = _read_rows(file, list(names), self.schema, group=group)
                    vectors = np.empty((chunk.rows, self.dim), np.float32)
                    fill(vectors, [(file.only(group), 0, True)])
                    if not wanted.all():
                        rows, vectors = rows.filter(pa.array(wanted)), vectors[wanted]
                    yield rows, vectors

    def rewrite(
        self,
        name: str,
        drop: NDArray[np.int64],
        path: str,
        *,
        schema: pa.Schema | None = None,
        pool: Executor | None = None,
    ) -> PartFile | None:
        """As ``FeatureTable.rewrite_part``; with a schema the columns get its types, with a pool it reads there."""
        target = self.schema if schema is None else schema
        live = self.live(name)
        keep = np.ones(live.rows, bool)
        drop = np.asarray(drop, np.int64)
        if len(drop) and (drop.min() < 0 or drop.max() >= live.rows):
            raise NotFoundError(f"{live.path} has rows 0 to {live.rows - 1}, not {drop.min()} to {drop.max()}.")
        keep[drop] = False
        if not keep.any():
            return None
        with self.opening(live) as file:
            there = evolution.of_file(file.metadata.schema.to_arrow_schema(), file.where)
            names = columns.ordered(there.remove(there.get_field_index(columns.VECTOR))).names
            rows = pa.schema([target.field(name) for name in names])
            with writing(self.layout.storage, self.log.folder, path, rows, self.dim) as writer:
                start = 0
                for group in range(file.metadata.num_row_groups):
                    found = _read_rows(file, names, target, group=group)
                    vectors = np.empty((len(found), self.dim), np.float32)
                    fill(vectors, [(file.only(group), 0, True)], pool)
                    kept = keep[start : start + len(found)]
                    start += len(found)
                    writer.write(found.filter(pa.array(kept)), vectors[kept])
        return writer.part()

    def merge(self, group: Sequence[LiveFile], path: str) -> PartFile:
        """Writes one file with the rows of several, in their order."""
        names = [name for name in self.schema.names if name != columns.VECTOR]
        schema = columns.ordered(pa.schema([self.schema.field(name) for name in names]))
        with writing(self.layout.storage, self.log.folder, path, schema, self.dim) as writer:
            part = replace(self, files=tuple(group))
            rows = part.rows(schema.names).select(schema.names)
            writer.write(rows.combine_chunks(), part.load(group, verify=True))
        return writer.part()

    def only(self, live: LiveFile) -> Reader:
        """The same, as if the version had this file only."""
        return replace(self, files=(live,))

    def opening(self, live: LiveFile) -> AbstractContextManager[DataFile]:
        """Opens a live file, compared with all that the log says of it."""
        if self.footers is None:
            self.footers = self.log.footers(self.files)
        where = self.layout.storage.local(self._path(live.path))
        return opening(where, size=live.size, rows=live.rows, digest=self.footers.get(live.path))

    def path(self, live: LiveFile) -> str:
        """The file's path in the store."""
        return self._path(live.path)

    def live(self, name: str) -> LiveFile:
        """The file of that path.

        Raises:
            NotFoundError: This version has no such file.
        """
        for live in self.files:
            if live.path == name:
                return live
        raise NotFoundError(f"this version of {self._where()} has no file {name}.")

    def _read_ids(self, files: Sequence[LiveFile], opened: Sequence[DataFile], ids: Ids) -> None:
        for live, file in zip(files, opened, strict=True):
            ids.add(live.path, file.stat, _read_rows(file, ["item_id"], self.schema)["item_id"])

    def _path(self, name: str) -> str:
        return f"{self.log.folder}/{name}"

    def _where(self) -> Path:
        return self.layout.storage.local(self.log.folder)


def read_part(
    storage: Storage, folder: str, path: str, *, dim: int, sha256: str | None
) -> tuple[pa.Table, NDArray[np.float32]]:
    """As ``FeatureTable.read_part``."""
    where = storage.local(f"{folder}/{path}")
    with opening(where, ours=True) as file:
        if sha256 is not None and hashing.of_file(where) != sha256:
            raise damaged(where, "it is not the file that the run has written")
        schema = evolution.of_file(file.metadata.schema.to_arrow_schema(), where)
        rows = _read_rows(file, [name for name in schema.names if name != columns.VECTOR], schema)
        vectors = np.empty((file.rows, dim), np.float32)
        fill(vectors, [(file, 0, True)])
    return rows, vectors


def _read_rows(file: DataFile, names: list[str], schema: pa.Schema, *, group: int | None = None) -> pa.Table:
    try:
        with pq.ParquetFile(file.where, metadata=file.metadata, page_checksum_verification=True) as parquet:
            there = set(file.metadata.schema.to_arrow_schema().names)
            present = [name for name in names if name in there]
            threads = len(present) > 2
            if group is None:
                found = parquet.read(present, use_threads=threads)
            else:
                found = parquet.read_row_group(group, present, use_threads=threads)
            count = file.rows if group is None else file.metadata.row_group(group).num_rows
        read = {
            name: _of_type(found[name], schema.field(name).type)
            if name in there
            else pa.chunked_array([pa.nulls(count, schema.field(name).type)])
            for name in names
        }
        if any(len(column) != count for column in read.values()):
            raise damaged(file.where, "its columns have different lengths")
        table = pa.table(read, schema=pa.schema([schema.field(name) for name in names]))
        table.validate(full=True)
    except (pa.ArrowException, OSError, ValueError, KeyError) as error:
        raise damaged(file.where, f"its rows cannot be read ({error})") from error
    return table


def _of_type(column: pa.ChunkedArray[Any], kind: pa.DataType) -> pa.ChunkedArray[Any]:
    return column if column.type == kind else column.cast(kind)  # also to its own type it would load all kernels


def _with_place(rows: pa.Table, path: str) -> pa.Table:
    count = len(rows)
    return rows.append_column("_file", pa.repeat(pa.scalar(path, pa.string()), count)).append_column(
        "_row", pa.array(np.arange(count, dtype=np.int64))
    )
