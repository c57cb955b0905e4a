"""Coordinates in which logistic regression bends alike in all directions, so that few steps find its minimum.

The Hessian of the log-loss is about the covariance of the inputs times p · (1 − p) for each class; its main directions
are taken once for each input from all items and used for every fold and penalty. They decide how fast the minimum is
reached, not where it is.

Source: Böhning, Multinomial logistic regression algorithm (1992), for the bound of the Hessian.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from featstore.heads.blocks import Rows
from featstore.heads.kinds import Problem
from featstore.heads.sums import lengths_of, spread, sums_of

__all__ = ["Directions", "Metric", "directions"]

# Up to as many values of a vector the covariance is decomposed whole; of longer ones, that of as many rows.
_WHOLE = 1024
_FEWEST = 64


@dataclass(frozen=True, eq=False)
class Directions:
    """The main directions of an input.

    Attributes:
        basis: (d, r), orthonormal.
        variance: (r,) along each.
        rest: The mean variance along all others.
    """

    basis: NDArray[np.float64]
    variance: NDArray[np.float64]
    rest: float

    def first(self, count: int) -> Directions:
        """The ``count`` with the most variance."""
        left_out = len(self.variance) - count
        if left_out <= 0:
            return self
        order = np.argsort(-self.variance, kind="stable")
        variance = self.variance[order]
        others = len(self.basis) - len(variance)
        rest = (float(variance[count:].sum()) + others * self.rest) / (left_out + others)
        return Directions(np.ascontiguousarray(self.basis[:, order[:count]]), variance[:count], rest)


def directions(problem: Problem, name: str) -> Directions:
    """The main directions of an input, ``raw``, ``unit`` or ``standard``; taken once."""
    key = f"directions {name}"
    if key not in problem.kept:
        every = _whole(problem, name) if problem.dim <= _WHOLE else _main(problem, name)
        # Turning weights around is not to cost more than a pass over the rows does.
        problem.kept[key] = every.first(max(_FEWEST, problem.items // 4))
    found: Directions = problem.kept[key]
    return found


@dataclass(frozen=True, eq=False)
class Metric:
    """A change of coordinates: the weights are ``basis · (v scaled)``, symmetric in every class.

    Attributes:
        directions: The input's.
        scales: (c, r) by class and direction.
        rest: (c, 1) for what the directions leave out.
        bias: (c,).
    """

    directions: Directions
    scales: NDArray[np.float64]
    rest: NDArray[np.float64]
    bias: NDArray[np.float64]

    @classmethod
    def of(cls, found: Directions, curvature: NDArray[np.float64], penalty: float) -> Metric:
        """Coordinates for classes of a mean p · (1 − p) of ``curvature`` (c,) and a penalty of ½ · penalty · ‖w‖²."""
        bend = np.maximum(curvature, 1e-6)[:, None]
        scales = 1 / np.sqrt(bend * found.variance + penalty)
        return cls(found, scales, 1 / np.sqrt(bend * found.rest + penalty), 1 / np.sqrt(bend[:, 0]))

    def out(self, weights: NDArray[np.float64]) -> NDArray[np.float64]:
        """From the new coordinates (c, d) to weights; and a gradient's way back, since it is symmetric."""
        return self._times(weights, self.scales - self.rest, self.rest)

    def into(self, weights: NDArray[np.float64]) -> NDArray[np.float64]:
        """From weights (c, d) to the new coordinates."""
        return self._times(weights, 1 / self.scales - 1 / self.rest, 1 / self.rest)

    def _times(
        self, weights: NDArray[np.float64], along: NDArray[np.float64], rest: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        basis = self.directions.basis
        return np.asarray(((weights @ basis) * along) @ basis.T + rest * weights, np.float64)


def _whole(problem: Problem, name: str) -> Directions:
    sums = sums_of(problem, name == "unit").without(None)
    covariance = sums.products / sums.weight
    if name == "standard":
        factor = sums.factor()
        covariance = covariance * np.outer(factor, factor)
    variance, basis = np.linalg.eigh(covariance)
    return Directions(basis, np.maximum(variance, 0), 0.0)


def _main(problem: Problem, name: str) -> Directions:
    """From the inner products of some rows: their covariance has no other directions."""
    step = -(-problem.items // _WHOLE)
    rows = Rows(problem.vectors, np.arange(0, problem.items, step), lengths_of(problem) if name == "unit" else None)
    values = rows.block(slice(0, len(rows)))
    mean, factor = spread(problem, rows)
    values -= mean
    if name == "standard":
        values *= factor
    variance, left = np.linalg.eigh(values @ values.T / len(values))
    total = float(variance.sum())
    known = variance > 1e-9 * max(float(variance[-1]), 1e-300)
    variance = variance[known]
    basis = values.T @ (left[:, known] / np.sqrt(len(values) * variance))
    # Those of few rows are too wide for many, and what is left out is not nothing.
    rest = max(total - float(variance.sum()), 1e-3 * total) / max(1, problem.dim - len(variance))
    return Directions(np.ascontiguousarray(basis), variance, rest)
