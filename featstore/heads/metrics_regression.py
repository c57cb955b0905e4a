"""How good predicted numbers are: errors, explained spread, order."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

__all__ = ["regression"]

# A spread below so much of the truth's size is none.
_FLAT = 1e-12


def regression(
    truth: NDArray[np.float64], values: NDArray[np.floating]
) -> Callable[[NDArray[np.float64]], dict[str, float]]:
    """The metrics of predicted numbers, for any weights of the items.

    ``mae`` is the mean absolute error and ``rmse`` the root of the mean squared one, both in the label's own unit;
    ``r2`` is the share of the spread that is explained: 0 for predicting the mean, negative for worse; ``spearman`` is
    the correlation of the ranks, equal values at the mean of theirs. Where all truths are equal, r2 and spearman are
    0; where all predictions are, spearman is.

    Args:
        truth: (n,) float64.
        values: (n,) or (n, 1), predicted.
    """
    exact = np.asarray(truth, np.float64)
    predicted = np.asarray(values, np.float64).reshape(len(exact))
    centred = exact - exact.mean()  # sums of squares stay exact where the numbers are large and close together
    error = predicted - exact
    absolute, squared = np.abs(error), np.square(error)
    true_rank, rank = _ranking(exact), _ranking(predicted)
    size = float(np.abs(exact).max(initial=0.0)) or 1.0

    def measure(weights: NDArray[np.float64]) -> dict[str, float]:
        total = weights.sum()
        spread = weights @ np.square(centred - weights @ centred / total)
        flat = spread <= total * (_FLAT * size) ** 2
        return {
            "mae": float(weights @ absolute / total),
            "rmse": float(np.sqrt(weights @ squared / total)),
            "r2": 0.0 if flat else float(1 - weights @ squared / spread),
            "spearman": _correlation(true_rank(weights), rank(weights), weights),
        }

    return measure


def _ranking(values: NDArray[np.float64]) -> Callable[[NDArray[np.float64]], NDArray[np.float64]]:
    """From weights to ranks (n,): where each value stands among items that occur as often as their weights say."""
    _, at = np.unique(values, return_inverse=True)
    levels = int(at.max(initial=-1)) + 1

    def ranks(weights: NDArray[np.float64]) -> NDArray[np.float64]:
        sizes = np.bincount(at, weights, levels)
        return np.asarray((np.cumsum(sizes) - (sizes - 1) / 2)[at], np.float64)

    return ranks


def _correlation(x: NDArray[np.float64], y: NDArray[np.float64], weights: NDArray[np.float64]) -> float:
    total = weights.sum()
    x, y = x - weights @ x / total, y - weights @ y / total
    below = np.sqrt((weights @ np.square(x)) * (weights @ np.square(y)))
    return float(weights @ (x * y) / below) if below > 0 else 0.0
