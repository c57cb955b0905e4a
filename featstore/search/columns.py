"""The columns of a table's rows, read for the hits; for a table of few bytes read once and kept."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from featstore.extract.chunk_rows import PARENT, parent_of
from featstore.tables import FeatureTable
from featstore.tables.columns import VECTOR
from featstore.tables.where import columns_of, nearest_column, picked

__all__ = ["Columns"]

_KEPT_BYTES = 32 << 20
_KEPT_MASKS = 16


class Columns:
    """What a searcher reads of a table beside its vectors.

    Attributes:
        names: The columns, without the vectors.
    """

    def __init__(self, table: FeatureTable) -> None:
        self._table = table
        self._asked = 0
        self._kept: pa.Table | None = None
        self._masks: dict[str, NDArray[np.bool_]] = {}
        self.names = [name for name in table.column_names if name != VECTOR]

    def at(self, rows: NDArray[np.int64], names: Sequence[str]) -> pa.Table:
        """Some rows, in the order asked for."""
        # One query reads little of the files; who asks again will ask more often.
        self._asked += 1
        if self._kept is None and self._asked > 2 and self._bytes() <= _KEPT_BYTES:
            self._kept = self._table.rows().drop_columns(["_file", "_row"])
        if self._kept is not None:
            return self._kept.select(list(names)).take(rows)
        return self._table.rows_at(rows, names)

    def allowed(self, where: str) -> NDArray[np.bool_]:
        """Which rows an expression picks, (n,).

        Raises:
            UsageError: It is no expression, or does not fit the table.
            NotFoundError: It names a column that is not there; the nearest is named.
        """
        if where not in self._masks:
            wanted = columns_of(where, self._table.column_names) or ["item_id"]
            rows = self._table.rows(wanted).drop_columns(["_file", "_row"])
            while len(self._masks) >= _KEPT_MASKS:
                self._masks.pop(next(iter(self._masks)))
            self._masks[where] = picked(rows, where)
        return self._masks[where]

    def grouping(self, group_by: str | None) -> str | None:
        """The column whose values make groups; None where every row stands for itself.

        Args:
            group_by: As the user said; by default ``parent`` where the table has such a column.

        Raises:
            NotFoundError: There is no such column; the nearest is named.
        """
        if group_by is None:
            return PARENT if PARENT in self.names else None
        if group_by == "item_id":
            return None
        if group_by not in self.names:
            raise nearest_column(group_by, self.names, asked="--group-by")
        return group_by

    def groups(self, rows: NDArray[np.int64], column: str, *, chunks: bool) -> list[object]:
        """The group of each row; None for a row that stands for itself.

        Args:
            rows: (m,) int64.
            column: The column.
            chunks: Group chunks only: a source may have a column of that name too, but only chunks are named after it.
        """
        found = self.at(rows, ["item_id", column] if chunks else [column])
        values: list[object] = found[column].to_pylist()
        if not chunks:
            return values
        ids = found["item_id"].to_pylist()
        return [own if own == parent_of(str(item)) != item else None for own, item in zip(values, ids, strict=True)]

    def _bytes(self) -> int:
        return self._table.bytes - 4 * self._table.dim * len(self._table)
