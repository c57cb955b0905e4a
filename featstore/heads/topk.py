"""The largest values of each row of a matrix."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["largest"]

# The row's values are looked at in as many slabs; the maxima over them bound the k-th largest from below.
_SLABS = 32

# Above so many candidates for each that is wanted, the bound is of no use.
_MANY = 20


def largest(values: NDArray[np.floating], k: int) -> NDArray[np.int64]:
    """The places of the k largest values of each row, largest first; of equal ones the first.

    As exact as sorting, and several times as fast as ``argpartition`` on long rows: nearly all values are ruled out by
    a comparison with a lower bound of the k-th largest.

    Args:
        values: (n, m), k at most m.
        k: How many.

    Returns:
        (n, k) int64.
    """
    n, m = values.shape
    width = m // _SLABS
    if width >= 4 * k:
        maxima = values[:, : width * _SLABS].reshape(n, _SLABS, width).max(axis=1)
        bound = np.partition(maxima, width - k, axis=1)[:, width - k]
        rows, columns = np.nonzero(values >= bound[:, None])
        if len(rows) <= _MANY * k * n:
            order = np.lexsort((columns, -values[rows, columns], rows))
            starts = np.searchsorted(rows, np.arange(n))
            return np.asarray(columns[order[starts[:, None] + np.arange(k)]], np.int64)
    return np.asarray(np.argsort(-values, axis=1, kind="stable")[:, :k], np.int64)
