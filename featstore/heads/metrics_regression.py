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
) -> Callable[[NDArray[np.float64]], dict[str, NDArray[np.float64]]]:
    """The metrics of predicted numbers: from the items' weights in k draws, (k, n), to k values of each.

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

    def measure(weights: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
        total = weights.sum(axis=1)
        spread = np.vecdot(weights, np.square(centred - (weights @ centred / total)[:, None]))
        missed = weights @ squared
        flat = spread <= total * (_FLAT * size) ** 2
        return {
            "mae": weights @ absolute / total,
            "rmse": np.sqrt(missed / total),
            "r2": np.where(flat, 0.0, 1 - missed / np.where(flat, 1.0, spread)),
            "spearman": _correlation(true_rank(weights), rank(weights), weights),
        }

    return measure


def _ranking(values: NDArray[np.float64]) -> Callable[[NDArray[np.float64]], NDArray[np.float64]]:
    """From weights to ranks, (k, n) both: where each value stands among items as frequent as their weights say."""
    order = np.argsort(values, kind="stable")
    new = np.append(True, np.diff(values[order]) != 0)
    starts, at = np.flatnonzero(new), np.empty(len(values), np.int64)
    at[order] = np.cumsum(new) - 1

    def ranks(weights: NDArray[np.float64]) -> NDArray[np.float64]:
        sizes = np.add.reduceat(weights[:, order], starts, axis=1)
        return np.asarray((np.cumsum(sizes, axis=1) - (sizes - 1) / 2)[:, at], np.float64)

    return ranks


def _correlation(x: NDArray[np.float64], y: NDArray[np.float64], weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """Of (k, n) and (k, n): (k,); 0 where either is all the same."""
    total = weights.sum(axis=1)
    x, y = (each - (np.vecdot(weights, each) / total)[:, None] for each in (x, y))
    below = np.sqrt(np.vecdot(weights, np.square(x)) * np.vecdot(weights, np.square(y)))
    above = np.vecdot(weights, x * y)
    found: NDArray[np.float64] = np.divide(above, below, out=np.zeros_like(above), where=below > 0)
    return found
