"""Groups of near-duplicates: vectors that are linked by cosines above a threshold, found exactly.

All pairs are looked at, but in few dimensions: the vectors are turned so that their first coordinates hold most of
their length, and for what is left of two unit vectors x and y the Cauchy-Schwarz inequality says

    x·y ≤ Px·Py + |x - Px| |y - Py|

So one product of matrices with some 60 columns gives an upper bound for every pair, and only pairs whose bound
reaches the threshold are compared in full. None is missed, whatever the turn is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from featstore.errors import UsageError
from featstore.neighbours.forest import Forest

__all__ = ["groups", "nearest_distances"]

# Coordinates of the first look; below twice as many the vectors are compared as they are.
_FIRST = 63

# A tile of pairs stays in a core's cache, so that looking for the highest is cheaper than computing them.
_TILE_ROWS, _TILE_COLUMNS = 1024, 2048

# Pairs compared in full at once: in float64 their vectors take 64 MB at 2,048 values.
_PAIRS = 2048

# The share of a tile's pairs from which comparing all of it in full is cheaper than picking them.
_MANY = 1 / 64

# What float32 may lose in a product of unit vectors. The bound is wide of it, the threshold keeps to it.
_SLACK, _ROUNDING = 2e-5, 1e-6

_SAMPLE = 4096


def groups(
    vectors: NDArray[np.float32],
    threshold: float,
    *,
    rows: NDArray[np.int64] | None = None,
    done: Callable[[int], None] = lambda _: None,
) -> NDArray[np.int64]:
    """Groups vectors that are near each other, directly or through others (single linkage).

    Beside the vectors it needs some 64 numbers for each, and one tile of pairs.

    Args:
        vectors: (n, d) float32, finite, of any length. One of length 0 is near none.
        threshold: The cosine from which two are near, above 0 and at most 1.
        rows: (m,) int64 rows to group, the others are passed over; all by default.
        done: Told how many rows more have been compared with all before them.

    Returns:
        (m,) int64: the group of each of the rows, numbered from 0 in the order of their first members.

    Raises:
        UsageError: The threshold is out of range, or a vector is not finite.
    """
    if not 0 < threshold <= 1:
        raise UsageError(f"the threshold is {threshold}; a cosine above 0 and at most 1 was expected.")
    rows = np.arange(len(vectors)) if rows is None else rows
    forest = Forest(len(rows))
    narrow = _narrow(vectors, rows)
    for a, b in _tiles(len(rows), done):
        if not forest.united(a, b):
            _link(forest, vectors, rows, narrow, a, b, threshold)
    return forest.numbered()


def nearest_distances(
    vectors: NDArray[np.float32], queries: NDArray[np.int64], rows: NDArray[np.int64], k: int
) -> NDArray[np.float64]:
    """The cosine distance (1 - cosine) of some vectors to their k-th nearest others, exactly.

    Args:
        vectors: (n, d) float32.
        queries: (q,) int64 rows to ask for, all among ``rows``.
        rows: (m,) int64 rows to search, more than ``k``.
        k: Which neighbour: 1 for the nearest.

    Returns:
        (q,) float64.
    """
    wanted = k + 1  # itself comes first, or an equal one
    asked = _unit(vectors[queries])
    best = np.full((len(queries), wanted), -np.inf, np.float32)
    for start in range(0, len(rows), _SAMPLE):
        found = asked @ _unit(vectors[rows[start : start + _SAMPLE]]).T
        best = np.partition(np.concatenate([best, found], axis=1), -wanted, axis=1)[:, -wanted:]
    return np.asarray(np.maximum(0, 1 - best.min(axis=1).astype(np.float64)), np.float64)


def _tiles(count: int, done: Callable[[int], None]) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Every pair of rows lies in one tile, the lower row on the left."""
    every = np.arange(count)
    for top in range(0, count, _TILE_ROWS):
        left = every[top : top + _TILE_ROWS]
        for start in range(top, count, _TILE_COLUMNS):
            yield left, every[start : start + _TILE_COLUMNS]
        done(len(left))


