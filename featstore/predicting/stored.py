"""Vectors that the store has already: of equal content, in the same space, whatever table they are in."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from featstore.errors import FeatstoreError
from featstore.tables import FeatureTable

if TYPE_CHECKING:
    from featstore.layout import Layout

__all__ = ["Stored"]


class Stored:
    """Where the vectors of some contents lie; what is read of a table is its column of hashes.

    Args:
        layout: The store.
        space_id: The space.
        contents: The hashes that are asked for, n strings.
        warn: Told of a table that cannot be read and is passed over.
    """

    def __init__(
        self, layout: Layout, space_id: str, contents: pa.ChunkedArray[Any], warn: Callable[[str], None]
    ) -> None:
        self._tables: list[FeatureTable] = []
        self._table = np.full(len(contents), -1, np.int32)
        self._row = np.full(len(contents), -1, np.int64)
        for name in layout.storage.folders("features"):
            missing = np.flatnonzero(self._table < 0)
            if not len(missing):
                break
            if not FeatureTable.exists(layout, name, space_id):
                continue
            try:
                table = FeatureTable.open(layout, name, space_id)
                known = table.rows(["content_sha256"])["content_sha256"].combine_chunks()
            except FeatstoreError as error:
                warn(f"the table '{name}' is passed over: {error.message}")
                continue
            at = pc.index_in(contents.take(missing), value_set=known)
            found = np.asarray(at.fill_null(-1).to_numpy(zero_copy_only=False), np.int64)
            there = found >= 0
            if there.any():
                self._table[missing[there]] = len(self._tables)
                self._row[missing[there]] = found[there]
                self._tables.append(table)

    def known(self, start: int, stop: int) -> NDArray[np.bool_]:
        """Which of the contents ``start`` to ``stop`` the store has: (stop − start,)."""
        return np.asarray(self._table[start:stop] >= 0, np.bool_)

    def fill(self, start: int, vectors: NDArray[np.float32]) -> None:
        """Writes the known vectors into the rows of an array whose first row is the content ``start``.

        Raises:
            IntegrityError: A file of a table is missing or damaged.
        """
        tables = self._table[start : start + len(vectors)]
        for number in np.unique(tables[tables >= 0]).tolist():
            mine = np.flatnonzero(tables == number)
            vectors[mine] = self._tables[number].vectors_at(self._row[start + mine])
