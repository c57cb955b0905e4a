"""The samples' middles, and the lengths of their vectors."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from featstore.drift.sides import Null, Sides

__all__ = ["centroid", "norm"]


def centroid(vectors: NDArray[np.float32], sides: Sides) -> Null:
    """How far apart the samples' means are, in units of the items' spread around their common mean.

    Args:
        vectors: (n, d) float32, in the order of ``sides``.
        sides: Of the samples.
    """
    centred = vectors - vectors.mean(axis=0)
    spread = float(np.sqrt(np.square(centred, dtype=np.float64).sum() / len(vectors)))
    apart = np.linalg.norm((centred.T @ sides.contrast).astype(np.float64), axis=0)
    return sides.null(apart / max(spread, 1e-12))


def norm(vectors: NDArray[np.float32], sides: Sides) -> Null | None:
    """The difference of the mean lengths in standard deviations (Cohen's d, without sign); None where all are equal.

    Args:
        vectors: (n, d) float32, in the order of ``sides``.
        sides: Of the samples.
    """
    lengths = np.linalg.norm(vectors.astype(np.float64), axis=1)
    spread = float(lengths.std())
    if spread <= 1e-4 * float(lengths.mean()):
        return None
    return sides.null(np.abs((lengths - lengths.mean()) @ sides.contrast) / spread)