def _link(
    forest: Forest,
    vectors: NDArray[np.float32],
    rows: NDArray[np.int64],
    narrow: NDArray[np.float32],
    a: NDArray[np.int64],
    b: NDArray[np.int64],
    threshold: float,
) -> None:
    """Joins the near pairs of one tile."""
    bound = narrow[a] @ narrow[b].T
    some = np.flatnonzero(bound.max(axis=1) >= threshold - _SLACK)
    if not len(some):
        return
    a = a[some]
    maybe = bound[some] >= threshold - _SLACK
    if np.count_nonzero(maybe) > _MANY * bound.size:
        whole = _unit(vectors[rows[a]]) @ _unit(vectors[rows[b]]).T
        sure = whole >= threshold + _SLACK
        forest.join_all(a, b, sure)
        maybe = (whole >= threshold - _SLACK) & ~sure
    at_a, at_b = np.nonzero(maybe)
    x, y = a[at_a], b[at_b]
    while len(x):
        apart = forest.roots(x) != forest.roots(y)
        x, y = x[apart], y[apart]
        one, other = x[:_PAIRS], y[:_PAIRS]
        near = _cosines(vectors[rows[one]], vectors[rows[other]]) >= threshold - _ROUNDING
        forest.join(one[near], other[near])
        x, y = x[_PAIRS:], y[_PAIRS:]


def _narrow(vectors: NDArray[np.float32], rows: NDArray[np.int64]) -> NDArray[np.float32]:
    """The unit vectors, or their first coordinates and the length of what is left."""
    dim = vectors.shape[1]
    turn = _turn(vectors, rows) if dim > 2 * _FIRST else None
    out = np.empty((len(rows), dim if turn is None else _FIRST + 1), np.float32)
    for start in range(0, len(rows), _SAMPLE):
        unit = _unit(vectors[rows[start : start + _SAMPLE]])
        if not np.isfinite(unit).all():
            raise UsageError("a vector holds NaN or infinity; such items have no neighbours.")
        part = out[start : start + _SAMPLE]
        if turn is None:
            part[:] = unit
        else:
            part[:, :_FIRST] = unit @ turn
            left = np.square(np.linalg.norm(unit, axis=1)) - np.square(np.linalg.norm(part[:, :_FIRST], axis=1))
            # Never less than the truth: what rounding takes from a short remainder, a long one would multiply.
            part[:, _FIRST] = np.sqrt(np.maximum(left, 0) + _SLACK)
    return out


def _turn(vectors: NDArray[np.float32], rows: NDArray[np.int64]) -> NDArray[np.float32]:
    """(d, _FIRST) orthonormal columns that hold most of the vectors' length.

    Source: Halko, Martinsson and Tropp, Finding structure with randomness (2011), algorithm 4.4, on a sample.
    """
    generator = np.random.Generator(np.random.PCG64(0))
    sample = _unit(vectors[rows[np.linspace(0, len(rows) - 1, min(len(rows), _SAMPLE)).astype(np.int64)]])
    basis = generator.standard_normal((vectors.shape[1], _FIRST), np.float32)
    for _ in range(3):
        basis = np.linalg.qr(sample.T @ (sample @ basis))[0]
    return np.ascontiguousarray(basis, np.float32)


def _cosines(x: NDArray[np.float32], y: NDArray[np.float32]) -> NDArray[np.float64]:
    left, right = x.astype(np.float64), y.astype(np.float64)
    lengths = np.linalg.norm(left, axis=1) * np.linalg.norm(right, axis=1)
    return np.asarray(np.einsum("ij,ij->i", left, right) / np.where(lengths > 0, lengths, 1), np.float64)


def _unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.where(lengths > 0, lengths, 1), np.float32)
