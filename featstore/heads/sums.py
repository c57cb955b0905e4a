"""First and second moments of the vectors by fold, so that what is fitted without a fold is a subtraction away."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from featstore.heads.blocks import Rows, blocks, inverse_lengths
from featstore.heads.kinds import Problem

__all__ = ["LARGEST", "FoldSums", "Sums", "factor_of", "lengths_of", "spread", "sums_of"]

LARGEST = 4096
"""Values of a vector up to which second moments are taken: a matrix of 134 MB."""

# Matrices of all folds are kept up to as many values (256 MB), else made again when they are asked for.
_KEPT = 32_000_000

# What float32 makes of a constant, as a share of it.
_ROUNDING = 1e-6

# The share of the widest value's spread below which a value holds nothing but the noise of float32 inference. MiniLM
# has such values; stretched to a spread of 1, they would be weights of millions on noise.
_NOISE = 1e-6


@dataclass(frozen=True, eq=False)
class Sums:
    """Of some items: the weight, the means, and the sums of products around the means.

    Attributes:
        weight: The sum of the items' weights.
        mean: (d,) of the vectors.
        target_mean: (c,) of the targets.
        squares: (d,), of each value with itself.
        products: (d, d), of all values with each other; empty of vectors longer than ``LARGEST``.
        cross: (c, d), of the targets with the vectors.
    """

    weight: float
    mean: NDArray[np.float64]
    target_mean: NDArray[np.float64]
    squares: NDArray[np.float64]
    products: NDArray[np.float64]
    cross: NDArray[np.float64]

    def factor(self) -> NDArray[np.float64]:
        """(d,) what gives each value a spread of 1; 0 for those that never vary."""
        return factor_of(np.maximum(self.squares / self.weight, 0), self.mean)


@dataclass(frozen=True, eq=False)
class _Raw:
    """Sums as they add up: around ``shift``, not the mean."""

    weight: float
    vectors: NDArray[np.float64]
    targets: NDArray[np.float64]
    squares: NDArray[np.float64]
    products: NDArray[np.float64]
    cross: NDArray[np.float64]

    def plus(self, other: _Raw, sign: float = 1.0) -> _Raw:
        return _Raw(
            self.weight + sign * other.weight,
            self.vectors + sign * other.vectors,
            self.targets + sign * other.targets,
            self.squares + sign * other.squares,
            self.products + sign * other.products,
            self.cross + sign * other.cross,
        )


@dataclass(frozen=True, eq=False)
class FoldSums:
    """The sums of all items, and of each fold where they fit into memory.

    Where classes are weighed, those of all but the fold: what a class counts is to be known from these alone.
    """

    problem: Problem
    unit: bool
    shift: NDArray[np.float64]
    total: _Raw
    folds: dict[int, _Raw]
    keep: bool

    def without(self, fold: int | None) -> Sums:
        """The sums of all items but those of a fold; of all for None."""
        raw = self.total
        if fold is not None and _weighed(self.problem):
            raw = self.folds.get(fold) or _raw(self.problem, self.unit, self.shift, self.problem.folds != fold)
            if self.keep:
                self.folds[fold] = raw
        elif fold is not None:
            own = self.folds.get(fold) or _raw(self.problem, self.unit, self.shift, self.problem.folds == fold)
            raw = raw.plus(own, -1.0)
        mean, target_mean = raw.vectors / raw.weight, raw.targets / raw.weight
        return Sums(
            weight=raw.weight,
            mean=mean + self.shift,
            target_mean=target_mean,
            squares=raw.squares - raw.weight * mean * mean,
            products=raw.products - raw.weight * np.outer(mean, mean) if raw.products.size else raw.products,
            cross=raw.cross - raw.weight * np.outer(target_mean, mean),
        )


def lengths_of(problem: Problem) -> NDArray[np.float64]:
    """(n,) 1 / length of every vector; taken once.

    Raises:
        UsageError: A vector holds a value that is not finite.
    """
    if "lengths" not in problem.kept:
        problem.kept["lengths"] = inverse_lengths(problem.workers, problem.vectors)
    found: NDArray[np.float64] = problem.kept["lengths"]
    return found


def sums_of(problem: Problem, unit: bool) -> FoldSums:
    """The sums by fold, of the vectors as they are or at length 1; taken once.

    Targets are 0 and 1 for each class or label, or the values of a regression. Items count by ``Problem.weights``;
    all the same for multilabel, where they would differ from label to label.
    """
    key = f"sums {unit}"
    if key not in problem.kept:
        first = Rows(problem.vectors, np.arange(min(problem.items, 1024)), lengths_of(problem) if unit else None)
        shift = first.block(slice(0, len(first))).mean(axis=0)
        numbers = np.unique(problem.folds).tolist()
        keep = len(numbers) * problem.dim * (min(problem.dim, LARGEST) + problem.outputs) <= _KEPT
        total: _Raw | None = None
        folds: dict[int, _Raw] = {}
        if _weighed(problem):
            numbers, total = [], _raw(problem, unit, shift, np.ones(problem.items, np.bool_))
        for fold in numbers:
            own = _raw(problem, unit, shift, problem.folds == fold)
            total = own if total is None else total.plus(own)
            if keep:
                folds[fold] = own
        assert total is not None
        problem.kept[key] = FoldSums(problem, unit, shift, total, folds, keep)
    found: FoldSums = problem.kept[key]
    return found


def spread(problem: Problem, rows: Rows) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The mean of some rows' values, and the factor that gives each a spread of 1; 0 for those that never vary.

    Args:
        problem: Whose workers share the work.
        rows: m rows of d values.

    Returns:
        (d,) and (d,) float64.
    """
    first = rows.block(slice(0, min(len(rows), 1024))).mean(axis=0)

    def work(chunk: slice) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        total, squares = np.zeros(problem.dim), np.zeros(problem.dim)
        for part in blocks(chunk):
            values = rows.block(part) - first
            total += values.sum(axis=0)
            squares += np.einsum("nd,nd->d", values, values)
        return total, squares

    parts = problem.workers.over(len(rows), work)
    offset = np.sum([part[0] for part in parts], axis=0) / len(rows)
    variance = np.maximum(np.sum([part[1] for part in parts], axis=0) / len(rows) - offset * offset, 0)
    return first + offset, factor_of(variance, first + offset)


