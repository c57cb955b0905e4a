"""Exact nearest neighbours by cosine: one matrix product, the reference for every index."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["nearest"]


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
        rows = np.concatenate([rows, np.broadcast_to(np.arange(start, start + found.shape[1]), found.shape)], axis=1)
        scores = np.concatenate([scores, found], axis=1)
        best = np.argsort(-scores, axis=1, kind="stable")[:, :k]
        rows, scores = np.take_along_axis(rows, best, 1), np.take_along_axis(scores, best, 1)
    return rows, scores


def _unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True).astype(np.float32)
    return np.asarray(vectors / np.where(lengths > 0, lengths, 1), np.float32)
