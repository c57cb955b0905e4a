"""Exact nearest neighbours by cosine: one matrix product, the reference for every index."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["nearest", "nearest_others"]

_SORTED = 512
_QUERIES_AT_ONCE = 256


def nearest(
    queries: NDArray[np.float32], vectors: NDArray[np.float32], k: int, *, block: int = 65_536
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """The k most similar rows for each query, best first; equal scores in row order.

    Args:
        queries: (q, d) float32.
        vectors: (n, d) float32.
        k: How many; at most n are given.
        block: Rows compared at once, which bounds the memory beside the vectors.

    Returns:
        Rows (q, min(k, n)) int64 and cosines (q, min(k, n)) float32.
    """
    unit = _unit(queries)
    k = min(k, len(vectors))
    rows = np.zeros((len(unit), 0), np.int64)
    scores = np.zeros((len(unit), 0), np.float32)
    for start in range(0, len(vectors), block):
        found = unit @ _unit(vectors[start : start + block]).T
        near = _candidates(found, k)
        rows = np.concatenate([rows, start + near], axis=1)
        scores = np.concatenate([scores, np.take_along_axis(found, near, 1)], axis=1)
        best = np.argsort(-scores, axis=1, kind="stable")[:, :k]
        rows, scores = np.take_along_axis(rows, best, 1), np.take_along_axis(scores, best, 1)
    return rows, scores


def nearest_others(
    vectors: NDArray[np.float32], queries: NDArray[np.int64], k: int
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """The k nearest other items of some items, best first; no item is its own neighbour.

    Args:
        vectors: (n, d) float32.
        queries: (q,) int64 rows of ``vectors``.
        k: How many; at most n - 1 are given.

    Returns:
        Rows (q, min(k, n - 1)) int64 and cosines of the same shape, float32.
    """
    k = min(k, len(vectors) - 1)
    rows, scores = np.empty((len(queries), k), np.int64), np.empty((len(queries), k), np.float32)
    for start in range(0, len(queries), _QUERIES_AT_ONCE):
        some = queries[start : start + _QUERIES_AT_ONCE]
        found, cosines = nearest(vectors[some], vectors, k + 1)
        others = found != some[:, None]
        others[others.all(axis=1), -1] = False  # more equal vectors than k: the item itself was not listed
        rows[start : start + len(some)] = found[others].reshape(len(some), k)
        scores[start : start + len(some)] = cosines[others].reshape(len(some), k)
    return rows, scores


def _candidates(scores: NDArray[np.float32], k: int) -> NDArray[np.int64]:
    """The places of the k highest scores of each row, in rising order; of equal ones at the edge the first."""
    if scores.shape[1] <= max(k, _SORTED):
        return np.broadcast_to(np.arange(scores.shape[1]), scores.shape)
    # Finding the k-th highest takes a tenth of the time of sorting.
    edge = np.partition(scores, scores.shape[1] - k, axis=1)[:, -k]
    near = np.empty((len(scores), k), np.int64)
    for at, (row, least) in enumerate(zip(scores, edge, strict=True)):
        above = np.flatnonzero(row > least)
        equal = np.flatnonzero(row == least)[: k - len(above)]
        if len(above) + len(equal) < k:  # a query with NaN
            near[at] = np.arange(k)
        else:
            near[at] = np.sort(np.concatenate([above, equal]))
    return near


def _unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True).astype(np.float32)
    return np.asarray(vectors / np.where(lengths > 0, lengths, 1), np.float32)
