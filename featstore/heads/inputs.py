"""What is done to vectors before a linear head, and how it is folded into the head's weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featstore.heads.blocks import Rows
from featstore.heads.head import Head
from featstore.heads.kinds import Problem
from featstore.heads.sums import lengths_of, spread
from featstore.records import HeadKind

__all__ = ["Input", "linear_head", "linear_inputs", "rows_of"]

# Lengths that differ by less than this share are one length.
_ONE_LENGTH = 1e-3


@dataclass(frozen=True, eq=False)
class Input:
    """What some rows were brought to: ``(x − mean) · factor``, after the length where that is the input's."""

    name: str
    mean: NDArray[np.float64]
    factor: NDArray[np.float64]

    @classmethod
    def of(cls, problem: Problem, name: str, rows: NDArray[np.int64]) -> Input:
        """Fitted to some rows. All but ``standard`` have no factor; the mean is what a free bias makes no odds of."""
        mean, factor = spread(problem, rows_of(problem, name, rows))
        return cls(name, mean, factor if name == "standard" else np.ones_like(factor))

    def folded(
        self, weights: NDArray[np.float64], bias: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Weights and bias that give for the vectors what the given ones give for the input."""
        scaled = weights * self.factor
        return scaled, bias - scaled @ self.mean


def linear_inputs(problem: Problem) -> tuple[str, ...]:
    """The inputs worth trying for a linear head with a free bias.

    ``centred`` is none of them: taking a mean off changes nothing that the bias does not make up for. Neither is
    ``unit`` where all vectors have one length already.
    """
    lengths = lengths_of(problem)
    low, high = float(lengths.min()), float(lengths.max())
    return ("raw", "standard") if high - low <= _ONE_LENGTH * high else ("raw", "unit", "standard")


def rows_of(problem: Problem, name: str, rows: NDArray[np.int64]) -> Rows:
    """Some rows of the vectors, at length 1 where the input asks for it."""
    return Rows(problem.vectors, rows, lengths_of(problem) if name in ("unit", "centred") else None)


def linear_head(
    problem: Problem,
    kind: HeadKind,
    name: str,
    weights: NDArray[np.float64],
    bias: NDArray[np.float64],
    settings: dict[str, float],
) -> Head:
    """A linear head whose input is folded into its weights: ``mean`` and ``factor`` are not needed any more."""
    arrays: dict[str, NDArray[Any]] = {"weights": np.ascontiguousarray(weights), "bias": np.ascontiguousarray(bias)}
    return Head(
        task=problem.task,
        kind=kind,
        classes=problem.classes,
        dim=problem.dim,
        input=name,
        arrays=arrays,
        settings=settings,
    )
