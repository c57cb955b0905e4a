"""A table's vectors as a searcher compares queries with them: through the index where there is one, else exactly."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from featstore.errors import IntegrityError
from featstore.layout import Layout
from featstore.neighbours import exact as exactly
from featstore.neighbours import lengths_of
from featstore.tables import FeatureTable

if TYPE_CHECKING:
    from featstore.index import TableIndex

__all__ = ["Project", "TableVectors"]

Project = Callable[[NDArray[np.float32]], NDArray[np.float32]]

# Reading rows here and there costs more than reading all of them in a stretch, from about this share on.
_SPARSE = 8


class TableVectors:
    """The vectors of one version, or what a projection makes of them; read when they are first needed, then kept.

    Safe in threads.

    Args:
        layout: The store.
        table: The version.
        project: What the vectors go through before they are compared; an index then does not serve.
    """

    def __init__(self, layout: Layout, table: FeatureTable, project: Project | None = None) -> None:
        self._layout = layout
        self._table = table
        self._project = project
        self._matrix: tuple[NDArray[np.float32], NDArray[np.float64]] | None = None
        self._index: TableIndex | None = None
        self._looked = project is not None
        self._lock = threading.Lock()
        self.damage: str | None = None

    @property
    def index(self) -> TableIndex | None:
        """The index that serves the version; None where there is none that can be used, ``damage`` then says why."""
        from featstore.index import open_index

        with self._lock:
            if not self._looked:
                self._looked = True
                try:
                    self._index = open_index(self._layout, self._table)
                except IntegrityError as error:
                    self.damage = error.message
            return self._index

    def nearest(
        self, queries: NDArray[np.float32], k: int, *, allowed: NDArray[np.bool_] | None = None, exact: bool = False
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """The k most similar rows for each query, best first.

        Args:
            queries: (q, d) float32, finite, none of length 0.
            k: How many; at most n.
            allowed: (n,) bool, which rows may be found; all by default.
            exact: Pass over the index.

        Returns:
            Rows (q, m) int64, -1 for none, and cosines (q, m) float32; m is at most k.

        Raises:
            IntegrityError: A file of the table is damaged.
        """
        index = None if exact else self.index
        if index is not None:
            try:
                return index.search(queries, k, allowed=allowed)
            except IntegrityError as error:
                # The table's own damage is met again below.
                with self._lock:
                    self._index, self.damage = None, error.message
        if allowed is not None and self._matrix is None:
            rows = np.flatnonzero(allowed)
            if len(rows) < len(self._table) // _SPARSE:
                found, scores = exactly(queries, self._made(self._table.vectors_at(rows)), k)
                return np.where(found >= 0, rows[found], -1), scores
        vectors, lengths = self._all()
        return exactly(queries, vectors, k, allowed=allowed, lengths=lengths)

    def _all(self) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
        with self._lock:
            if self._matrix is None:
                vectors = self._made(self._table.matrix()[1])
                self._matrix = vectors, lengths_of(vectors)
            return self._matrix

    def _made(self, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        return vectors if self._project is None else self._project(vectors)
