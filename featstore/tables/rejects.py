"""What was refused, and why: one Delta table for each table name, read by anyone."""

from __future__ import annotations

import io
import json
import random
import time
from collections.abc import Callable, Collection, Sequence
from datetime import UTC, datetime

import pyarrow as pa
import pyarrow.parquet as pq

from featstore.errors import ConflictError, IntegrityError, NotFoundError
from featstore.layout import Layout
from featstore.records import Reject
from featstore.storage import hashing
from featstore.tables.entries import Addition, LiveFile
from featstore.tables.footer import damaged
from featstore.tables.log import DeltaLog

__all__ = ["RejectsTable"]

_COLUMNS: list[tuple[str, pa.DataType]] = [
    ("item_id", pa.string()),
    ("content_sha256", pa.string()),
    ("stage", pa.string()),
    ("code", pa.string()),
    ("message", pa.string()),
    ("run_id", pa.string()),
    ("shard", pa.int64()),
    ("space_id", pa.string()),
    ("created_ts", pa.timestamp("us", "UTC")),
]
_SCHEMA = pa.schema(_COLUMNS)

_TRIES = 20


class RejectsTable:
    """The rejects of a table name, of all its spaces and runs."""

    @staticmethod
    def append(layout: Layout, name: str, *, run_id: str, space_id: str, rejects: Sequence[tuple[int, Reject]]) -> None:
        """Adds a run's rejects; those of a run, space and shard that are there already are passed over.

        Args:
            layout: The store.
            name: The table's name.
            run_id: The run.
            space_id: The space that it embeds into.
            rejects: For each reject its shard, and the reject.

        Raises:
            ConflictError: Other writers were first, each of many times.
            IntegrityError: The rejects table is damaged.
            StorageError: The disk refused.
        """
        if not rejects:
            return
        log = DeltaLog(layout.storage, layout.rejects(name))
        for attempt in range(_TRIES):
            there = _shards(log, run_id, space_id)
            new = [(shard, reject) for shard, reject in rejects if shard not in there]
            if not new:
                return
            try:
                _commit(log, run_id, space_id, new, there)
                return
            except ConflictError:
                if attempt == _TRIES - 1:
                    raise
                time.sleep(random.uniform(0, 0.02) * (attempt + 1))

    @staticmethod
    def read(layout: Layout, name: str, space_id: str | None = None) -> pa.Table:
        """Reads the rejects of a space, or of all; the table is empty where nothing was ever refused.

        Returns:
            ``item_id, content_sha256, stage, code, message, run_id, shard, space_id, created_ts``, oldest first.

        Raises:
            IntegrityError: A file is missing or damaged.
        """
        log = DeltaLog(layout.storage, layout.rejects(name))
        if not log.exists():
            return _SCHEMA.empty_table()
        files = log.snapshot().files
        digests = log.sha256(files)
        order = {path: commit.version for commit in log.commits() for path in commit.adds}
        tables = [
            _read(log, live, digests.get(live.path))
            for live in sorted(files, key=lambda live: (order.get(live.path, 0), live.path))
        ]
        rows = pa.concat_tables(tables) if tables else _SCHEMA.empty_table()
        return rows if space_id is None or not len(rows) else _of(rows, space_id)

    @staticmethod
    def rewrite(
        layout: Layout,
        name: str,
        change: Callable[[pa.Table], pa.Table],
        *,
        run_id: str,
        spoilt: Collection[str] = (),
        dry_run: bool = False,
    ) -> int:
        """Writes the files again that a change would alter, in one commit, and removes the old ones for good.

        Args:
            layout: The store.
            name: The table's name.
            change: Gives the rows that stay, as they are to be; the same ones where nothing is to change.
            run_id: What the commit is called.
            spoilt: Files, relative to the folder, that are to go although no version names them any more.
            dry_run: Only count.

        Returns:
            How many rows go.

        Raises:
            ConflictError: Another writer was first.
            IntegrityError: A file is missing or damaged.
            StorageError: The disk refused.
        """
        log = DeltaLog(layout.storage, layout.rejects(name))
        if not log.exists():
            return 0
        snapshot = log.snapshot()
        digests = log.sha256(snapshot.files)
        gone, old, add = 0, [], []
        for live in snapshot.files:
            before = _read(log, live, digests.get(live.path))
            after = change(before)
            if after.equals(before):
                continue
            gone += len(before) - len(after)
            old.append(live.path)
            if dry_run or not len(after):
                continue
            data = _bytes(after)
            digest = hashing.of_bytes(data)
            # In the same folder: a run's rejects are found by it.
            path = f"{live.path.rpartition('/')[0]}/{digest[:16]}.parquet"
            log.storage.write(f"{log.folder}/{path}", data)
            add.append(Addition(LiveFile(path, len(data), len(after)), sha256=digest, footer=""))
        if dry_run:
            return gone
        if old:
            log.change(snapshot, add=add, remove=old, info={"operation": "purge", "run_id": run_id})
        for path in {*old, *spoilt}:
            log.storage.delete(f"{log.folder}/{path}")
        return gone


