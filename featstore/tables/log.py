"""The Delta Lake log of a table: what is live at a version, and the one commit that changes it.

delta-rs checks nothing of what it is told to commit, so everything is checked here first. A commit is a
compare-and-swap on the version it was prepared for. When one raises, its outcome is unknown until the log
has been searched for the run; nothing is ever removed on an unknown outcome.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast
from urllib.parse import unquote

import pyarrow as pa
from deltalake import CommitProperties, DeltaTable, Schema
from deltalake.exceptions import CommitFailedError, DeltaError, TableNotFoundError
from deltalake.schema import Field
from deltalake.transaction import AddAction, RemoveAction, create_table_with_add_actions

from featstore.errors import ConflictError, FeatstoreError, IntegrityError, NotFoundError, StorageError, UsageError
from featstore.storage import Storage, durable
from featstore.tables.entries import Addition, Commit, LiveFile, Snapshot, damaged_log, read_commit, versions

__all__ = ["DeltaLog"]

_ESCAPE = re.compile(r"%[0-9A-Fa-f]{2}")

# Versions stay readable for as long as their files do; other engines' vacuum waits 30 days.
# Source: https://github.com/delta-io/delta/blob/master/PROTOCOL.md
_PROPERTIES: dict[str, str | None] = {
    "delta.logRetentionDuration": "interval 3650 days",
    "delta.enableExpiredLogCleanup": "false",
    "delta.deletedFileRetentionDuration": "interval 30 days",
}


@dataclass(frozen=True, slots=True)
class DeltaLog:
    """The log of the table in ``folder`` of a store."""

    storage: Storage
    folder: str

    def exists(self) -> bool:
        """Whether anything was ever committed."""
        return bool(versions(self.storage, self.folder))

    def check_place(self) -> None:
        """Refuses a folder whose path delta-rs would decode and then not find.

        Raises:
            UsageError: The path holds an escape such as ``%20``.
        """
        found = _ESCAPE.search(str(self.storage.local(self.folder)))
        if found:
            raise UsageError(
                f"{self.storage.local(self.folder)} holds '{found[0]}', which Delta Lake takes for an escape.",
                hint="Use a store whose path has no percent sign before two digits or letters from a to f.",
            )

    def snapshot(self, version: int | None = None) -> Snapshot:
        """What is live at a version, the latest by default.

        Raises:
            NotFoundError: There is no table, or no such version.
            IntegrityError: The log cannot be read, or does not hold what was committed.
        """
        table = self._open(version)
        try:
            actions = pa.table(table.get_add_actions(flatten=True)).select(["path", "size_bytes", "num_records"])
            schema = pa.schema(cast("Any", table.schema().to_arrow()))
            metadata = table.metadata()
        except (DeltaError, pa.ArrowException, LookupError, ValueError) as error:
            raise self._damaged(str(error)) from error
        files = []
        for row in actions.to_pylist():
            if row["num_records"] is None:
                raise self._damaged(f"it does not say how many rows {row['path']} has")
            files.append(LiveFile(unquote(row["path"]), row["size_bytes"], row["num_records"]))
        snapshot = Snapshot(
            version=table.version(),
            files=tuple(sorted(files, key=lambda file: file.path)),
            schema=schema,
            name=metadata.name,
            description=metadata.description,
        )
        self._check_totals(snapshot)
        return snapshot

    def commits(self, *, after: int = -1, newest_first: bool = False) -> Iterator[Commit]:
        """Reads the log's own files, by version.

        Raises:
            IntegrityError: One cannot be read.
        """
        for version in sorted(versions(self.storage, self.folder), reverse=newest_first):
            if version > after:
                yield read_commit(self.storage, self.folder, version)

    def committed(self, run_id: str) -> int | None:
        """The version that a run has committed, if it has."""
        for commit in self.commits(newest_first=True):
            if commit.run_id == run_id and "columns_for" not in commit.info:
                return commit.version
        return None

    def footers(self, files: Sequence[LiveFile]) -> dict[str, str]:
        """The digests of the files' footers, as far as featstore committed them."""
        return {path: found["footer"] for path, found in self._digests(files).items()}

    def sha256(self, files: Sequence[LiveFile]) -> dict[str, str]:
        """The digests of whole files, as far as featstore committed them."""
        return {path: found["sha256"] for path, found in self._digests(files).items()}

    def create(
        self,
        *,
        schema: pa.Schema,
        name: str,
        description: str,
        add: Sequence[Addition],
        info: Mapping[str, Any],
    ) -> int:
        """Makes the table with its first files, in one commit.

        Returns:
            The new version, or the one that the run had committed before.

        Raises:
            ConflictError: Another writer made it first.
            StorageError: It cannot be written.
        """
        where = self.storage.local(self.folder)
        durable.make_folder(where)
        run_id = str(info["run_id"])
        try:
            create_table_with_add_actions(
                str(where),
                Schema.from_arrow(schema),
                [_add(addition) for addition in add],
                mode="error",
                name=name,
                description=description,
                configuration=_PROPERTIES,
                commit_properties=self._properties(info, add, rows=sum(a.file.rows for a in add), files=len(add)),
            )
        except Exception as error:
            return self._outcome(run_id, -1, error)
        return self._settled(run_id, 0)

    def change(
        self,
        base: Snapshot,
        *,
        add: Sequence[Addition],
        remove: Sequence[str],
        info: Mapping[str, Any],
    ) -> int:
        """Adds and removes files in one commit on top of exactly ``base``.

        Returns:
            The new version, or the one that the run had committed before.

        Raises:
            ConflictError: Another writer committed after ``base``.
            StorageError: It cannot be written.
        """
        run_id = str(info["run_id"])
        live = {file.path: file for file in base.files}
        gone = [live[path] for path in remove]
        now = int(time.time() * 1000)
        actions: list[AddAction | RemoveAction] = [_add(addition) for addition in add]
        actions += [RemoveAction(file.path, True, now, file.size, {}) for file in gone]
        rows = base.rows + sum(a.file.rows for a in add) - sum(file.rows for file in gone)
        files = len(base.files) + len(add) - len(gone)
        try:
            table = self._open(base.version)
            table.create_write_transaction(
                actions,
                mode="append",
                schema=table.schema(),
                commit_properties=self._properties(info, add, rows=rows, files=files),
            )
        except Exception as error:
            return self._outcome(run_id, base.version, error)
        return self._settled(run_id, base.version + 1)

    def replace(self, base: Snapshot, *, schema: pa.Schema, add: Sequence[Addition], info: Mapping[str, Any]) -> int:
        """Puts files of another schema in the place of all there are, in one commit on top of exactly ``base``.

        Raises:
            ConflictError: Another writer committed after ``base``.
            StorageError: It cannot be written.
        """
        try:
            table = self._open(base.version)
            table.create_write_transaction(
                [_add(addition) for addition in add],
                mode="overwrite",
                schema=Schema.from_arrow(schema),
                commit_properties=self._properties(info, add, rows=sum(a.file.rows for a in add), files=len(add)),
            )
        except Exception as error:
            return self._outcome(str(info["run_id"]), base.version, error)
        return self._settled(str(info["run_id"]), base.version + 1)

    def add_columns(self, base: Snapshot, fields: Sequence[pa.Field[Any]], *, run_id: str) -> Snapshot:
        """Adds columns to the table's schema, in a commit of its own that holds no data.

        Raises:
            ConflictError: Another writer committed after ``base``.
            StorageError: It cannot be written.
        """
        info = {"operation": "add columns", "columns_for": run_id}
        try:
            table = self._open(base.version)
            table.alter.add_columns(
                [Field.from_arrow(added) for added in fields],
                commit_properties=self._properties(info, (), rows=base.rows, files=len(base.files)),
            )
        except Exception as error:
            raise self._failed(base.version, error) from error
        self._sync(base.version + 1)
        there = self.snapshot(base.version + 1)
        if any(added.name not in there.schema.names for added in fields):
            raise ConflictError(f"another writer changed {self.storage.local(self.folder)} first.")
        return there

    # ── inside ────────────────────────────────────────────────────────────────────────────────

    def _open(self, version: int | None) -> DeltaTable:
        where = self.storage.local(self.folder)
        if not self.exists():
            raise NotFoundError(f"there is no table in {where}.")
        latest = max(versions(self.storage, self.folder))
        if version is not None and not 0 <= version <= latest:
            address = "@".join(self.folder.split("/")[1:])  # NAME@SPACE_ID; of rejects the table's name
            there = f"0 to {latest}" if latest else "0"
            raise NotFoundError(f"{address} has no version {version}; it has {there}.")
        try:
            return DeltaTable(str(where), version=version)
        except (DeltaError, TableNotFoundError) as error:
            raise self._damaged(str(error)) from error

    def _check_totals(self, snapshot: Snapshot) -> None:
        # A flipped bit can turn an action's name into one that no reader knows and all pass over.
        if snapshot.version not in versions(self.storage, self.folder):
            return  # another engine cleaned the log up; its checkpoint speaks for itself
        info = read_commit(self.storage, self.folder, snapshot.version).info
        told = (info.get("rows"), info.get("files"))
        if None not in told and told != (snapshot.rows, len(snapshot.files)):
            raise self._damaged(
                f"version {snapshot.version} has {snapshot.rows:,} rows in {len(snapshot.files):,} files, "
                f"{told[0]:,} in {told[1]:,} were committed"
            )

    def _digests(self, files: Sequence[LiveFile]) -> dict[str, dict[str, str]]:
        wanted = {file.path for file in files}
        found: dict[str, dict[str, str]] = {}
        for commit in self.commits(newest_first=True):
            if not wanted:
                break
            ours, digests = "operation" in commit.info, commit.info.get("digests")
            for path in wanted & commit.adds.keys():
                wanted.discard(path)
                if not ours:
                    continue  # another engine's file
                digest = digests.get(path) if isinstance(digests, dict) else None
                if not isinstance(digest, dict) or not digest.keys() >= {"sha256", "footer"}:
                    raise self._damaged(f"version {commit.version} lacks the digests of {path}")
                found[path] = digest
        return found

    def _properties(
        self, info: Mapping[str, Any], add: Sequence[Addition], *, rows: int, files: int
    ) -> CommitProperties:
        digests = {a.file.path: {"sha256": a.sha256, "footer": a.footer} for a in add}
        ours = {**info, "rows": rows, "files": files, "digests": digests}
        outside = {key: info[key] for key in ("run_id", "space_id") if key in info}
        return CommitProperties(custom_metadata={**outside, "featstore": ours}, max_commit_retries=0)

    def _outcome(self, run_id: str, base: int, error: Exception) -> int:
        version = self.committed(run_id) if self.exists() else None
        if version is None:
            raise self._failed(base, error) from error
        self._sync(version)
        return version

    def _failed(self, base: int, error: Exception) -> FeatstoreError:
        where = self.storage.local(self.folder)
        if isinstance(error, FeatstoreError):
            return error
        if isinstance(error, CommitFailedError) or (self.exists() and max(versions(self.storage, self.folder)) > base):
            return ConflictError(
                f"another writer committed to {where} after version {base}; nothing of this run is visible.",
                hint="Run the same command again.",
            )
        return StorageError(
            f"cannot commit to {where}: {error}.",
            hint="Nothing of this run is visible and nothing was removed; run the same command again.",
        )

    def _settled(self, run_id: str, version: int) -> int:
        self._sync(version)
        if read_commit(self.storage, self.folder, version).run_id != run_id:
            raise ConflictError(f"version {version} of {self.storage.local(self.folder)} is another run's.")
        return version

    def _sync(self, version: int) -> None:
        # delta-rs renames without fsync: what it has written last is made to outlive a power cut here
        log = f"{self.folder}/_delta_log"
        fresh = f"{version:020d}"
        paths = [p for p in self.storage.files(log) if p.rsplit("/", 1)[-1].startswith((fresh, "_last_checkpoint"))]
        durable.sync([self.storage.local(path) for path in paths])

    def _damaged(self, what: str) -> IntegrityError:
        return damaged_log(self.storage, self.folder, what)


def _add(addition: Addition) -> AddAction:
    file = addition.file
    return AddAction(
        path=file.path,
        size=file.size,
        partition_values={},
        modification_time=int(time.time() * 1000),
        data_change=True,
        stats=json.dumps({"numRecords": file.rows}),
    )
