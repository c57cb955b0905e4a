"""Calibration: one temperature that makes probabilities mean what they say, and the loss that heads are chosen by.

Source: Guo et al., On calibration of modern neural networks (ICML 2017), section 4.2; the temperature is fitted to
logits of items outside the fit. One item's worth of even chances is added, as Platt (1999) does, so that it stays
finite where every item is predicted right.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from featstore.records import HeadTask

__all__ = ["losses", "probabilities", "temperature"]

# Values that the temperature is fitted to, and those worked on at once.
_ENOUGH = 4_000_000
_BLOCK = 500_000

_STEPS = 60
_EXACT = 1e-9


def probabilities(task: HeadTask, logits: NDArray[np.floating], temperature: float) -> NDArray[np.float64]:
    """Logits as probabilities.

    Args:
        task: ``classification``: the softmax of each row; ``multilabel``: each label's own.
        logits: (n, c).
        temperature: What they are divided by.

    Returns:
        (n, c) float64.
    """
    scaled = np.asarray(logits, np.float64) / temperature
    if task == "multilabel":
        return np.asarray(np.exp(-np.logaddexp(0.0, -scaled)), np.float64)
    scaled -= scaled.max(axis=1, keepdims=True, initial=-np.inf)
    np.exp(scaled, out=scaled)
    scaled /= scaled.sum(axis=1, keepdims=True)
    return scaled


def losses(
    task: HeadTask, logits: NDArray[np.floating], truth: NDArray[Any], temperature: float = 1.0
) -> NDArray[np.float64]:
    """Each item's loss, which is what heads are chosen by.

    Args:
        task: What is predicted.
        logits: (n, c); regression (n, 1) values.
        truth: (n,) class numbers, (n, c) bool, or (n,) values.
        temperature: What the logits are divided by.

    Returns:
        (n,) float64: −log of the true class's probability; the mean of that over the labels; the squared error.
    """
    if task == "regression":
        return np.asarray(np.square(logits[:, 0] - truth), np.float64)
    found = np.empty(len(truth))
    for rows in _blocks(logits):
        scaled = np.asarray(logits[rows], np.float64) / temperature
        if task == "multilabel":
            found[rows] = np.logaddexp(0.0, np.where(truth[rows], -scaled, scaled)).mean(axis=1)
        else:
            top = scaled.max(axis=1)
            spread = np.log(np.exp(scaled - top[:, None]).sum(axis=1)) + top
            found[rows] = spread - np.take_along_axis(scaled, truth[rows, None], 1)[:, 0]
    return found


def temperature(task: HeadTask, logits: NDArray[np.floating], truth: NDArray[Any], *, near: float = 1.0) -> float:
    """The temperature at which the logits' probabilities fit the truth best, by their log-loss.

    Args:
        task: What is predicted; for regression it is 1.
        logits: (n, c) of heads that had not seen the items, n at least 1.
        truth: (n,) class numbers or (n, c) bool.
        near: Where to begin: it is found in fewer steps from that of alike logits.

    Returns:
        A positive number.
    """
    if task == "regression":
        return 1.0
    step = max(1, logits.size // _ENOUGH)
    logits, truth = logits[::step], truth[::step]
    scale = float(
        np.mean([np.abs(logits[rows] - logits[rows].mean(axis=1, keepdims=True)).mean() for rows in _blocks(logits)])
    )
    if task == "multilabel":
        scale = float(np.abs(logits).mean())
    if not scale > 0:
        return 1.0
    # The log-loss is convex in the inverse of the temperature: its slope's root is fenced in, then found by Newton.
    low, high = 1e-4 / scale, 1e4 / scale
    inverse = 1 / near if low < 1 / near < high else 1 / scale
    for _ in range(_STEPS):
        slope, bend = _slope(task, logits, truth, inverse)
        low, high = (inverse, high) if slope < 0 else (low, inverse)
        after = inverse - slope / bend if bend > 0 else -1.0
        if not low < after < high:
            after = float(np.sqrt(low * high))
        if abs(after - inverse) <= _EXACT * inverse:
            break
        inverse = after
    return 1 / inverse


def _slope(task: HeadTask, logits: NDArray[np.floating], truth: NDArray[Any], inverse: float) -> tuple[float, float]:
    """The first and second derivative of the mean log-loss by the inverse of the temperature."""
    n = len(logits)
    slope = bend = 0.0
    for rows in _blocks(logits):
        values = np.asarray(logits[rows], np.float64)
        if task == "multilabel":
            chance = np.exp(-np.logaddexp(0.0, -inverse * values))
            wanted = (truth[rows] * n + 0.5) / (n + 1)
            slope += float(((chance - wanted) * values).mean(axis=1).sum())
            bend += float((chance * (1 - chance) * values * values).mean(axis=1).sum())
            continue
        values = values - values.max(axis=1, keepdims=True)
        chance = np.exp(inverse * values)
        chance /= chance.sum(axis=1, keepdims=True)
        expected = np.vecdot(chance, values)
        wanted = (np.take_along_axis(values, truth[rows, None], 1)[:, 0] * n + values.mean(axis=1)) / (n + 1)
        slope += float((expected - wanted).sum())
        bend += float((np.vecdot(chance, values * values) - expected * expected).sum())
    return slope / n, bend / n


def _blocks(logits: NDArray[np.floating]) -> list[slice]:
    step = max(1, _BLOCK // logits.shape[1])
    return [slice(start, start + step) for start in range(0, len(logits), step)]
