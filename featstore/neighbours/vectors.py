"""Vectors as neighbours need them: checked, float32, of unit length; and the one way a cosine is computed."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featstore.errors import UsageError

__all__ = ["cosines", "is_unit", "lengths_of", "unit", "unit_queries"]

# Values held at once as float64, 64 MB.
_VALUES = 8_000_000
# The same where queries meet their own candidates: what the processor keeps near, 2 MB; twice as fast as 64.
_PAIRED = 250_000


def unit_queries(queries: NDArray[Any], dim: int) -> NDArray[np.float32]:
    """Queries at unit length, checked.

    Args:
        queries: (q, d), any real type.
        dim: The d that is wanted.

    Returns:
        (q, d) float32, contiguous.

    Raises:
        UsageError: Another shape, a value that is not finite, or a query of zeros, which has no direction.
    """
    found = np.asarray(queries)
    if found.ndim != 2 or found.shape[1] != dim:
        shape = "×".join(map(str, found.shape)) or "none"
        raise UsageError(
            f"the queries' shape is {shape}; each needs {dim} values, as the vectors have.",
            hint="Encode them with the model of the table's space.",
        )
    if len(found) == 1:  # beside a search of 0.1 ms each of numpy's calls shows
        one = found[0].astype(np.float64)
        square = float(one.dot(one))
        if 0 < square < math.inf:
            one /= math.sqrt(square)
            return np.asarray(one[None], np.float32)
    exact = found.astype(np.float64)
    squares = np.vecdot(exact, exact)
    if squares.size and squares.min() > 0 and squares.max() < np.inf:
        return np.asarray(exact / np.sqrt(squares)[:, None], np.float32)
    lengths = lengths_of(found, what="query")
    if len(lengths) and lengths.min() == 0:
        raise UsageError(f"query {int(lengths.argmin())} is all zeros; it has no direction to compare.")
    return np.ascontiguousarray(found / lengths[:, None], np.float32)


def unit(vectors: NDArray[Any], *, lengths: NDArray[np.float64] | None = None, first: int = 0) -> NDArray[np.float32]:
    """Vectors at unit length; zeros stay zeros.

    Args:
        vectors: (n, d), any real type.
        lengths: Their lengths where they are known.
        first: The number of the first row, for messages.

    Returns:
        (n, d) float32, contiguous; the vectors themselves where they are that already.

    Raises:
        UsageError: A value is not finite.
    """
    lengths = lengths_of(vectors, first=first) if lengths is None else lengths
    if vectors.dtype == np.float32 and vectors.flags.c_contiguous and is_unit(lengths):
        return vectors
    scale = (1 / np.where(lengths > 0, lengths, 1))[:, None]
    return np.ascontiguousarray(vectors * (scale if vectors.dtype == np.float64 else scale.astype(np.float32)), "f4")


def is_unit(lengths: NDArray[np.float64]) -> bool:
    """Whether lengths are 1 as far as float32 can tell."""
    return bool(np.all(np.abs(lengths - 1) < 1e-6))


def lengths_of(vectors: NDArray[Any], *, what: str = "row", first: int = 0) -> NDArray[np.float64]:
    """The lengths of vectors.

    Args:
        vectors: (n, d), any real type.
        what: What one is called in messages.
        first: The number of the first, for messages.

    Returns:
        (n,) float64.

    Raises:
        UsageError: A value is not finite.
    """
    if vectors.dtype == np.float32:
        with np.errstate(over="ignore", invalid="ignore"):
            squares = np.einsum("ij,ij->i", vectors, vectors).astype(np.float64)
    else:
        squares = np.empty(len(vectors))
        rows = max(1, _VALUES // max(1, vectors.shape[1]))
        for start in range(0, len(vectors), rows):
            some = vectors[start : start + rows].astype(np.float64)
            squares[start : start + rows] = np.einsum("ij,ij->i", some, some)
    # Very long and very short vectors leave the range of float32's squares.
    odd = np.flatnonzero(~np.isfinite(squares) | (squares < 1e-30))
    for start in range(0, len(odd), 4096):
        rows_of = odd[start : start + 4096]
        some = vectors[rows_of].astype(np.float64)
        squares[rows_of] = np.einsum("ij,ij->i", some, some)
        if not np.isfinite(squares[rows_of]).all():
            at = first + int(rows_of[~np.isfinite(squares[rows_of])][0])
            raise UsageError(f"{what} {at} holds a value that is not finite (NaN or infinite).")
    return np.asarray(np.sqrt(squares), np.float64)


def cosines(queries: NDArray[np.float32], vectors: NDArray[Any], of: NDArray[np.int64]) -> NDArray[np.float32]:
    """The cosines of queries with some vectors each; equal vectors have equal ones, whatever stands beside them.

    Args:
        queries: (q, d) float32 at unit length.
        vectors: (m, d), any real type and length; a vector of zeros has cosine 0.
        of: (q, c) rows of ``vectors`` for each query; -1 for none.

    Returns:
        (q, c) float32 in [-1, 1]; -inf where ``of`` is -1.
    """
    scores = np.full(of.shape, -np.inf, np.float32)
    if not len(vectors) or not of.size:
        return scores
    step = max(1, _PAIRED // max(1, of.shape[1] * vectors.shape[1]))
    for start in range(0, len(queries), step):
        rows = of[start : start + step]
        some = vectors[np.maximum(rows, 0)].astype(np.float64)
        dots = np.vecdot(some, queries[start : start + step, None].astype(np.float64))
        lengths = np.sqrt(np.vecdot(some, some))
        found = np.clip(dots / np.where(lengths > 0, lengths, 1), -1, 1).astype(np.float32)
        scores[start : start + step] = np.where(rows < 0, np.float32(-np.inf), found)
    return scores
