"""Labels from a column of the table itself."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from featstore.errors import NotFoundError, UsageError
from featstore.labels.given import Labels, known
from featstore.tables import FeatureTable
from featstore.tables.columns import FIXED
from featstore.tables.where import nearest_column

__all__ = ["from_table", "texts"]

_HINT = "Name another with --label, or give a file: --labels FILE.csv"


def from_table(features: FeatureTable, column: str) -> Labels:
    """Reads the labels of all rows; nulls, NaN and white space are none.

    Raises:
        NotFoundError: There is no such column.
        UsageError: The column holds no labels: bytes, times, or what featstore itself writes.
        IntegrityError: A file of the table is damaged.
    """
    if column in FIXED or column == "embedding":
        raise UsageError(f"--label {column}: this column tells items apart; it is no label.", hint=_HINT)
    if column not in features.column_names:
        error = nearest_column(column, features.column_names, asked=f"--label {column}")
        raise NotFoundError(error.message, hint=f"{error.hint} {_HINT}")
    values = features.rows([column])[column]
    return Labels([known(value) for value in _plain(values, column).to_pylist()], column)


def texts(features: FeatureTable, column: str, *, flag: str) -> list[str | None]:
    """A column such as the group, as texts; None where it is null or empty.

    Raises:
        NotFoundError: There is no such column.
        IntegrityError: A file of the table is damaged.
    """
    if column not in features.column_names or column == "embedding":
        raise nearest_column(column, features.column_names, asked=f"{flag} {column}")
    found = (known(value) for value in features.rows([column])[column].to_pylist())
    return [None if value is None else str(value) for value in found]


def _plain(values: pa.ChunkedArray[Any], column: str) -> pa.ChunkedArray[Any]:
    kind = values.type
    if pa.types.is_decimal(kind):
        return values.cast(pa.float64())
    if pa.types.is_binary(kind) or pa.types.is_temporal(kind):
        raise UsageError(f"--label {column}: the column holds {kind}, which can be no label.", hint=_HINT)
    return values
