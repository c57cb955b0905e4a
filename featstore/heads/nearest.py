"""Heads of what is near: the class whose mean is nearest, and the nearest items' classes.

Source: Snell, Swersky and Zemel, Prototypical networks for few-shot learning (2017), equation 8, for the mean as a
linear head; Wu et al., Unsupervised feature learning via non-parametric instance discrimination (2018), and DINOv2,
``dinov2/eval/knn.py``, for the weights softmax(cosine / 0.07) and the numbers of neighbours.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from featstore.heads.blocks import Rows, blocks, product
from featstore.heads.choosing import Judge, judged_rows
from featstore.heads.head import Head
from featstore.heads.inputs import linear_head, linear_inputs, rows_of
from featstore.heads.kinds import LeftOut, Problem, Tried
from featstore.heads.sums import Sums, lengths_of, sums_of
from featstore.heads.topk import largest

__all__ = ["FLOORS", "NEIGHBOURS", "TAU", "knn", "prototypes"]

NEIGHBOURS = (10, 20, 100, 200)
"""Numbers of neighbours that are tried."""

TAU = 0.07
"""What cosines are divided by before they become weights."""

FLOORS = (1e-2, 1e-3, 1e-4)
"""The least share of a class that are tried: its logarithm is the logit of a class that no neighbour is of."""

# Pairs of items up to which every item's neighbours are looked up to choose by; of more, those of as many items.
_PAIRS = 200_000_000
_ASKED = 4_000

# Values of what the items are that a head of neighbours may hold (200 MB), and of the vectors (2 GB).
_TARGETS = 50_000_000
_VECTORS = 500_000_000

_ROWS = 256


def prototypes(problem: Problem) -> Tried | LeftOut:
    """The class with the nearest mean: of the vectors at length 1, or of the standardised ones."""
    if problem.task != "classification":
        return LeftOut("it is for classes that exclude each other")
    problem.progress("prototypes")
    best: tuple[float, str, NDArray[np.floating]] | None = None
    pairs, judged = tuple(problem.sides()), judged_rows(problem)
    judge = Judge(problem, judged)
    names = dict.fromkeys("unit" if name == "raw" else name for name in linear_inputs(problem))
    for name in names:
        logits: NDArray[np.floating] | None = None
        sums = sums_of(problem, name == "unit")
        for _, held in pairs:
            weights, bias = _means(sums.without(int(problem.folds[held[0]])), name)
            predicted = product(problem.workers, rows_of(problem, name, held), weights, bias)
            if logits is None:
                logits = np.empty((problem.items, problem.outputs), predicted.dtype)
            logits[held] = predicted
        assert logits is not None
        found = judge.score(logits[judged])
        if best is None or found < best[0]:
            best = (found, name, logits)
    assert best is not None
    _, name, logits = best

    def refit() -> Head:
        weights, bias = _means(sums_of(problem, name == "unit").without(None), name)
        return linear_head(problem, "prototypes", name, weights, bias, {})

    return Tried(input=name, settings={}, out_of_fold=logits, refit=refit)


def _means(sums: Sums, name: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """−½ ‖x − mean‖² of each class, less what all have in common: linear in x."""
    factor = sums.factor() if name == "standard" else np.ones(len(sums.mean))
    present = sums.target_mean > 0
    share = np.where(present, sums.target_mean, 1.0)[:, None]
    means = np.where(present[:, None], sums.cross / (sums.weight * share), 0.0) * factor
    bias = -0.5 * np.vecdot(means, means)
    bias[~present] = bias[present].min() - 1
    scaled = means * factor
    return scaled, bias - scaled @ sums.mean


def knn(problem: Problem) -> Tried | LeftOut:
    """The nearest items by cosine, each with a weight: their classes, labels or mean value."""
    n, d, c = problem.items, problem.dim, problem.outputs
    if n * c > _TARGETS or n * d > _VECTORS:
        return LeftOut(f"{n:,} items of {d:,} values and {c:,} classes would make too large a head")
    asked = np.arange(n)
    if n * n > _PAIRS:
        asked = np.sort(np.random.Generator(np.random.PCG64(problem.seed)).permutation(n)[:_ASKED])
    problem.progress("knn: choosing the number of neighbours")
    unit = _unit(problem)
    near, similar = _neighbours(problem, unit, asked)
    judge = Judge(problem, asked)
    best: tuple[float, int, float, NDArray[np.float64]] | None = None
    for k in NEIGHBOURS:
        if k > near.shape[1] and k != NEIGHBOURS[0]:
            break
        shares = _shares(problem, asked, near[:, :k], similar[:, :k])
        for floor in FLOORS if problem.task != "regression" else FLOORS[:1]:
            logits = _logits(problem, shares, floor)
            found = judge.score(logits)
            if best is None or found < best[0]:
                best = (found, k, floor, logits)
    assert best is not None
    _, k, floor, logits = best
    settings = {"k": float(k), "tau": TAU}
    if problem.task != "regression":
        settings["floor"] = floor

    def refit() -> Head:
        arrays = {"known": unit, "known_target": _targets(problem)}
        return Head(
            task=problem.task,
            kind="knn",
            classes=problem.classes,
            dim=d,
            input="unit",
            arrays=arrays,
            settings=settings,
        )

    def complete() -> NDArray[np.floating]:
        problem.progress(f"knn: the neighbours of all {n:,} items")
        every = np.arange(n)
        near, similar = _neighbours(problem, unit, every, k)
        return _logits(problem, _shares(problem, every, near, similar), floor)

    partial = len(asked) < n
    return Tried(
        input="unit",
        settings=settings,
        out_of_fold=logits,
        refit=refit,
        rows=asked if partial else None,
        complete=complete if partial else None,
    )


def _unit(problem: Problem) -> NDArray[np.float32]:
    found = np.empty(problem.vectors.shape, np.float32)
    rows = Rows(problem.vectors, np.arange(problem.items), lengths_of(problem))

    def work(chunk: slice) -> None:
        for part in blocks(chunk):
            found[part] = rows.block(part)

    problem.workers.over(problem.items, work)
    return found


def _neighbours(
    problem: Problem, unit: NDArray[np.float32], asked: NDArray[np.int64], most: int = NEIGHBOURS[-1]
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Of some items the nearest of other folds, nearest first, and their cosines: (m, k) each.

    Where a fold leaves fewer items than asked for, k is as many as every fold leaves.
    """
    sides = tuple(problem.sides())
    k = min(most, *(len(rows) for rows, _ in sides))
    near, similar = np.empty((len(asked), k), np.int64), np.empty((len(asked), k), np.float32)
    for known, held in sides:
        places = np.flatnonzero(np.isin(asked, held))
        others = unit[known].T

        def work(
            chunk: slice,
            places: NDArray[np.int64] = places,
            others: NDArray[np.float32] = others,
            known: NDArray[np.int64] = known,
        ) -> None:
            for part in blocks(chunk, _ROWS):
                at = places[part]
                cosines = unit[asked[at]] @ others
                first = largest(cosines, k)
                near[at] = known[first]
                similar[at] = np.take_along_axis(cosines, first, 1)

        problem.workers.over(len(places), work)
    return near, similar


