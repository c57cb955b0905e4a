"""The maximum mean discrepancy: whether two samples are of one distribution."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from featstore.drift.sides import Null, Sides

__all__ = ["discrepancy"]

# Items that the kernel's width is taken from.
_WIDTH = 1000


def discrepancy(vectors: NDArray[np.float32], sides: Sides) -> Null:
    """The unbiased MMD² with a Gaussian kernel as wide as the median distance.

    Source: Gretton et al., A Kernel Two-Sample Test (2012), lemma 6 and section 8 (median heuristic).

    Args:
        vectors: (n, d) float32, in the order of ``sides``.
        sides: Of the samples.
    """
    squares = np.vecdot(vectors, vectors)
    distances = np.maximum(squares[:, None] + squares - 2 * (vectors @ vectors.T), 0)
    some = distances[:: max(1, len(vectors) // _WIDTH)]
    width = float(np.median(some[some > 0])) if (some > 0).any() else 1.0
    kernel = np.exp(-distances / width)
    np.fill_diagonal(kernel, 0)
    columns = sides.columns
    after = float(columns[:, 0].sum())
    before = len(columns) - after
    seen = kernel @ columns
    within_after = (columns * seen).sum(axis=0, dtype=np.float64)
    across = ((1 - columns) * seen).sum(axis=0, dtype=np.float64)
    within_before = float(kernel.sum(dtype=np.float64)) - within_after - 2 * across
    found = (
        within_before / (before * (before - 1)) + within_after / (after * (after - 1)) - 2 * across / (before * after)
    )
    return sides.null(found)
