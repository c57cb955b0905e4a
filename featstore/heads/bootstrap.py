"""Intervals by one bootstrap that draws whole groups, since items of a group are not independent.

Every draw is a weight for each item; a metric is a function of the items' weights, so that a draw copies nothing, and
of many draws at once, so that few items cost next to nothing.

Source: Efron and Tibshirani, An Introduction to the Bootstrap (1993), chapter 13.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from featstore.errors import UsageError
from featstore.heads.threads import one_thread
from featstore.records import Estimate

__all__ = ["Measure", "Summed", "estimates", "mean_of"]

Measure = Callable[[NDArray[np.float64]], dict[str, NDArray[np.float64]]]
"""From the items' weights in k draws, (k, n), to k values of each metric by name."""

# Weights of the draws made at once.
_DRAWN = 500_000


@dataclass(frozen=True, eq=False)
class Summed:
    """A measure of nothing but weighted sums over the items: draws are one matrix product.

    Attributes:
        table: (n, m) float64, what is summed of each item.
        of: From (k, m) sums to k values of each metric.
    """

    table: NDArray[np.float64]
    of: Callable[[NDArray[np.float64]], dict[str, NDArray[np.float64]]]

    def __call__(self, weights: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
        return self.of(weights @ self.table)

    def of_groups(self, at: NDArray[np.int64], count: int) -> Summed:
        """The same over whole groups, each of the sum of its items."""
        table = np.zeros((count, self.table.shape[1]))
        np.add.at(table, at, self.table)
        return Summed(table, self.of)


def estimates(measure: Measure, groups: NDArray[np.int64], draws: int, seed: int) -> dict[str, Estimate]:
    """Each of a measure's values with its 95 % percentile interval.

    Args:
        measure: From weights to values.
        groups: (n,) int64: what belongs together; whole groups are drawn.
        draws: How many samples.
        seed: Of the drawing.
    """
    with one_thread():
        values = {name: float(each[0]) for name, each in measure(np.ones((1, len(groups)))).items()}
    _, at = np.unique(groups, return_inverse=True)
    count = int(at.max()) + 1
    if isinstance(measure, Summed):
        measure, at = measure.of_groups(at, count), np.arange(count)
    generator = np.random.Generator(np.random.PCG64(seed))
    picks = (np.bincount(generator.integers(0, count, count), minlength=count).astype(np.float64) for _ in range(draws))
    drawn: dict[str, list[NDArray[np.float64]]] = {name: [] for name in values}
    step = max(1, _DRAWN // len(at))
    with one_thread():
        for some in iter(lambda: list(itertools.islice(picks, step)), []):
            for name, each in measure(np.array(some)[:, at]).items():
                drawn[name].append(each)
    found = {}
    for name, value in values.items():
        kept = np.concatenate(drawn[name] or [np.array([value])])
        kept = kept[np.isfinite(kept)]
        low, high = np.quantile(kept, [0.025, 0.975]) if len(kept) else (value, value)
        # Of equal values the mean may fall beside the interval by a rounding.
        found[name] = Estimate(value=value, low=min(float(low), value), high=max(float(high), value))
    return found


def mean_of(values: NDArray[np.floating], groups: NDArray[np.int64], *, draws: int = 1000, seed: int = 0) -> Estimate:
    """A mean over items, with its 95 % interval.

    Args:
        values: (n,) one for each item.
        groups: (n,) int64: what belongs together.
        draws: How many samples.
        seed: Of the drawing.

    Raises:
        UsageError: There are no items.
    """
    if not len(values):
        raise UsageError("there are no items to take figures of.")
    table = np.column_stack([np.ones(len(values)), np.asarray(values, np.float64)])
    return estimates(Summed(table, lambda sums: {"mean": sums[:, 1] / sums[:, 0]}), groups, draws, seed)["mean"]
