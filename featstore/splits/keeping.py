"""A split on disk: ``LABEL.parquet`` with every item's side, ``LABEL.json`` with how it came about and was used.

Without the JSON document there is no split. It is written last, and only ever grows, until a new one replaces it.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace

import pyarrow as pa

from featstore.errors import IntegrityError, LockedError
from featstore.layout import Layout
from featstore.records import SplitRecord, SplitScoring
from featstore.storage import documents, frames, locks

__all__ = ["COLUMNS", "Kept", "locked", "read", "score", "write"]

COLUMNS: dict[str, pa.DataType] = {
    "item_id": pa.string(),
    "content_sha256": pa.string(),
    "name": pa.string(),
    "group": pa.int64(),
    "fold": pa.int64(),
    "test": pa.bool_(),
    "excluded": pa.bool_(),
}
"""``name`` is what the user calls the group, null for none; ``fold`` is -1 on the test side."""

_MARK = b"split_id"
_LOCK_SECONDS = 60.0


@dataclass(frozen=True)
class Kept:
    """A split as it is kept: its record and the items it has ever seen, each content of an item a row."""

    record: SplitRecord
    rows: pa.Table


@contextmanager
def locked(layout: Layout, table: str, label: str) -> Iterator[None]:
    """Holds the split for the length of the block; waits a minute for others, who hold it for moments.

    Raises:
        LockedError: Another process does not let go.
    """
    path = f"locks/{layout.split(table, label, 'lock')}"
    purpose = f"dealing out the split '{label}' of '{table}'"
    deadline = time.monotonic() + _LOCK_SECONDS
    with ExitStack() as stack:
        while True:
            try:
                stack.enter_context(locks.hold(layout.storage, path, purpose=purpose))
                break
            except LockedError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.2)
        yield


def read(layout: Layout, table: str, label: str) -> Kept | None:
    """The kept split of a table's label; None where there is none.

    Raises:
        IntegrityError: A file of it is damaged, missing or another split's.
    """
    record = documents.find(layout.storage, layout.split(table, label), SplitRecord)
    if record is None:
        return None
    path = layout.split(table, label, "parquet")
    where = layout.storage.local(path)
    hint = "Restore it from a backup, or make another: featstore train-head --new-split"
    if not layout.storage.exists(path):
        raise IntegrityError(f"{where} is missing.", hint=hint)
    rows = frames.read(layout.storage, path)
    if dict(zip(rows.schema.names, rows.schema.types, strict=True)) != COLUMNS:
        raise IntegrityError(f"{where} does not hold a split.", hint=hint)
    if (rows.schema.metadata or {}).get(_MARK) != record.split_id.encode():
        raise IntegrityError(f"{where} does not belong to the split {record.split_id}.", hint=hint)
    return Kept(record, rows)


def write(layout: Layout, kept: Kept) -> None:
    """Writes a split; one of another id is replaced.

    Raises:
        StorageError: The disk refused.
    """
    table, label = kept.record.table, kept.record.label
    path = layout.split(table, label)
    before = documents.find(layout.storage, path, SplitRecord)
    if before is not None and before.split_id != kept.record.split_id:
        layout.storage.delete(path)  # killed in between, there is no split rather than half of two
    marked = kept.rows.replace_schema_metadata({_MARK: kept.record.split_id.encode()})
    frames.write(layout.storage, layout.split(table, label, "parquet"), marked)
    documents.write(layout.storage, path, kept.record)


def score(layout: Layout, record: SplitRecord, scoring: SplitScoring) -> int:
    """Writes down that the test items are being looked at; done before, so that no look is forgotten.

    Returns:
        How often they were, this time included.

    Raises:
        IntegrityError: The split was replaced meanwhile, or is damaged.
    """
    with locked(layout, record.table, record.label):
        path = layout.split(record.table, record.label)
        fresh = documents.find(layout.storage, path, SplitRecord)
        if fresh is None or fresh.split_id != record.split_id:
            raise IntegrityError(
                f"the split {record.split_id} of '{record.table}' was replaced while a head was trained on it.",
                hint="Train again.",
            )
        fresh = replace(fresh, scored=(*fresh.scored, scoring))
        documents.write(layout.storage, path, fresh)
        return len(fresh.scored)
