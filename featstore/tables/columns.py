"""The columns that every feature table has, and their order in a data file."""

from __future__ import annotations

import pyarrow as pa

__all__ = ["FIXED", "RESERVED", "TIMESTAMP", "VECTOR", "describe", "full_schema", "ordered", "vector_type"]

VECTOR = "embedding"

TIMESTAMP = pa.timestamp("us", "UTC")

FIXED: dict[str, pa.DataType] = {
    "item_id": pa.string(),
    "content_sha256": pa.string(),
    "event_ts": TIMESTAMP,
    "created_ts": TIMESTAMP,
    "run_id": pa.string(),
}
"""The columns beside ``embedding``. Metadata stands between the second and the third."""

RESERVED = frozenset({*FIXED, VECTOR, "_file", "_row"})


def vector_type() -> pa.DataType:
    """The type of ``embedding``: a list of float32 whose child is called ``element``, as Parquet says."""
    return pa.list_(pa.field("element", pa.float32()))


def full_schema(rows: pa.Schema) -> pa.Schema:
    """The schema of a data file: the rows' columns with ``embedding`` in the third place."""
    fields = [rows.field(name) for name in rows.names]
    return pa.schema([*fields[:2], pa.field(VECTOR, vector_type()), *fields[2:]])


def ordered(rows: pa.Schema) -> pa.Schema:
    """The rows' columns in the order of ``normalise``; columns added later stand last in a table's schema."""
    names = list(FIXED)
    middle = [name for name in rows.names if name not in FIXED]
    return pa.schema([rows.field(name) for name in [*names[:2], *middle, *names[2:]]])


def describe(kind: pa.DataType) -> str:
    """A type's name for messages."""
    return str(kind).replace("timestamp[us, tz=UTC]", "timestamp")
