"""An opened index beside the version of the table that is asked about: what has moved since is put right."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from featstore import neighbours
from featstore.errors import UsageError
from featstore.index.view import RowView

if TYPE_CHECKING:
    from featstore.index.freshness import Alignment
    from featstore.neighbours import VectorIndex
    from featstore.records import IndexCard
    from featstore.tables import FeatureTable

__all__ = ["TableIndex"]

# Comparing this many vectors takes less than a walk through a graph or lists of which few may be found.
_FEW = 10_000
_WORTH_SAYING = 0.05

Found = tuple[NDArray[np.int64], NDArray[np.float32]]


class TableIndex:
    """Finds the nearest rows of one version of a table; made by ``open_index``. Several threads may search at once.

    Attributes:
        card: What the index was made from, and how well it does.
        added: Rows of the version that the index lacks, changed ones among them; they are compared exactly.
        removed: Items of the index that the version lacks; they are left out.
        note: What to tell the user about that; None where it is not worth saying.
    """

    def __init__(self, features: FeatureTable, card: IndexCard, index: VectorIndex, alignment: Alignment) -> None:
        self._features = features
        self._view = RowView(index, alignment.rows, exact=card.kind == "flat")
        self._new = alignment.new
        self._new_vectors: NDArray[np.float32] | None = None
        self.card = card
        self.added = len(alignment.new)
        self.removed = alignment.gone
        self.note: str | None = None
        if self.added + self.removed > _WORTH_SAYING * max(1, len(features)):
            self.note = (
                f"the index is of version {card.version}: {self.added:,} of {len(features):,} items are not in it and "
                f"{self.removed:,} in it are gone. Answers are right but slower until the next: "
                f"featstore index {features.name}@{features.space_id}"
            )

    def search(self, queries: NDArray[np.float32], k: int, *, allowed: NDArray[np.bool_] | None = None) -> Found:
        """The k most similar rows for each query, best first; equal scores in row order.

        Args:
            queries: (q, dim) float32, of any length but 0.
            k: How many.
            allowed: (n,) bool, which rows may be found; all by default.

        Returns:
            Rows (q, k) int64 and their cosines (q, k) float32, computed from the table's own vectors. Where fewer
            than k rows are allowed, the rest are -1 and negative infinity.

        Raises:
            UsageError: The queries have another length, hold NaN, infinity or a vector of zeros, or k is below 1.
            IntegrityError: A file of the table is damaged.
        """
        if allowed is not None and allowed.shape != (len(self._features),):
            raise UsageError(f"{len(allowed):,} rows are allowed or not; the version has {len(self._features):,}.")
        if allowed is not None and self.card.kind != "flat" and int(allowed.sum()) <= _FEW:
            return self._exact(queries, np.flatnonzero(allowed), k)
        found = self._view.search(
            queries, k, allowed=allowed, search=self.card.search, vectors_at=self._features.vectors_at
        )
        new = self._new if allowed is None else self._new[allowed[self._new]]
        return _best(found, self._exact(queries, new, k), k) if len(new) else _best(found, None, k)

    def _exact(self, queries: NDArray[np.float32], rows: NDArray[np.int64], k: int) -> Found:
        """Exact search among some rows. Those that the index lacks are read once."""
        if rows is not self._new:
            vectors = self._features.vectors_at(rows)
        else:
            if self._new_vectors is None:
                self._new_vectors = self._features.vectors_at(rows)
            vectors = self._new_vectors
        found, scores = neighbours.exact(queries, vectors, k)
        return np.where(found < 0, -1, rows[found] if len(rows) else found), scores


def _best(a: Found, b: Found | None, k: int) -> Found:
    """The k best of both for each query."""
    rows, scores = a if b is None else (np.concatenate([x, y], axis=1) for x, y in zip(a, b, strict=True))
    order = np.lexsort((rows, -scores), axis=1)[:, :k]
    return np.take_along_axis(rows, order, 1), np.take_along_axis(scores, order, 1)
