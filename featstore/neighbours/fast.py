"""Exact search as fast as it goes: FAISS's matrix product over blocks of vectors, numpy's for few queries."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from featstore.errors import UsageError
from featstore.neighbours.library import using_threads
from featstore.neighbours.vectors import cosines, is_unit, lengths_of, unit, unit_queries

__all__ = ["exact"]

# Fewer queries than this are one matrix-vector product each; measured, the two ways meet at about 16.
_FEW_QUERIES = 16
# Vectors copied at once, in values: 32 MB. Without a copy FAISS reads them where they lie.
_VALUES = 8_000_000
# Products of one call of the matrix library, 64 MB. Measured on 100,000 × 384: with FAISS's own 1,024 vectors a piece a
# thousand queries take 2.2 times as long, and sixteen 30 times on a busy machine.
_PRODUCTS = 1 << 24
# Candidates beyond k, and how far a float32 product can be from the cosine: what settles equal scores.
_SPARE = 8
_NEAR = np.float32(3e-6)


def exact(
    queries: NDArray[Any],
    vectors: NDArray[Any],
    k: int,
    *,
    allowed: NDArray[np.bool_] | None = None,
    lengths: NDArray[np.float64] | None = None,
    threads: int | None = None,
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """The k most similar rows for each query by exact cosine, best first; equal scores in row order.

    Args:
        queries: (q, d), any real type and length.
        vectors: (n, d), any real type and length; a memory map is read block by block.
        k: How many.
        allowed: (n,) which rows may be found; None for all.
        lengths: (n,) the vectors' lengths as ``lengths_of`` gives them, for those who ask often.
        threads: None for as many as the process may use cores.

    Returns:
        Rows (q, k) int64, -1 where there are fewer, and cosines (q, k) float32, -inf there.

    Raises:
        UsageError: k below 1, another dimension, a value that is not finite, or a query of zeros.
    """
    if k < 1:
        raise UsageError(f"k is {k}; it must be at least 1.")
    asked = unit_queries(queries, vectors.shape[1])
    if allowed is not None and allowed.shape != (len(vectors),):
        raise UsageError(f"the filter has {len(allowed):,} entries for {len(vectors):,} vectors.")
    among = None if allowed is None or allowed.all() else np.flatnonzero(allowed)
    total = len(vectors) if among is None else len(among)
    rows = np.full((len(asked), k), -1, np.int64)
    scores = np.full((len(asked), k), -np.inf, np.float32)
    if not total or not len(asked):
        return rows, scores
    wanted = min(k + _SPARE, total)
    near, about = _candidates(asked, vectors, wanted, among, lengths, threads)
    kept = min(k, total)
    rows[:, :kept], scores[:, :kept] = _best(asked, vectors, near[:, :kept], kept)
    if wanted > kept:
        unsure = np.flatnonzero(about[:, kept - 1] - about[:, kept] < _NEAR)
        rows[unsure, :kept], scores[unsure, :kept] = _best(asked[unsure], vectors, near[unsure], kept)
        if wanted < total:
            unsure = unsure[about[unsure, -1] > scores[unsure, kept - 1] - _NEAR]
            for at in unsure.tolist():  # more equal scores at the edge than there were candidates
                level = _level(asked[at], vectors, scores[at, kept - 1] - _NEAR, among, lengths)
                found = _best(asked[at : at + 1], vectors, level[None], kept)
                rows[at, :kept], scores[at, :kept] = found[0][0], found[1][0]
    return rows, scores


def _best(
    asked: NDArray[np.float32], vectors: NDArray[Any], rows: NDArray[np.int64], k: int
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    rows = np.sort(rows, axis=1)
    scores = cosines(asked, vectors, rows)
    best = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(rows, best, 1), np.take_along_axis(scores, best, 1)


def _candidates(
    asked: NDArray[np.float32],
    vectors: NDArray[Any],
    k: int,
    among: NDArray[np.int64] | None,
    lengths: NDArray[np.float64] | None,
    threads: int | None,
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """The k best rows of each query by float32 products, and those, best first."""
    few = len(asked) < _FEW_QUERIES
    rows = np.empty((len(asked), 0), np.int64)
    scores = np.empty((len(asked), 0), np.float32)
    for numbers, block, sizes in _blocks(vectors, among, lengths, whole=not few):
        near, found = _few(asked, block, sizes, k, scores) if few else _many(asked, block, sizes, k, threads)
        near = numbers[near] if isinstance(numbers, np.ndarray) else near + numbers
        rows, scores = np.concatenate([rows, near], axis=1), np.concatenate([scores, found], axis=1)
        best = np.argsort(-scores, axis=1, kind="stable")[:, :k]
        rows, scores = np.take_along_axis(rows, best, 1), np.take_along_axis(scores, best, 1)
    return rows, scores


def _blocks(
    vectors: NDArray[Any], among: NDArray[np.int64] | None, lengths: NDArray[np.float64] | None, *, whole: bool
) -> Any:
    """Stretches of the vectors with the numbers of their rows (or of the first) and their lengths."""
    step = max(1, _VALUES // max(1, vectors.shape[1]))
    if among is not None:
        for start in range(0, len(among), step):
            numbers = among[start : start + step]
            block = vectors[numbers]
            yield numbers, block, lengths_of(block) if lengths is None else lengths[numbers]
        return
    if (
        whole
        and lengths is not None
        and vectors.dtype == np.float32
        and vectors.flags.c_contiguous
        and is_unit(lengths)
    ):
        yield 0, vectors, lengths
        return
    for start in range(0, len(vectors), step):
        block = vectors[start : start + step]
        yield start, block, lengths_of(block, first=start) if lengths is None else lengths[start : start + step]


def _few(
    asked: NDArray[np.float32],
    block: NDArray[Any],
    lengths: NDArray[np.float64],
    k: int,
    before: NDArray[np.float32],
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    products = asked @ block.astype(np.float32, copy=False).T
    if not is_unit(lengths):
        products /= np.where(lengths > 0, lengths, 1).astype(np.float32)
    if before.shape[1] == k:  # most blocks hold little that is better, and looking is faster than sorting
        least = before[:, -1:]
        better = np.flatnonzero((products > least).any(axis=0))
        products = products[:, better]
        if len(better) <= k:
            return np.broadcast_to(better, products.shape), products
    else:
        better = np.arange(len(block))
    k = min(k, products.shape[1])
    near = np.argpartition(products, products.shape[1] - k, axis=1)[:, products.shape[1] - k :]
    return better[near], np.take_along_axis(products, near, 1)


def _many(
    asked: NDArray[np.float32], block: NDArray[Any], lengths: NDArray[np.float64], k: int, threads: int | None
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    with using_threads(threads) as faiss:
        faiss.cvar.distance_compute_blas_database_bs = max(1024, _PRODUCTS // min(len(asked), 4096))
        scores, near = faiss.knn(
            asked, unit(block, lengths=lengths), min(k, len(block)), metric=faiss.METRIC_INNER_PRODUCT
        )
    return near, scores


def _level(
    query: NDArray[np.float32],
    vectors: NDArray[Any],
    least: float,
    among: NDArray[np.int64] | None,
    lengths: NDArray[np.float64] | None,
) -> NDArray[np.int64]:
    """All rows whose score is at least that."""
    found = []
    for numbers, block, sizes in _blocks(vectors, among, lengths, whole=False):
        products = (block.astype(np.float32, copy=False) @ query) / np.where(sizes > 0, sizes, 1)
        above = np.flatnonzero(products >= least)
        found.append(numbers[above] if isinstance(numbers, np.ndarray) else above + numbers)
    return np.concatenate(found)
