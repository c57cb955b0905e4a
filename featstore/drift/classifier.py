"""How well a linear classifier tells the samples apart, on items that it has not seen."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from featstore.drift.sides import Null, Sides

__all__ = ["classifier"]

_FOLDS = 5


def classifier(vectors: NDArray[np.float32], sides: Sides, seed: int) -> tuple[Null, NDArray[np.float64]]:
    """The area under the ROC curve of a ridge classifier, out of fold: 0.5 cannot tell, 1 always can.

    The penalty is the mean eigenvalue of the vectors' scatter: nothing is tuned, so that one factorisation a fold
    serves the truth and all permutations, and the test is exact.

    Source: Lopez-Paz and Oquab, Revisiting Classifier Two-Sample Tests (2017).

    Args:
        vectors: (n, d) float32, in the order of ``sides``.
        sides: Of the samples.
        seed: Of the folds.

    Returns:
        The area, and (n,) float64 the score of each item: higher is more like the second sample.
    """
    centred = vectors - vectors.mean(axis=0)
    order = np.random.default_rng(seed).permutation(len(vectors))
    fold = np.argsort(order) % _FOLDS
    areas = np.zeros(sides.columns.shape[1])
    scores = np.empty(len(vectors))
    for number in range(_FOLDS):
        held = order[number::_FOLDS]  # in an order that knows nothing of the sides, which settles equal scores
        known, asked = centred[fold != number], centred[held]
        target = sides.columns[fold != number]
        target = target - target.mean(axis=0)
        scatter = (known.T @ known).astype(np.float64)
        scatter[np.diag_indices_from(scatter)] += max(np.trace(scatter) / len(scatter), 1e-12)
        weights = np.linalg.solve(scatter, (known.T @ target).astype(np.float64))
        found = asked @ weights.astype(np.float32)
        areas += _areas(found, sides.columns[held]) * len(held)
        scores[held] = (found[:, 0] - found[:, 0].mean()) / max(float(found[:, 0].std()), 1e-12)
    return sides.null(areas / len(vectors)), scores


def _areas(scores: NDArray[np.float32], after: NDArray[np.float32]) -> NDArray[np.float64]:
    """Of each column; one half where a side is empty."""
    ranks = np.empty(scores.shape, np.float64)
    np.put_along_axis(ranks, np.argsort(scores, axis=0, kind="stable"), np.arange(1.0, len(scores) + 1)[:, None], 0)
    positive = after.sum(axis=0, dtype=np.float64)
    negative = len(after) - positive
    above = (ranks * after).sum(axis=0) - positive * (positive + 1) / 2
    pairs = positive * negative
    return np.asarray(np.where(pairs > 0, above / np.where(pairs > 0, pairs, 1), 0.5), np.float64)