def _targets(problem: Problem) -> NDArray[Any]:
    """(n, c) what the items are: values, 0 and 1, or instead of 1 what their class counts."""
    if problem.task == "regression":
        return problem.truth[:, None].astype(np.float64)
    if problem.task == "multilabel":
        return problem.truth.astype(np.float32)
    found = np.zeros((problem.items, problem.outputs), np.float32)
    every = np.arange(problem.items)
    found[every, problem.truth] = problem.weights(every)
    return found


def _shares(
    problem: Problem, asked: NDArray[np.int64], near: NDArray[np.int64], similar: NDArray[np.float32]
) -> NDArray[np.float64]:
    """(m, c) the neighbours' weighted shares of each class, as ``Head`` takes them."""
    scores = similar.astype(np.float64) / TAU
    weights = np.exp(scores - scores.max(axis=1, keepdims=True))
    weights /= weights.sum(axis=1, keepdims=True)
    found = np.zeros((len(near), problem.outputs))
    rows = np.arange(len(near))
    if problem.task == "classification":  # by fold, what a class counts among the items of the others
        fold = np.unique(problem.folds, return_inverse=True)[1][asked]
        counts = np.ones((int(fold.max()) + 1, problem.outputs))
        for number, (others, _) in zip(range(len(counts)), problem.sides(), strict=False):
            counts[number, problem.truth[others]] = problem.weights(others)
    for column in range(near.shape[1]):
        truth, weight = problem.truth[near[:, column]], weights[:, column]
        if problem.task == "classification":
            found[rows, truth] += weight * counts[fold, truth]
        else:
            found += weight[:, None] * truth.reshape(len(rows), -1)
    return found


def _logits(problem: Problem, shares: NDArray[np.float64], floor: float) -> NDArray[np.float64]:
    if problem.task == "regression":
        return shares
    if problem.task == "multilabel":
        inside = np.clip(shares, floor, 1 - floor)
        return np.asarray(np.log(inside) - np.log1p(-inside), np.float64)
    return np.asarray(np.log(np.maximum(shares, floor)), np.float64)
