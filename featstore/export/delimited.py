"""CSV: a header, then one line an item, each value of the vector in a column of its own.

UTF-8, commas, texts in double quotes; an empty field is null, ``""`` an empty text. Times are UTC, binary
columns hexadecimal. Vector values are the shortest decimals that read back as the same float32. Cells are
written as they stand: a text that begins with ``=`` is a formula to a spreadsheet.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.csv as csv

from featstore.errors import UsageError
from featstore.export.selection import Selected
from featstore.tables.columns import VECTOR

__all__ = ["write"]

_ROWS = 4096


def write(file: BinaryIO, selected: Selected, tell: Callable[[int], None]) -> None:
    """Writes the selected rows.

    Args:
        file: Where to.
        selected: What to; the vector's columns are ``embedding_0``, ``embedding_1``, …
        tell: Called with the number of rows done, after each block.

    Raises:
        UsageError: A column has the name of one of the vector's.
    """
    names = [f"{VECTOR}_{at}" for at in range(selected.table.dim)]
    taken = set(names) & set(selected.columns)
    if taken:
        raise UsageError(
            f"the column '{min(taken)}' has the name of one of the vector's.",
            hint="Leave it out with --columns, or write Parquet.",
        )
    empty = selected.table.rows(["item_id", *selected.columns]).slice(0, 0).drop_columns(["_file", "_row"])
    rows = _plain(empty)
    schema = pa.schema([*rows.schema, *(pa.field(name, pa.float32()) for name in names)])
    with csv.CSVWriter(file, schema, write_options=csv.WriteOptions(quoting_style="needed")) as writer:
        for found, vectors in selected.blocks():
            for start in range(0, found.num_rows, _ROWS):
                rows = _plain(found.slice(start, _ROWS))
                values = np.ascontiguousarray(vectors[start : start + _ROWS].T)
                writer.write_table(pa.table([*rows.columns, *map(pa.array, values)], schema=schema))
            tell(found.num_rows)


def _plain(rows: pa.Table) -> pa.Table:
    return pa.table({name: _text(rows[name]) for name in rows.column_names})


def _text(column: pa.ChunkedArray[Any]) -> pa.ChunkedArray[Any]:
    if pa.types.is_binary(column.type):
        return pa.chunked_array([[None if v is None else v.hex() for v in column.to_pylist()]], pa.string())
    return column.cast(pa.string()) if pa.types.is_decimal(column.type) else column