def factor_of(variance: NDArray[np.float64], mean: NDArray[np.float64]) -> NDArray[np.float64]:
    """1 / spread; 0 where a value never varies, or only by what float32 makes of a constant."""
    size = np.sqrt(variance)
    alive = size > np.maximum(_ROUNDING * np.abs(mean), _NOISE * float(size.max(initial=0)))
    return np.asarray(np.where(alive, 1 / np.where(alive, size, 1), 0.0), np.float64)


def _raw(problem: Problem, unit: bool, shift: NDArray[np.float64], which: NDArray[np.bool_]) -> _Raw:
    held = np.flatnonzero(which)
    rows = Rows(problem.vectors, held, lengths_of(problem) if unit else None)
    share = np.ones(len(held)) if problem.task == "multilabel" else problem.weights(held)
    d, c = problem.dim, problem.outputs
    square = d if d <= LARGEST else 0

    def work(chunk: slice) -> _Raw:
        total, of_targets = np.zeros(d), np.zeros(c)
        squares, products, cross = np.zeros(d), np.zeros((square, square)), np.zeros((c, d))
        for part in blocks(chunk):
            values, weight = rows.block(part) - shift, share[part]
            weighted = values * weight[:, None]
            squares += np.einsum("nd,nd->d", weighted, values)
            if square:
                products += weighted.T @ values
            total += weighted.sum(axis=0)
            truth = problem.truth[held[part]]
            if problem.task == "classification":
                order = np.argsort(truth, kind="stable")
                present, starts = np.unique(truth[order], return_index=True)
                cross[present] += np.add.reduceat(weighted[order], starts, axis=0)
                of_targets[present] += np.add.reduceat(weight[order], starts)
            else:
                aims = truth.reshape(len(truth), c).astype(np.float64)
                cross += aims.T @ weighted
                of_targets += aims.T @ weight
        return _Raw(float(share[chunk].sum()), total, of_targets, squares, products, cross)

    # Each chunk has matrices of its own.
    parts = problem.workers.over(len(held), work, chunks=max(2, min(8, _KEPT // (d * (square + c)))))
    found = parts[0]
    for part in parts[1:]:
        found = found.plus(part)
    return found


def _weighed(problem: Problem) -> bool:
    return problem.balanced and problem.task == "classification"
