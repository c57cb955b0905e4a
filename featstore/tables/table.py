"""A feature table: one source embedded in one space, at one version."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from featstore.errors import (
    FeatstoreError,
    IntegrityError,
    NotFoundError,
    SpaceMismatchError,
    UsageError,
)
from featstore.layout import Layout
from featstore.records import CommitInfo
from featstore.tables import columns, evolution, history, metadata, picking, reading, retyping, staged, upkeep
from featstore.tables.entries import LiveFile, Snapshot
from featstore.tables.log import DeltaLog
from featstore.tables.parts import Cleaned, PartFile, Problem
from featstore.tables.vectors import THREADS
from featstore.tables.writer import vector_column, writing

if TYPE_CHECKING:
    import polars as pl

__all__ = ["FeatureTable"]

_RUN_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


class FeatureTable:
    """One version of a feature table. Its answers never change; to see later commits, open it again.

    Made by ``open`` or ``staging``, not directly. Rows are ordered by data file, then by their place in it.

    Attributes:
        name: The table's name.
        space_id: The space of its vectors.
        version: The version that is shown; None while nothing was ever committed.
        dim: The length of each vector.
        path: The folder of the Delta table on this machine.
    """

    def __init__(self, layout: Layout, name: str, space_id: str, dim: int, snapshot: Snapshot | None) -> None:
        self._layout = layout
        self._folder = layout.table(name, space_id)
        self._log = DeltaLog(layout.storage, self._folder)
        self._snapshot = snapshot
        self._kept_reader: reading.Reader | None = None
        self.name = name
        self.space_id = space_id
        self.dim = dim
        self.version = None if snapshot is None else snapshot.version
        self.path: Path = layout.storage.local(self._folder)
        self._checks = staged.Checks(self.path, dim)

    # ── opening ───────────────────────────────────────────────────────────────────────────────

    @classmethod
    def open(cls, layout: Layout, name: str, space_id: str, version: int | None = None) -> FeatureTable:
        """Opens a table at a version, the latest by default.

        Raises:
            NotFoundError: There is no such table or version.
            SpaceMismatchError: The folder holds vectors of another space.
            IntegrityError: The log is damaged, or is not one that featstore has written.
        """
        log = DeltaLog(layout.storage, layout.table(name, space_id))
        if not log.exists():
            raise NotFoundError(
                f"there is no table '{name}' in the space {space_id}.", hint="`featstore ls` lists what there is."
            )
        snapshot = log.snapshot(version)
        where = layout.storage.local(log.folder)
        try:
            dim = int(json.loads(snapshot.description or "")["dim"])
        except (ValueError, TypeError, LookupError) as error:
            raise IntegrityError(f"{where} is a Delta table, but not one that featstore has made.") from error
        if snapshot.name != space_id:
            raise SpaceMismatchError(
                f"{where} holds vectors of the space {snapshot.name}, not of {space_id}.",
                hint="A table's folder cannot be moved to another space; extract with the other model instead.",
            )
        return cls(layout, name, space_id, dim, snapshot)

    @classmethod
    def exists(cls, layout: Layout, name: str, space_id: str) -> bool:
        """Whether anything was ever committed to the table."""
        return DeltaLog(layout.storage, layout.table(name, space_id)).exists()

    @classmethod
    def staging(cls, layout: Layout, name: str, space_id: str, dim: int) -> FeatureTable:
        """Opens a table to write to, whether or not it is there; the first commit makes it.

        Raises:
            SpaceMismatchError: The table's vectors have another length, or are of another space.
            UsageError: Delta Lake cannot use the store's path.
        """
        DeltaLog(layout.storage, layout.table(name, space_id)).check_place()
        if not cls.exists(layout, name, space_id):
            return cls(layout, name, space_id, dim, None)
        table = cls.open(layout, name, space_id)
        if table.dim != dim:
            raise SpaceMismatchError(
                f"the table '{name}' in the space {space_id} takes vectors of {table.dim} values, not of {dim}.",
                hint="Vectors of another model go to that model's own table.",
            )
        return table

    # ── reading ───────────────────────────────────────────────────────────────────────────────

    @property
    def column_names(self) -> list[str]:
        """The table's columns, ``embedding`` among them; empty while nothing was committed."""
        return [] if self._snapshot is None else list(self._snapshot.schema.names)

    @property
    def files(self) -> tuple[str, ...]:
        """The data files of this version, relative to the table's folder, in reading order."""
        return tuple(file.path for file in self._files())

    @property
    def file_rows(self) -> dict[str, int]:
        """How many rows each of ``files`` has, in reading order: a row's number is its place behind those before."""
        return {file.path: file.rows for file in self._files()}

    @property
    def bytes(self) -> int:
        """The size of the version's data files."""
        return sum(file.size for file in self._files())

    def __len__(self) -> int:
        return 0 if self._snapshot is None else self._snapshot.rows

    def rows(self, columns: Sequence[str] | None = None) -> pa.Table:
        """Reads everything but the vectors.

        Args:
            columns: The columns to read; all by default.

        Returns:
            The columns, then ``_file`` (path in the table's folder) and ``_row`` (int64, place in the file).

        Raises:
            NotFoundError: There is no such column.
            IntegrityError: A file is missing or damaged.
        """
        return self._reader().rows(columns)

    def matrix(self, verify: bool = False) -> tuple[NDArray[np.object_], NDArray[np.float32]]:
        """Reads all ids and vectors, in the order of ``rows()``.

        Checksums are verified when a file is read for the first time, or has changed since.

        Args:
            verify: Verify the checksums of every file.

        Returns:
            The ids (n, as str objects) and the vectors (n, dim), float32, C-contiguous.

        Raises:
            IntegrityError: A file is missing or damaged, or an id occurs twice. Nothing is returned.
        """
        return self._reader().matrix(verify=verify)

    def vectors(self, files: Sequence[str], rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """Reads some vectors.

        Args:
            files: For each vector its file, as in ``_file`` of ``rows()``.
            rows: For each vector its place in that file, as in ``_row``.

        Returns:
            (len(rows), dim) float32, in the order asked for.

        Raises:
            NotFoundError: This version has no such file or row.
            IntegrityError: A file is missing or damaged.
        """
        return self._reader().vectors(files, rows)

    def rows_at(self, rows: NDArray[np.int64], columns: Sequence[str] | None = None) -> pa.Table:
        """Reads some rows without their vectors; of the files only the row groups that hold them.

        Args:
            rows: (n,) int64, row numbers in the order of ``rows()``; one may be asked for several times.
            columns: The columns to read; all by default.

        Returns:
            The columns (without ``_file`` and ``_row``), one row for each number, in the order asked for.

        Raises:
            NotFoundError: There is no such column or row.
            IntegrityError: A file is missing or damaged.
        """
        return picking.rows_at(self._reader(), rows, columns)

    def vectors_at(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """Reads some vectors; of the files only what holds them, checked like all that is read.

        Args:
            rows: (n,) int64, row numbers in the order of ``rows()``; one may be asked for several times.

        Returns:
            (n, dim) float32, in the order asked for.

        Raises:
            NotFoundError: There is no such row.
            IntegrityError: A file is missing or damaged.
        """
        return picking.vectors_at(self._reader(), rows)

    def find(self, ids: Sequence[str]) -> NDArray[np.int64]:
        """The rows of some items, read from no more than the row groups that may hold them.

        Args:
            ids: Any texts; one may stand there several times.

        Returns:
            (len(ids),) int64, row numbers in the order of ``rows()``; -1 for an id that is not there.

        Raises:
            IntegrityError: A file is missing or damaged.
        """
        return picking.find(self._reader(), ids)

    def locate(self, ids: Sequence[str], columns: Sequence[str]) -> pa.Table:
        """All rows of some items, without their vectors; read from no more than the row groups that may hold them.

        Args:
            ids: Any texts.
            columns: The columns to read.

        Returns:
            The columns, then ``_at`` (int64), the rows' numbers in the order of ``rows()``. Ids that are not there have
            no row.

        Raises:
            NotFoundError: There is no such column.
            IntegrityError: A file is missing or damaged.
        """
        return picking.locate(self._reader(), ids, columns)

    def stream(
        self, names: Sequence[str], keep: Mapping[str, NDArray[np.bool_]] | None = None
    ) -> Iterator[tuple[pa.Table, NDArray[np.float32]]]:
        """Reads the table one row group at a time, every page checked; no more than one is held.

        Args:
            names: The columns beside the vectors, at least one.
            keep: For each data file, as in ``_file`` of ``rows()``, which of its rows to read; files that are not
                named are passed over. All rows by default.

        Yields:
            Some rows, in the order of ``rows()``, and their vectors (len(rows), dim) float32.

        Raises:
            IntegrityError: A file is missing or damaged.
        """
        return self._reader().groups(names, keep)

    def to_arrow(self) -> pa.Table:
        """Reads the whole table, vectors as lists of float32."""
        rows = self.rows().drop_columns(["_file", "_row"])
        if self._snapshot is None:
            return rows
        _, vectors = self.matrix()
        place = self.column_names.index(columns.VECTOR)
        return rows.add_column(place, pa.field(columns.VECTOR, columns.vector_type()), vector_column(vectors))

    def to_polars(self) -> pl.DataFrame:
        """Reads the whole table into Polars."""
        import polars as pl

        frame = pl.from_arrow(self.to_arrow())
        assert isinstance(frame, pl.DataFrame)
        return frame

    # ── writing ───────────────────────────────────────────────────────────────────────────────

    def align(self, rows: pa.Table, *, retype: bool = False) -> pa.Table:
        """Normalises metadata and fits it to the table's types; to be done once for all rows of a run.

        Args:
            rows: ``item_id``, ``content_sha256``, ``created_ts``, ``run_id``, perhaps ``event_ts``, and metadata.
            retype: Convert a column whose type has changed, where no value is changed by it.

        Returns:
            Rows that ``write_part`` takes, whole or in slices.

        Raises:
            SettingsError: A name cannot be used, or a type has changed.
        """
        if self._snapshot is None:
            return metadata.normalise(rows)
        return evolution.conform(rows, self._snapshot.schema, where=f"the table '{self.name}'", retype=retype)

    def write_part(self, run_id: str, part: int, rows: pa.Table, vectors: NDArray[np.float32]) -> PartFile:
        """Writes one data file of a run; durable, not visible before ``commit``. Equal input gives equal bytes.

        Args:
            run_id: The run.
            part: The file's number in the run; an earlier file of that number is replaced.
            rows: Rows from ``align``.
            vectors: (n, dim) float32, finite, in the rows' order.

        Raises:
            UsageError: The vectors have another shape or type, or are not finite.
            SettingsError: The rows are not as ``align`` makes them.
            StorageError: The disk refused.
        """
        metadata.check_normal(rows.schema)
        with writing(self._layout.storage, self._folder, self._part(run_id, part), rows.schema, self.dim) as writer:
            writer.write(rows, vectors)
        return writer.part()

    def rewrite_part(self, run_id: str, part: int, file: str, drop: NDArray[np.int64]) -> PartFile | None:
        """Writes a live file anew without some of its rows, one row group at a time.

        Args:
            run_id: The run.
            part: The new file's number in the run.
            file: A live file, as in ``_file`` of ``rows()``.
            drop: The rows to leave out, as in ``_row``.

        Returns:
            The new file, or None where no row is left. To be committed with ``file`` among ``remove``.

        Raises:
            IntegrityError: The file is missing or damaged.
            StorageError: The disk refused.
        """
        return self._reader().rewrite(file, drop, self._part(run_id, part))

    def rewrite_parts(self, run_id: str, first: int, drop: Mapping[str, NDArray[np.int64]]) -> list[PartFile]:
        """As ``rewrite_part`` for several files, some at a time; a file of which no row is left makes none.

        Args:
            run_id: The run.
            first: The number of the first new file in the run.
            drop: By live file, the rows to leave out.
        """
        rows, reader = self.file_rows, self._reader()
        left = [file for file, leaving in drop.items() if len(np.unique(leaving)) < rows.get(file, 0)]
        with ThreadPoolExecutor(THREADS) as readers, ThreadPoolExecutor(THREADS) as pool:
            made = [
                pool.submit(reader.rewrite, file, drop[file], self._part(run_id, first + number), pool=readers)
                for number, file in enumerate(left)
            ]
            try:
                return [part for future in made if (part := future.result()) is not None]
            finally:
                pool.shutdown(cancel_futures=True)  # of an interrupted run the rest is not begun

    def read_part(self, path: str, *, sha256: str | None = None) -> tuple[pa.Table, NDArray[np.float32]]:
        """Reads a staged file back, its checksums verified.

        Args:
            path: As in ``PartFile.path``.
            sha256: The digest that the whole file must have.

        Returns:
            The rows without the vectors, and the vectors (n, dim).

        Raises:
            IntegrityError: The file is missing or damaged.
        """
        return reading.read_part(self._layout.storage, self._folder, path, dim=self.dim, sha256=sha256)

    def commit(
        self,
        *,
        run_id: str,
        add: Sequence[PartFile],
        remove: Sequence[str] = (),
        details: Mapping[str, str] | None = None,
        operation: str = "extract",
    ) -> int:
        """Makes a run's files visible, all at once, on top of exactly this version.

        Every added file is read in full before, and must be the one that was written. A run that has
        committed already is not committed again.

        Args:
            run_id: The run.
            add: The files to add.
            remove: The live files to remove, as in ``_file`` of ``rows()``.
            details: Kept with the commit; shown by ``history``. ``rows_added`` and ``rows_removed`` there
                replace the counts of whole files.
            operation: What the history calls it.

        Returns:
            The new version.

        Raises:
            ConflictError: Another writer committed after this version.
            IntegrityError: An added file is missing or is not what was written.
            SettingsError: An added file's columns do not fit the table's.
            SpaceMismatchError: An added file's vectors have another length.
            StorageError: The disk refused; nothing was removed.
        """
        done = self.committed(run_id)
        if done is not None:
            return done
        if not add and not remove:
            raise UsageError("there is nothing to commit.")
        staged.check_removals(self._files(), remove, where=f"version {self.version} of '{self.name}'")
        checked = self._checks.check(add)
        schema = evolution.merge([found for _, found in checked])
        additions = [addition for addition, _ in checked]
        info: dict[str, Any] = {
            "operation": operation,
            "run_id": run_id,
            "space_id": self.space_id,
            "details": dict(details or {}),
        }
        if self._snapshot is None:
            description = json.dumps({"featstore": 1, "table": self.name, "space_id": self.space_id, "dim": self.dim})
            return self._log.create(
                schema=schema, name=self.space_id, description=description, add=additions, info=info
            )
        base = self._snapshot
        new = evolution.added(schema, base.schema, where=f"the table '{self.name}'")
        if new:
            base = self._log.add_columns(base, new, run_id=run_id)
        return self._log.change(base, add=additions, remove=remove, info=info)

    def retype(self, rows: pa.Table, *, run_id: str) -> int | None:
        """Rewrites the table so that its columns can hold rows whose types have changed, in one commit.

        A column gets the new type where nothing stored changes by it, keeps its type where nothing in ``rows``
        changes by that, and becomes text otherwise. Open the table again and ``align`` the rows after it.

        Args:
            rows: As for ``align``.
            run_id: The run that does it, other than the one that then commits the rows.

        Returns:
            The new version, or None where every type can stay.

        Raises:
            ConflictError: Another writer committed after this version.
            IntegrityError: A file is missing or damaged.
        """
        done = self.committed(run_id)
        if done is not None or self._snapshot is None:
            return done
        reader = self._reader()
        types = retyping.new_types(reader, rows)
        if not types:
            return None
        schema = retyping.retyped_schema(self._snapshot.schema, types)
        parts = [
            reader.rewrite(live.path, np.array([], np.int64), self._part(run_id, number), schema=schema)
            for number, live in enumerate(self._files())
        ]
        additions = [found for found, _ in self._checks.check([part for part in parts if part is not None])]
        details = {"rows_added": "0", "rows_removed": "0", **{name: str(kind) for name, kind in types.items()}}
        info = {"operation": "retype", "run_id": run_id, "space_id": self.space_id, "details": details}
        return self._log.replace(self._snapshot, schema=schema, add=additions, info=info)

    def become(
        self, other: FeatureTable, *, run_id: str, add: Sequence[PartFile], details: Mapping[str, str], operation: str
    ) -> int:
        """Makes the table what some files are, with the column types of another version, in one commit.

        Args:
            other: A version whose columns have other types; it shares no file with this one.
            run_id: The run.
            add: All the files that the table then has.
            details: Kept with the commit.
            operation: What the history calls it.

        Returns:
            The new version.

        Raises:
            ConflictError: Another writer committed after this version.
            IntegrityError: A file is missing or damaged.
        """
        done = self.committed(run_id)
        if done is not None:
            return done
        assert self._snapshot is not None
        assert other._snapshot is not None
        additions = [found for found, _ in self._checks.check(add)]
        info = {"operation": operation, "run_id": run_id, "space_id": self.space_id, "details": dict(details)}
        return self._log.replace(self._snapshot, schema=other._snapshot.schema, add=additions, info=info)

    def retyped(self, other: FeatureTable) -> bool:
        """Whether a column of this version has another type in another one."""
        if self._snapshot is None or other._snapshot is None:
            return False
        mine, theirs = self._snapshot.schema, other._snapshot.schema
        return any(field.type != theirs.field(field.name).type for field in mine if field.name in theirs.names)

    def with_staged(self, add: Sequence[PartFile], remove: Sequence[str] = ()) -> FeatureTable:
        """The version that ``commit`` would make of the same files, to be looked at before.

        Its ``version`` is the number that the commit will get if nobody else commits first.

        Args:
            add: The files to add.
            remove: The live files to remove.

        Raises:
            As for ``commit``.
        """
        staged.check_removals(self._files(), remove, where=f"version {self.version} of '{self.name}'")
        checked = self._checks.check(add)
        schema = evolution.merge([found for _, found in checked])
        if self._snapshot is None:
            base = Snapshot(version=-1, files=(), schema=schema, name=self.space_id, description=None)
        else:
            base = self._snapshot
            new = evolution.added(schema, base.schema, where=f"the table '{self.name}'")
            # The columns come in a commit of their own.
            widened = base.schema if not new else pa.schema([*base.schema, *new])
            base = replace(base, version=base.version + bool(new), schema=widened)
        gone = set(remove)
        live = [*(file for file in base.files if file.path not in gone), *(addition.file for addition, _ in checked)]
        files = tuple(sorted(live, key=lambda file: file.path))
        candidate = FeatureTable(
            self._layout, self.name, self.space_id, self.dim, replace(base, version=base.version + 1, files=files)
        )
        footers = {} if self._snapshot is None else self._log.footers(self._files())
        footers |= {addition.file.path: addition.footer for addition, _ in checked}
        candidate._reader().footers = footers
        return candidate

    def committed(self, run_id: str) -> int | None:
        """The version that a run has committed, if it has; looks at the log as it is now."""
        return self._log.committed(run_id)

    # ── looking after ─────────────────────────────────────────────────────────────────────────

    def history(self) -> list[CommitInfo]:
        """Every commit up to now, the newest first."""
        return history.history(self._log)

    def verify(self, *, but: Collection[str] = ()) -> list[Problem]:
        """Reads every byte of this version and reports what is wrong; see ``Problem`` for what is looked for.

        Args:
            but: Files that another version has and that were looked at with it.
        """
        return upkeep.verify(self._layout, self.name, self.space_id, self._reader(), but)

    def compact(self, run_id: str, target_rows: int | None = None) -> int | None:
        """Merges small neighbouring files, in one commit; rows keep their order and vectors their bytes.

        Args:
            run_id: The run that does it.
            target_rows: The rows of a full file; by default as many as make 128 MiB of vectors.

        Returns:
            The new version, or None where there is nothing to merge.

        Raises:
            ConflictError: Another writer committed after this version.
            IntegrityError: A file is missing or damaged.
        """
        return upkeep.compact(self, self._reader(), run_id=run_id, target_rows=target_rows)

    def vacuum(
        self,
        keep_versions: Sequence[int],
        older_than_seconds: float,
        *,
        dry_run: bool = False,
        spare: Sequence[str] = (),
    ) -> Cleaned:
        """Removes files that no kept version needs, and what killed runs have left.

        The latest version, this one and the files of the open run are always kept. A superseded file's
        age counts from the commit that removed it, another's from its last change.

        Args:
            keep_versions: Versions that must stay readable.
            older_than_seconds: The least age of what is removed; longer than the longest read or write.
            dry_run: Only say what would be removed.
            spare: Further runs whose files stay: what they have embedded may be carried over.
        """
        return upkeep.vacuum(
            self._layout,
            self.name,
            self.space_id,
            keep_versions=[*keep_versions, *([] if self.version is None else [self.version])],
            older_than_seconds=older_than_seconds,
            dry_run=dry_run,
            spare=spare,
        )

    # ── showing ───────────────────────────────────────────────────────────────────────────────

    def __repr__(self) -> str:
        if self._snapshot is None:
            return f"FeatureTable({self.name}, space {self.space_id}, empty, dim {self.dim})"
        return (
            f"FeatureTable({self.name}, space {self.space_id}, version {self.version}, "
            f"{len(self):,} rows × {self.dim}, {_size(self.bytes)})"
        )

    def _repr_html_(self) -> str:
        head = html.escape(repr(self))
        try:
            first = self._reader().head(5)
        except FeatstoreError as error:
            return f"<p>{head}</p><p>{html.escape(error.message)}</p>"
        titles = "".join(f"<th>{html.escape(name)}</th>" for name in first.column_names)
        body = "".join(
            "<tr>" + "".join(f"<td>{html.escape(_short(value))}</td>" for value in row.values()) + "</tr>"
            for row in first.to_pylist()
        )
        return f"<p>{head}</p><table><thead><tr>{titles}</tr></thead><tbody>{body}</tbody></table>"

    # ── inside ────────────────────────────────────────────────────────────────────────────────

    def _files(self) -> tuple[LiveFile, ...]:
        return () if self._snapshot is None else self._snapshot.files

    def _reader(self) -> reading.Reader:
        # Kept: the digests of the footers and the row groups that have passed need no second look.
        if self._kept_reader is None:
            schema = pa.schema(columns.FIXED) if self._snapshot is None else self._snapshot.schema
            self._kept_reader = reading.Reader(self._layout, self._log, self._files(), schema, self.dim)
        return self._kept_reader

    def _part(self, run_id: str, part: int) -> str:
        if not _RUN_ID.fullmatch(run_id):
            raise UsageError(f"{run_id!r} is no run id: letters, digits, dots, dashes and underscores.")
        folder = self._layout.run_files(self.name, self.space_id, run_id)
        return f"{folder}/{part:05d}.parquet".removeprefix(f"{self._folder}/")


def _size(count: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def _short(value: object) -> str:
    text = "" if value is None else str(value)
    return text if len(text) <= 60 else f"{text[:59]}…"
