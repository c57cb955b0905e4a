"""Ids and times out of a table of any library, and columns put beside them: Polars, pandas or Arrow."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

from featstore.errors import UsageError
from featstore.tables.past import moment

__all__ = ["beside", "column_names", "ids", "times"]

_NO_TIME = np.iinfo(np.int64).min


def column_names(frame: Any) -> list[str]:
    """The names of a frame's columns.

    Raises:
        UsageError: It is no frame that is known here.
    """
    if isinstance(frame, pl.DataFrame):
        return list(frame.columns)
    if isinstance(frame, pa.Table):
        return list(frame.column_names)
    if _is_pandas(frame):
        return [str(name) for name in frame.columns]
    lazy = isinstance(frame, pl.LazyFrame)
    raise UsageError(
        f"a {type(frame).__module__}.{type(frame).__name__} is no table to put features beside.",
        hint="Call .collect() first." if lazy else "Give a Polars or pandas frame or an Arrow table.",
    )


def ids(frame: Any, name: str) -> list[str | None]:
    """The ids that a column holds; null where it has none.

    Raises:
        UsageError: There is no such column, or it holds no texts.
    """
    column = _column(frame, name)
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    kind = column.type
    if pa.types.is_null(kind):
        return [None] * len(column)
    if not (pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)):
        raise UsageError(
            f"the column '{name}' is {kind}; ids are texts, as the item_id column of a table holds them.",
            hint="Convert it to text, just as it was when the table was extracted.",
        )
    found: list[str | None] = column.to_pylist()
    return found


def times(frame: Any, name: str) -> NDArray[np.int64]:
    """The times that a column holds, in microseconds since 1970 UTC; the least int64 where it has none.

    Times without a zone are UTC, dates their midnight; texts are ISO 8601.

    Raises:
        UsageError: There is no such column, or it holds no times.
    """
    column = _column(frame, name)
    kind = column.type
    if pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        known = {text: moment(text) for text in column.unique().to_pylist() if text is not None}
        column = pa.chunked_array(
            [pa.array([None if text is None else known[text] for text in column.to_pylist()], _utc())]
        )
    elif pa.types.is_date(kind):
        column = column.cast(pa.timestamp("us"))
    elif pa.types.is_null(kind):
        column = column.cast(_utc())
    elif not pa.types.is_timestamp(kind):
        raise UsageError(
            f"the column '{name}' is {kind}, not a time.", hint="Convert it to a timestamp, or to texts in ISO 8601."
        )
    whole = pa.timestamp("us", column.type.tz)
    counted: Any = column.cast(whole, safe=False).cast(pa.int64())
    found: NDArray[np.int64] = counted.fill_null(_NO_TIME).to_numpy()
    return found


def beside(frame: Any, columns: Mapping[str, pa.Array[Any]]) -> Any:
    """The frame with further columns, of the kind that it is; a pandas frame keeps its index."""
    if isinstance(frame, pl.DataFrame):
        return frame.with_columns([_series(name, column) for name, column in columns.items()])
    if isinstance(frame, pa.Table):
        for name, column in columns.items():
            frame = frame.append_column(name, column)
        return frame
    return frame.assign(**{name: _values(column) for name, column in columns.items()})


def _series(name: str, column: pa.Array[Any]) -> pl.Series:
    found = pl.from_arrow(column)
    assert isinstance(found, pl.Series)
    return found.alias(name)


def _values(column: pa.Array[Any]) -> Any:
    """A column for pandas: the rows of one matrix for vectors, what pandas makes of Arrow for all else."""
    if not pa.types.is_fixed_size_list(column.type):
        return column.to_pandas().array
    whole: Any = column
    matrix = whole.values.to_numpy().reshape(len(column), column.type.list_size)
    found = np.empty(len(column), object)
    for row, known in enumerate(column.is_valid().to_pylist()):
        found[row] = matrix[row] if known else None
    return found


def _column(frame: Any, name: str) -> pa.ChunkedArray[Any]:
    names = column_names(frame)
    if names.count(name) != 1:
        raise UsageError(f"the frame has {names.count(name)} columns '{name}'; it has: {', '.join(names)}.")
    try:
        found = frame[name].to_arrow() if isinstance(frame, pl.DataFrame) else frame[name]
        if not isinstance(found, pa.Array | pa.ChunkedArray):
            found = pa.Array.from_pandas(found)
    except (pa.ArrowException, TypeError, ValueError) as error:
        raise UsageError(f"the column '{name}' cannot be read: {error}.") from error
    return found if isinstance(found, pa.ChunkedArray) else pa.chunked_array([found])


def _is_pandas(frame: Any) -> bool:
    return type(frame).__module__.partition(".")[0] == "pandas" and type(frame).__name__ == "DataFrame"


def _utc() -> pa.DataType:
    return pa.timestamp("us", "UTC")
