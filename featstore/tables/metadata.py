"""How a source's metadata becomes plain columns.

It is normalised before it is first written, so that every reader opens it and a later run of
the same source meets the same types:

==================================  =====================================================
integers                            int64
floats                              float64
text, dictionaries of text          string
timestamps                          microseconds UTC; without a zone they are taken as UTC
dates                               date32
booleans, binary                    kept
decimals up to 38 digits            kept; wider ones become text
times, durations, lists, structs    JSON text (times ISO 8601, durations in seconds)
all values null                     the column is left out
==================================  =====================================================

``event_ts`` is always there, and null unless the source names a time column.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from typing import Any

import pyarrow as pa

from featstore.errors import SettingsError
from featstore.tables.columns import FIXED, RESERVED, TIMESTAMP, describe

__all__ = ["check_names", "check_normal", "normalise"]

_REQUIRED = ("item_id", "content_sha256", "created_ts", "run_id")


def check_names(names: Iterable[str]) -> None:
    """Checks the names of a source's metadata columns.

    Raises:
        SettingsError: A name is taken by a fixed column, empty, or equal to another but for its case.
    """
    seen: dict[str, str] = {}
    for name in names:
        if not name or "\x00" in name:
            raise SettingsError(
                f"the metadata column {name!r} has no usable name.", hint="Give the column a name in the source."
            )
        if name.casefold() in RESERVED:
            raise SettingsError(
                f"the metadata column '{name}' has a name that every feature table uses itself.",
                hint=f"Rename it in the source; taken are: {', '.join(sorted(RESERVED))}.",
            )
        if name.casefold() in seen:
            raise SettingsError(
                f"the metadata columns '{seen[name.casefold()]}' and '{name}' have one name, but perhaps for its case.",
                hint="Rename one of them in the source.",
            )
        seen[name.casefold()] = name


def normalise(rows: pa.Table) -> pa.Table:
    """Brings rows to the fixed columns and plain metadata types.

    Args:
        rows: ``item_id``, ``content_sha256``, ``created_ts``, ``run_id``, perhaps ``event_ts``, and metadata.

    Returns:
        The columns in a table's order (without ``embedding``); metadata columns that are all null left out.

    Raises:
        SettingsError: A column is missing, its name cannot be used, or a value does not fit its type.
    """
    metadata = [name for name in rows.column_names if name not in FIXED]
    check_names(metadata)
    _check_fixed(rows)
    columns: dict[str, pa.ChunkedArray[Any]] = {}
    for name in ("item_id", "content_sha256"):
        columns[name] = _cast(name, rows[name], FIXED[name])
    for name in metadata:
        if rows[name].null_count < len(rows):
            columns[name] = _plain(name, rows[name])
    for name in ("event_ts", "created_ts", "run_id"):
        found = rows[name] if name in rows.column_names else pa.chunked_array([pa.nulls(len(rows))])
        columns[name] = _cast(name, found, FIXED[name])
    return pa.table(columns)


def check_normal(rows: pa.Schema) -> None:
    """Checks that rows are as ``normalise`` makes them.

    Raises:
        SettingsError: They are not.
    """
    middle = rows.names[2:-3]
    ends = [*rows.names[:2], *rows.names[-3:]]
    if ends != list(FIXED) or any(rows.field(name).type != kind for name, kind in FIXED.items()):
        raise SettingsError(f"the rows are not aligned; their columns are {', '.join(rows.names)}.")
    check_names(middle)
    for name in middle:
        kind = rows.field(name).type
        if kind != _target(kind):
            raise SettingsError(f"the rows are not aligned; the column '{name}' is {describe(kind)}.")


def _check_fixed(rows: pa.Table) -> None:
    missing = [name for name in _REQUIRED if name not in rows.column_names]
    if missing:
        raise SettingsError(f"the rows lack {', '.join(missing)}; got {', '.join(rows.column_names)}.")
    for name in _REQUIRED:
        if rows[name].null_count:
            raise SettingsError(f"{rows[name].null_count} of {len(rows)} rows have no {name}.")


def _plain(name: str, column: pa.ChunkedArray[Any]) -> pa.ChunkedArray[Any]:
    kind = column.type
    if isinstance(kind, pa.BaseExtensionType):
        column = column.cast(kind.storage_type)
        kind = column.type
    if pa.types.is_dictionary(kind):
        return _plain(name, column.cast(kind.value_type))
    target = _target(kind)
    return _as_text(name, column) if target is None else _cast(name, column, target)


def _target(kind: pa.DataType) -> pa.DataType | None:
    types = pa.types
    if types.is_boolean(kind):
        return kind
    if types.is_integer(kind):
        return pa.int64()
    if types.is_floating(kind):
        return pa.float64()
    if types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind):
        return pa.string()
    if types.is_timestamp(kind):
        return TIMESTAMP
    if types.is_date(kind):
        return pa.date32()
    if types.is_decimal(kind):
        return pa.decimal128(kind.precision, kind.scale) if kind.precision <= 38 and kind.scale >= 0 else pa.string()
    if types.is_binary(kind) or types.is_large_binary(kind) or types.is_binary_view(kind):
        return pa.binary()
    return pa.binary() if types.is_fixed_size_binary(kind) else None


def _cast(name: str, column: pa.ChunkedArray[Any], target: pa.DataType) -> pa.ChunkedArray[Any]:
    import pyarrow.compute as pc  # takes as long as a small search, which reads tables and casts nothing

    try:
        if pa.types.is_timestamp(target) and pa.types.is_timestamp(column.type):
            # nanoseconds are cut to microseconds on purpose; a value out of range is still an error
            unit = pa.timestamp("us", column.type.tz)
            column = column.cast(options=pc.CastOptions(unit, allow_time_truncate=True))
            if column.type.tz is None:
                return pc.assume_timezone(column, "UTC")  # type: ignore[return-value]
        return column.cast(target)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise SettingsError(
            f"the column '{name}' ({describe(column.type)}) does not fit {describe(target)}: {error}.",
            hint="Convert the column in the source, for example to text.",
        ) from error


def _as_text(name: str, column: pa.ChunkedArray[Any]) -> pa.ChunkedArray[Any]:
    try:
        texts = [None if value is None else _text(value) for value in _values(column)]
    except (TypeError, ValueError, OverflowError, pa.ArrowException) as error:
        raise SettingsError(
            f"the column '{name}' ({describe(column.type)}) cannot be written as JSON text: {error}.",
            hint="Convert the column in the source, for example to text.",
        ) from error
    return pa.chunked_array([pa.array(texts, pa.string())])


def _values(column: pa.ChunkedArray[Any]) -> Sequence[object]:
    if pa.types.is_duration(column.type):
        per_second = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}[column.type.unit]
        return [None if ticks is None else ticks / per_second for ticks in column.cast(pa.int64()).to_pylist()]
    if pa.types.is_time64(column.type) and column.type.unit == "ns":
        column = column.cast(pa.time64("us"), safe=False)
    return list(column.to_pylist())


def _text(value: object) -> str:
    if hasattr(value, "isoformat"):
        return str(value.isoformat())
    return json.dumps(_json(value), ensure_ascii=False, separators=(", ", ": "), allow_nan=False)


def _json(value: object) -> object:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {str(key): _json(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_json(item) for item in value]
    if value is None or isinstance(value, str | int | bool):
        return value
    if isinstance(value, bytes):
        return value.hex()
    if hasattr(value, "isoformat"):
        return value.isoformat()
    if hasattr(value, "total_seconds"):
        return value.total_seconds()
    return str(value)
