"""How good predictions are, with intervals: the figures of classification, and where the other tasks' are.

A task's metrics are a function of the items' weights, which ``bootstrap`` draws.
"""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featstore.errors import UsageError
from featstore.heads.bootstrap import Measure, Summed, estimates, mean_of
from featstore.records import Estimate, HeadTask

__all__ = ["BINS", "Measure", "Summed", "classification", "ece", "figures", "mean_of", "paired", "reliability"]

BINS = 15
"""Bins of the calibration error, of equal width."""

# Probabilities below count as this, as in scikit-learn's log_loss for float64: its logarithm is finite.
_LEAST = float(np.finfo(np.float64).eps)

# Values of a table of what is summed, up to which it is made.
_DENSE = 20_000_000

_MEASURES = {
    "classification": "featstore.heads.metrics:classification",
    "multilabel": "featstore.heads.metrics_multilabel:multilabel",
    "regression": "featstore.heads.metrics_regression:regression",
}


def figures(
    task: HeadTask,
    truth: NDArray[Any],
    predicted: NDArray[np.floating],
    groups: NDArray[np.int64],
    *,
    draws: int = 1000,
    seed: int = 0,
    thresholds: NDArray[np.float64] | None = None,
) -> dict[str, Estimate]:
    """The task's metrics, each with its 95 % percentile interval.

    Source: Efron and Tibshirani, An Introduction to the Bootstrap (1993), chapter 13.

    Args:
        task: What was predicted.
        truth: (n,) class numbers, (n, c) bool, or (n,) values.
        predicted: (n, c) probabilities; regression (n,) or (n, 1) values.
        groups: (n,) int64: what belongs together; whole groups are drawn.
        draws: How many samples.
        seed: Of the drawing.
        thresholds: (c,) from which probability on a label is predicted; multilabel only, 0.5 by default.

    Returns:
        Classification: ``accuracy``, ``balanced_accuracy``, ``macro_f1``, ``log_loss``, ``ece``.

    Raises:
        UsageError: There are no items, or the arrays do not belong together.
    """
    measure = _measure(task, truth, predicted, groups, thresholds)
    return estimates(measure, groups, draws, seed)