def _commit(log: DeltaLog, run_id: str, space_id: str, new: list[tuple[int, Reject]], there: set[int]) -> None:
    shards = sorted({shard for shard, _ in new})
    # A name of its own for each content: a retry writes the same file, two spaces of one run do not meet.
    data = _parquet(run_id, space_id, new)
    path = f"_runs/{run_id}/{hashing.of_json([space_id, shards, sorted(there)])[:16]}.parquet"
    log.storage.write(f"{log.folder}/{path}", data)
    digest = hashing.of_bytes(data)
    addition = Addition(LiveFile(path, len(data), len(new)), sha256=digest, footer="")
    # the log finds a commit again by this id when its outcome is unknown
    info = {"operation": "reject", "run_id": f"{run_id}/{digest[:16]}", "space_id": space_id}
    if log.exists():
        log.change(log.snapshot(), add=[addition], remove=(), info=info)
    else:
        description = json.dumps({"featstore": 1, "rejects": log.folder})
        log.create(schema=_SCHEMA, name="rejects", description=description, add=[addition], info=info)


def _shards(log: DeltaLog, run_id: str, space_id: str) -> set[int]:
    if not log.exists():
        return set()
    prefix = f"_runs/{run_id}/"
    files = [live for live in log.snapshot().files if live.path.startswith(prefix)]
    digests = log.sha256(files)
    found: set[int] = set()
    for live in files:
        rows = _read(log, live, digests.get(live.path))
        found |= {shard for shard in _of(rows, space_id)["shard"].to_pylist() if shard is not None}
    return found


def _of(rows: pa.Table, space_id: str) -> pa.Table:
    import pyarrow.compute as pc  # takes longer than all that a listing does where nothing was refused

    return rows.filter(pc.equal(rows["space_id"], pa.scalar(space_id)))


def _parquet(run_id: str, space_id: str, rejects: Sequence[tuple[int, Reject]]) -> bytes:
    now = datetime.now(UTC)
    rows = [
        {
            "item_id": _clean(reject.item_id),
            "content_sha256": reject.content_sha256,
            "stage": reject.stage,
            "code": reject.code,
            "message": _clean(reject.message),
            "run_id": run_id,
            "shard": shard,
            "space_id": space_id,
            "created_ts": now,
        }
        for shard, reject in rejects
    ]
    return _bytes(pa.Table.from_pylist(rows, schema=_SCHEMA))


def _bytes(table: pa.Table) -> bytes:
    sink = io.BytesIO()
    pq.write_table(table, sink, compression="zstd", write_page_checksum=True, store_schema=False)
    return sink.getvalue()


def _clean(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode()


def _read(log: DeltaLog, live: LiveFile, digest: str | None) -> pa.Table:
    path = f"{log.folder}/{live.path}"
    where = log.storage.local(path)
    try:
        data = log.storage.read(path)
    except NotFoundError as error:
        raise IntegrityError(f"{where} is missing; the rejects table's log names it.") from error
    if digest is not None and hashing.of_bytes(data) != digest:
        raise damaged(where, "its bytes are not those that were committed")
    try:
        # Not pq.read_table: its dataset reader leaves work to Arrow's threads, which may abort the process when
        # the interpreter ends before they do.
        rows = pq.ParquetFile(pa.BufferReader(data), page_checksum_verification=True).read(use_threads=False)
        return rows.select(_SCHEMA.names).cast(_SCHEMA)
    except (pa.ArrowException, OSError, ValueError, KeyError) as error:
        raise damaged(where, f"it cannot be read ({error})") from error
