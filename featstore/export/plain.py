"""Columns as plain numpy arrays, for formats that know neither nulls nor texts."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from featstore.errors import UsageError

__all__ = ["Texts", "check_names", "nulls", "values"]


@dataclass(frozen=True)
class Texts:
    """A column of texts or bytes: all of them one after the other, and where each begins and ends.

    ``data`` is uint8, ``offsets`` int64 (n + 1). ``column`` has the texts themselves, nulls filled.
    """

    data: NDArray[np.uint8]
    offsets: NDArray[np.int64]
    column: pa.ChunkedArray[Any]


def values(column: pa.ChunkedArray[Any]) -> NDArray[Any] | Texts:
    """A column's values; what stands in place of a null is nothing to go by (see ``nulls``).

    Booleans, integers and floats keep their type, times are datetime64[us] in UTC, dates datetime64[D]; decimals
    become text.
    """
    kind = column.type
    if pa.types.is_decimal(kind):
        column, kind = column.cast(pa.string()), pa.string()
    if pa.types.is_string(kind) or pa.types.is_binary(kind):
        return _texts(column)
    if pa.types.is_timestamp(kind):
        return values(column.cast(pa.int64())).view("datetime64[us]")  # type: ignore[union-attr]
    if pa.types.is_date(kind):
        days: NDArray[Any] = values(column.cast(pa.int32()))  # type: ignore[assignment]
        return days.astype("datetime64[D]")
    filled = column.fill_null(pa.scalar(False if pa.types.is_boolean(kind) else 0, kind))
    found: NDArray[Any] = filled.to_numpy()
    return found


def nulls(column: pa.ChunkedArray[Any]) -> NDArray[np.bool_] | None:
    """Where the column is null; None where it is nowhere."""
    return column.is_null().to_numpy() if column.null_count else None


def check_names(names: Iterable[str]) -> None:
    """Refuses two arrays of one name.

    Raises:
        UsageError: A column is called like an array that belongs to another, or to the file itself.
    """
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise UsageError(
                f"two arrays of the file would be called '{name}'.",
                hint="Leave the column out with --columns, or write Parquet.",
            )
        seen.add(name)


def _texts(column: pa.ChunkedArray[Any]) -> Texts:
    wide = pa.large_string() if pa.types.is_string(column.type) else pa.large_binary()
    filled = column.cast(wide).fill_null(pa.scalar("" if wide == pa.large_string() else b"", wide))
    whole = pa.concat_arrays(filled.chunks) if filled.num_chunks else pa.array([], wide)
    buffers = whole.buffers()
    if not len(whole) or buffers[1] is None:
        return Texts(np.zeros(0, np.uint8), np.zeros(len(whole) + 1, np.int64), filled)
    offsets = np.frombuffer(memoryview(buffers[1]), np.int64)[whole.offset : whole.offset + len(whole) + 1]
    data = np.zeros(0, np.uint8) if buffers[2] is None else np.frombuffer(memoryview(buffers[2]), np.uint8)
    return Texts(data[int(offsets[0]) : int(offsets[-1])], offsets - offsets[0], filled)
