"""A FAISS index that speaks of a table's rows instead of its own labels."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from featstore.neighbours import VectorIndex

__all__ = ["RowView"]

# So many vectors too many cost a matrix product less than leaving them out of it would.
_SPARE = 2048


class RowView:
    """Searches an index for rows of one version of a table; ids of items that have left are never found.

    What ``neighbours.tune`` and ``neighbours.measure`` need of an index, it has too.

    Args:
        index: The index.
        rows: For each label its row, -1 where the version has no such item; None says that they are equal.
        exact: Whether the index compares with every vector, so that asking for more costs nothing.
    """

    def __init__(self, index: VectorIndex, rows: NDArray[np.int64] | None, *, exact: bool) -> None:
        self._index = index
        self._rows = rows
        self._live = None if rows is None or (rows >= 0).all() else rows >= 0
        self._exact = exact

    @property
    def settings(self) -> tuple[str, ...]:
        """As of ``VectorIndex``."""
        return self._index.settings

    @property
    def limits(self) -> dict[str, int]:
        """As of ``VectorIndex``."""
        return self._index.limits

    def search(
        self,
        queries: NDArray[Any],
        k: int,
        *,
        allowed: NDArray[np.bool_] | None = None,
        search: dict[str, int] | None = None,
        threads: int | None = None,
        vectors_at: Callable[[NDArray[np.int64]], NDArray[Any]] | None = None,
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """As of ``VectorIndex``, with rows for labels in ``allowed``, in ``vectors_at`` and in what is found."""
        mask = self._labels(allowed)
        spare = 0 if mask is None else int(mask.size - mask.sum())
        sieve = mask is not None and self._exact and spare <= _SPARE
        labels, scores = self._index.search(
            queries,
            k + spare if sieve else k,
            allowed=None if sieve else mask,
            search=search,
            threads=threads,
            vectors_at=None if vectors_at is None else lambda labels: self._vectors(labels, vectors_at),
        )
        if sieve:
            assert mask is not None
            left_out = (labels < 0) | ~mask[labels]
            order = np.argsort(left_out, axis=1, kind="stable")[:, :k]
            labels = np.where(np.take_along_axis(left_out, order, 1), -1, np.take_along_axis(labels, order, 1))
            scores = np.where(labels < 0, np.float32(-np.inf), np.take_along_axis(scores, order, 1))
        return np.where(labels < 0, -1, self._of(labels)), scores

    def _vectors(
        self, labels: NDArray[np.int64], vectors_at: Callable[[NDArray[np.int64]], NDArray[Any]]
    ) -> NDArray[Any]:
        rows = self._of(labels)
        there = rows >= 0
        if there.all():
            return vectors_at(rows)
        # Those that are passed over afterwards have no vector any more.
        out = np.zeros((len(rows), self._index.dim), np.float32)
        out[there] = vectors_at(rows[there])
        return out

    def _of(self, labels: NDArray[np.int64]) -> NDArray[np.int64]:
        return labels if self._rows is None else self._rows[labels]

    def _labels(self, allowed: NDArray[np.bool_] | None) -> NDArray[np.bool_] | None:
        if allowed is None or self._rows is None:
            return self._live if allowed is None else allowed
        if not len(allowed):
            return np.zeros(len(self._rows), np.bool_)
        return np.asarray((self._rows >= 0) & allowed[self._rows])