def paired(
    task: HeadTask,
    truth: NDArray[Any],
    a: NDArray[np.floating],
    b: NDArray[np.floating],
    groups: NDArray[np.int64],
    *,
    draws: int = 1000,
    seed: int = 0,
    thresholds: tuple[NDArray[np.float64] | None, NDArray[np.float64] | None] = (None, None),
) -> dict[str, Estimate]:
    """Each metric of ``b`` minus that of ``a`` on the same items, with its paired 95 % interval.

    Args:
        task: What was predicted.
        truth: As for ``figures``.
        a: What one head predicted.
        b: What the other predicted.
        groups: (n,) int64: what belongs together.
        draws: How many samples, the same for both.
        seed: Of the drawing.
        thresholds: The two heads'; multilabel only.

    Raises:
        UsageError: There are no items, or the arrays do not belong together.
    """
    first = _measure(task, truth, a, groups, thresholds[0])
    second = _measure(task, truth, b, groups, thresholds[1])

    if isinstance(first, Summed) and isinstance(second, Summed):
        width = first.table.shape[1]

        def of(sums: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
            one, other = first.of(sums[:, :width]), second.of(sums[:, width:])
            return {name: other[name] - one[name] for name in one}

        return estimates(Summed(np.column_stack([first.table, second.table]), of), groups, draws, seed)

    def difference(weights: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
        one, other = first(weights), second(weights)
        return {name: other[name] - one[name] for name in one}

    return estimates(difference, groups, draws, seed)


def classification(truth: NDArray[np.int64], probabilities: NDArray[np.floating]) -> Measure:
    """The metrics of a classification: accuracy, balanced accuracy, macro F1, log-loss, calibration error.

    The balanced accuracy is the mean, over the classes that occur, of the share of their items that is predicted
    right; the macro F1 the mean of the F1 of the classes that occur or are predicted; both as in scikit-learn.

    Args:
        truth: (n,) int64 class numbers.
        probabilities: (n, c).
    """
    n = len(truth)
    guess = probabilities.argmax(axis=1)
    sure = np.asarray(probabilities[np.arange(n), guess], np.float64)
    right = (guess == truth).astype(np.float64)
    loss = -np.log(np.maximum(np.asarray(probabilities[np.arange(n), truth], np.float64), _LEAST))
    bins = _bins(sure)
    # The classes' counts are of those alone that are here: of 10,000 classes few may be.
    here, place = np.unique(np.concatenate([truth, guess]), return_inverse=True)
    true_at, guess_at, width = place[:n], place[n:], len(here)

    def of(single: NDArray[np.float64], counts: tuple[NDArray[np.float64], ...]) -> dict[str, NDArray[np.float64]]:
        """From (k, 3) sums of 1, right and loss, (k, 15) of the gaps, and (k, c) counts: true, predicted, both."""
        gaps, true, guessed, hit = counts
        total = single[:, 0]
        recall = np.divide(hit, true, out=np.zeros_like(hit), where=true > 0)
        either = true + guessed
        f1 = np.divide(2 * hit, either, out=np.zeros_like(hit), where=either > 0)
        return {
            "accuracy": single[:, 1] / total,
            "balanced_accuracy": recall.sum(axis=1) / (true > 0).sum(axis=1),
            "macro_f1": f1.sum(axis=1) / (either > 0).sum(axis=1),
            "log_loss": single[:, 2] / total,
            "ece": np.abs(gaps).sum(axis=1) / total,
        }

    if n * width <= _DENSE:
        rows = np.arange(n)
        table = np.zeros((n, 3 + BINS + 3 * width))
        table[:, 0], table[:, 1], table[:, 2] = 1.0, right, loss
        cuts = (3, 3 + BINS, 3 + BINS + width, 3 + BINS + 2 * width)
        table[rows, cuts[0] + bins] = sure - right
        table[rows, cuts[1] + true_at] = 1.0
        table[rows, cuts[2] + guess_at] = 1.0
        table[rows, cuts[3] + true_at] = right

        def summed(sums: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
            single, *counts = np.split(sums, cuts, axis=1)
            return of(single, tuple(counts))

        return Summed(table, summed)

    def measure(weights: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
        at = (bins, true_at, guess_at, true_at)
        shares = (weights * (sure - right), weights, weights, weights * right)
        sizes = (BINS, width, width, width)
        counts = tuple(
            np.array([np.bincount(places, draw, size) for draw in share], np.float64)
            for places, share, size in zip(at, shares, sizes, strict=True)
        )
        return of(np.column_stack([weights.sum(axis=1), weights @ right, weights @ loss]), counts)

    return measure


def ece(truth: NDArray[np.int64], probabilities: NDArray[np.floating]) -> float:
    """The expected calibration error: how far the highest probability is from the share that is right.

    The mean over 15 bins of equal width, each by its items.

    Source: Guo et al., On calibration of modern neural networks (ICML 2017), equation 3.

    Args:
        truth: (n,) int64 class numbers, n at least 1.
        probabilities: (n, c).
    """
    found = reliability(truth, probabilities)
    return float(np.abs(found[:, 1] - found[:, 2]) @ found[:, 0] / found[:, 0].sum())


def reliability(truth: NDArray[np.int64], probabilities: NDArray[np.floating]) -> NDArray[np.float64]:
    """The bins of a reliability diagram.

    Args:
        truth: (n,) int64 class numbers.
        probabilities: (n, c).

    Returns:
        (15, 3) float64: items of the bin, the mean of their highest probability, the share of them that is right; 0
        where the bin is empty.
    """
    guess = probabilities.argmax(axis=1)
    sure = np.asarray(probabilities[np.arange(len(truth)), guess], np.float64)
    bins = _bins(sure)
    count = np.bincount(bins, minlength=BINS).astype(np.float64)
    some = np.maximum(count, 1)
    right = np.bincount(bins, (guess == truth).astype(np.float64), BINS)
    return np.column_stack([count, np.bincount(bins, sure, BINS) / some, right / some])


def _bins(sure: NDArray[np.float64]) -> NDArray[np.int64]:
    return np.clip(np.ceil(sure * BINS).astype(np.int64) - 1, 0, BINS - 1)


def _measure(
    task: HeadTask,
    truth: NDArray[Any],
    predicted: NDArray[np.floating],
    groups: NDArray[np.int64],
    thresholds: NDArray[np.float64] | None,
) -> Measure:
    if not len(truth):
        raise UsageError("there are no items to take figures of.")
    if not len(truth) == len(predicted) == len(groups):
        raise UsageError(
            f"{len(truth):,} true values, {len(predicted):,} predictions and {len(groups):,} groups do not belong "
            "together."
        )
    if not np.isfinite(predicted).all():
        raise UsageError("a prediction is not finite (NaN or infinite).")
    module, _, name = _MEASURES[task].partition(":")
    make = getattr(importlib.import_module(module), name)
    given = (truth, predicted) if thresholds is None else (truth, predicted, thresholds)
    found: Measure = make(*given)
    return found
