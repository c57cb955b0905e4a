"""Heads for items that may have several labels: what differs from classes that exclude each other.

Every label is a yes or no of its own. ``logistic`` and ``knn`` are the rooms of classification, which know of labels;
here are the means of the items with and without a label, and ridge regression on labels as 0 and 1. Neither gives
log-odds by itself, so that each label's output is stretched and moved until it does, on items outside the fit.

Source: Platt, Probabilistic outputs for support vector machines (1999), with his targets for few items; Lin, Lin and
Weng, A note on Platt's probabilistic outputs (2007), for Newton's method on it.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from featstore.heads import ridge as least_squares
from featstore.heads.blocks import blocks, product
from featstore.heads.choosing import Judge
from featstore.heads.head import Head
from featstore.heads.inputs import linear_head, linear_inputs, rows_of
from featstore.heads.kinds import LeftOut, Problem, Tried
from featstore.heads.metrics_multilabel import best_thresholds
from featstore.heads.sums import spread

__all__ = ["prototypes", "ridge", "thresholds"]

_Line = tuple[NDArray[np.float64], NDArray[np.float64]]

_STEPS = 50
_EXACT = 1e-8

# A label of which nothing can be told keeps so much of a slope, so that its order stays.
_LEAST = 1e-3


def prototypes(problem: Problem) -> Tried | LeftOut:
    """For each label the mean of the items with it and that of the others: which of them is nearer, and by how much."""
    problem.progress("prototypes")
    judge = Judge(problem, np.arange(problem.items))
    best: tuple[float, str, NDArray[np.float64], _Line] | None = None
    for name in dict.fromkeys("unit" if name == "raw" else name for name in linear_inputs(problem)):
        logits = np.empty((problem.items, problem.outputs))
        for rows, held in problem.sides():
            logits[held] = product(problem.workers, rows_of(problem, name, held), *_means(problem, name, rows))
        scaled, line = _as_log_odds(problem, logits)
        found = judge.score(scaled)
        if best is None or found < best[0]:
            best = (found, name, scaled, line)
    assert best is not None
    _, name, taken, (slope, offset) = best

    def refit() -> Head:
        weights, bias = _means(problem, name, np.arange(problem.items))
        return linear_head(problem, "prototypes", name, weights * slope[:, None], bias * slope + offset, {})

    return Tried(input=name, settings={}, out_of_fold=taken, refit=refit)


def ridge(problem: Problem) -> Tried | LeftOut:
    """Least squares on labels as 0 and 1, over the strengths of the penalty and the inputs."""
    tried = least_squares.ridge(problem)
    if isinstance(tried, LeftOut):
        return tried
    scaled, (slope, offset) = _as_log_odds(problem, tried.out_of_fold)

    def refit() -> Head:
        head = tried.refit()
        weights, bias = head.arrays["weights"] * slope[:, None], head.arrays["bias"] * slope + offset
        return replace(head, arrays={**head.arrays, "weights": weights, "bias": bias})

    return replace(tried, out_of_fold=scaled, refit=refit)


def thresholds(probabilities: NDArray[np.floating], truth: NDArray[np.bool_]) -> NDArray[np.float64]:
    """For each label the probability from which on it is given, chosen on items outside the fit.

    Args:
        probabilities: (n, c), out of fold.
        truth: (n, c) bool.

    Returns:
        (c,) float64: that of the best F1; 0.5 for labels that fewer than 5 items have.
    """
    return best_thresholds(truth, probabilities)


def _means(problem: Problem, name: str, rows: NDArray[np.int64]) -> _Line:
    """Half the difference of the squared distances to the means of the items without and with each label."""
    read = rows_of(problem, name, rows)
    centre, factor = spread(problem, read)
    factor = factor if name == "standard" else np.ones_like(factor)
    truth = problem.truth[rows]
    counts = truth.sum(axis=0).astype(np.float64)
    total, with_it = np.zeros(problem.dim), np.zeros((problem.outputs, problem.dim))
    for part in blocks(slice(0, len(rows)), 4096):
        values = (read.block(part) - centre) * factor
        total += values.sum(axis=0)
        with_it += truth[part].T.astype(np.float64) @ values
    without = (total - with_it) / np.maximum(len(rows) - counts, 1)[:, None]
    means = with_it / np.maximum(counts, 1)[:, None]
    weights = means - without
    bias = 0.5 * (np.vecdot(without, without) - np.vecdot(means, means))
    one_sided = (counts == 0) | (counts == len(rows))
    weights[one_sided], bias[one_sided] = 0.0, 0.0
    scaled = weights * factor
    return scaled, bias - scaled @ centre


def _as_log_odds(problem: Problem, values: NDArray[np.floating]) -> tuple[NDArray[np.float64], _Line]:
    """Each label's values times a slope plus an offset, where their logistic loss is least; and those two."""
    values = np.asarray(values, np.float64)
    n = len(values)
    centre, size = values.mean(axis=0), values.std(axis=0)
    size = np.where(size > 1e-12, size, 1.0)
    scaled = (values - centre) / size
    weights = problem.weights(np.arange(n))
    with_it = problem.truth.sum(axis=0).astype(np.float64)
    target = np.where(problem.truth, (with_it + 1) / (with_it + 2), 1 / (n - with_it + 2))
    prior = (weights * target).sum(axis=0) / weights.sum(axis=0)
    line = np.stack([np.zeros(values.shape[1]), np.log(prior) - np.log1p(-prior)])
    loss = _loss(scaled, target, weights, line)
    for _ in range(_STEPS):
        chance = np.exp(-np.logaddexp(0.0, -(line[0] * scaled + line[1])))
        gap, bend = (chance - target) * weights, chance * (1 - chance) * weights + 1e-12
        slopes = np.stack([(gap * scaled).sum(axis=0), gap.sum(axis=0)])
        aa, ab, bb = (bend * scaled**2).sum(axis=0), (bend * scaled).sum(axis=0), bend.sum(axis=0)
        determinant = aa * bb - ab**2 + 1e-12 * (aa + bb) ** 2
        step = np.stack([bb * slopes[0] - ab * slopes[1], aa * slopes[1] - ab * slopes[0]]) / determinant
        promised = (step * slopes).sum(axis=0)
        if (promised <= _EXACT * loss).all():
            break
        share = np.ones(values.shape[1])
        for _ in range(20):  # halved where it went too far
            after = _loss(scaled, target, weights, line - share * step)
            over = after > loss - 1e-4 * share * promised
            if not over.any():
                break
            share[over] /= 2
        line -= share * step
        loss = _loss(scaled, target, weights, line)
    slope = np.maximum(line[0], _LEAST) / size
    offset = line[1] - slope * centre
    return slope * values + offset, (slope, offset)


def _loss(
    values: NDArray[np.float64], target: NDArray[np.float64], weights: NDArray[np.float64], line: NDArray[np.float64]
) -> NDArray[np.float64]:
    logits = line[0] * values + line[1]
    return np.asarray((weights * (np.logaddexp(0.0, logits) - target * logits)).sum(axis=0), np.float64)
