"""Ridge regression in closed form: on the classes as 0 and 1, on labels, or on values.

The second moments of every fold are summed once; those of a training side are a subtraction, and one decomposition of
them serves all penalties. Vectors too long for that are solved for each penalty.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from featstore.heads.blocks import product
from featstore.heads.choosing import Judge, judged_rows
from featstore.heads.folds import judges
from featstore.heads.head import Head
from featstore.heads.inputs import linear_head, linear_inputs, rows_of
from featstore.heads.kinds import LeftOut, Problem, Tried
from featstore.heads.sums import LARGEST, Sums, sums_of

__all__ = ["PENALTIES", "ridge"]

PENALTIES = tuple(10.0 ** (power / 2) for power in range(-12, 5))
"""Strengths of the penalty that are tried, as shares of the mean variance of an input's values."""

# Up to as many values a matrix is decomposed; solving for each penalty is quicker from there on.
_DECOMPOSED = 1024

# What is added to the diagonal so that even the weakest penalty's matrix can be solved.
_ROUNDING = 1e-12

_Line = tuple[NDArray[np.float64], NDArray[np.float64]]


def ridge(problem: Problem) -> Tried | LeftOut:
    """Least squares with an L2 penalty and a free mean, over the strengths of the penalty and the inputs."""
    if problem.dim > LARGEST:
        return LeftOut(f"vectors of {problem.dim:,} values; its matrix is made of up to {LARGEST:,}")
    pairs = _pairs(problem)
    judge = Judge(problem, np.concatenate([held for _, held in pairs]))
    best: tuple[float, str, float] | None = None
    for name in linear_inputs(problem):
        problem.progress(f"ridge, {name} input: choosing the penalty")
        sums = sums_of(problem, name == "unit")
        solvers = [_solver(sums.without(fold), name) for fold, _ in pairs]
        for penalty in reversed(PENALTIES):
            logits = np.concatenate(
                [
                    product(problem.workers, rows_of(problem, name, held), *solve(penalty))
                    for solve, (_, held) in zip(solvers, pairs, strict=True)
                ]
            )
            found = judge.score(logits)
            if best is None or found < best[0]:
                best = (found, name, penalty)
    assert best is not None
    _, name, penalty = best
    logits = _out_of_fold(problem, name, penalty)

    def refit() -> Head:
        weights, bias = _solved(sums_of(problem, name == "unit").without(None), name, penalty)
        return linear_head(problem, "ridge", name, weights, bias, {"penalty": penalty})

    return Tried(input=name, settings={"penalty": penalty}, out_of_fold=logits, refit=refit)


def _pairs(problem: Problem) -> list[tuple[int, NDArray[np.int64]]]:
    """Each fold and the items of it that penalties are judged by; one fold alone where that takes long."""
    judged = judged_rows(problem)
    folds = (np.unique(problem.folds) if problem.dim <= _DECOMPOSED else judges(problem.folds)).tolist()
    found = ((fold, judged[problem.folds[judged] == fold]) for fold in folds)
    some = [(fold, rows) for fold, rows in found if len(rows)]
    return some if problem.dim <= _DECOMPOSED else some[:1]


def _out_of_fold(problem: Problem, name: str, penalty: float) -> NDArray[np.floating]:
    logits: NDArray[np.floating] | None = None
    sums = sums_of(problem, name == "unit")
    for _, held in problem.sides():
        weights, bias = _solved(sums.without(int(problem.folds[held[0]])), name, penalty)
        predicted = product(problem.workers, rows_of(problem, name, held), weights, bias)
        if logits is None:
            logits = np.empty((problem.items, problem.outputs), predicted.dtype)
        logits[held] = predicted
    assert logits is not None
    return logits


def _solver(sums: Sums, name: str) -> Callable[[float], _Line]:
    """From a penalty to weights and bias for the vectors themselves."""
    if len(sums.mean) > _DECOMPOSED:
        return lambda penalty: _solved(sums, name, penalty)
    factor = _factor(sums, name)
    variance, basis = np.linalg.eigh(sums.products * np.outer(factor, factor))
    variance, mean = np.maximum(variance, 0), float(np.maximum(variance, 0).mean())
    turned = (sums.cross * factor) @ basis

    def solve(penalty: float) -> _Line:
        weights = ((turned / (variance + (penalty + _ROUNDING) * (mean or 1.0))) @ basis.T) * factor
        return weights, sums.target_mean - weights @ sums.mean

    return solve


def _solved(sums: Sums, name: str, penalty: float) -> _Line:
    factor = _factor(sums, name)
    matrix = sums.products * np.outer(factor, factor)
    mean = float(matrix.trace() / len(matrix)) or 1.0
    matrix.flat[:: len(matrix) + 1] += (penalty + _ROUNDING) * mean
    weights = np.linalg.solve(matrix, (sums.cross * factor).T).T * factor
    return weights, sums.target_mean - weights @ sums.mean


def _factor(sums: Sums, name: str) -> NDArray[np.float64]:
    return sums.factor() if name == "standard" else np.ones(len(sums.mean))
