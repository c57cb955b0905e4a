"""How sure a mean over queries is: the paired bootstrap."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from featstore.records import Score

__all__ = ["scores"]

_DRAWS = 2_000

# Weights held at once.
_BLOCK = 4_000_000


def scores(values: NDArray[np.float64], *, seed: int = 0) -> list[Score]:
    """The mean of each column with its 95 % percentile interval.

    Whole rows are drawn with replacement, the same for every column and every call of as many rows. So a column of
    differences gives the paired interval: how far the mean would move with other queries of the same kind.

    Source: Efron and Tibshirani, An Introduction to the Bootstrap (1993), chapter 13; Sakai, Evaluating evaluation
    metrics based on the bootstrap (2006).

    Args:
        values: (q, m) float64, one row for each query, at least one.
        seed: Of the drawing.
    """
    count = len(values)
    generator = np.random.Generator(np.random.PCG64(seed))
    means = []
    left = _DRAWS
    while left:
        now = min(left, max(1, _BLOCK // count))
        means.append(generator.multinomial(count, np.full(count, 1 / count), size=now) @ values / count)
        left -= now
    low, high = np.quantile(np.concatenate(means), [0.025, 0.975], axis=0)
    found = zip(values.mean(axis=0).tolist(), low.tolist(), high.tolist(), strict=True)
    # Of equal values the mean may fall beside the interval by a rounding.
    return [Score(mean=mean, low=min(low, mean), high=max(high, mean)) for mean, low, high in found]
