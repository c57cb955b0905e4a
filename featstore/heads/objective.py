"""The loss of logistic regression and its gradient, in one pass over the rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featstore.heads.blocks import Rows, Workers, blocks
from featstore.heads.descent import minimise
from featstore.heads.whitening import Directions, Metric

__all__ = ["Line", "Objective"]

# Values of a block, and its logits: both stay in the cache of a core between the two products they are needed for.
_VALUES = 100_000
_LOGITS = 200_000


@dataclass(frozen=True, eq=False)
class Line:
    """A linear function of the input: weights (c, d), bias (c,), and the mean p · (1 − p) of each class there."""

    weights: NDArray[np.float64]
    bias: NDArray[np.float64]
    curvature: NDArray[np.float64]


class Objective:
    """The mean weighted log-loss of some rows, plus ½ ‖w‖² / (C · n); the bias is free.

    The softmax of the classes for class numbers, a sigmoid for each label where the truth is (m, c) bool. A class that
    none of the rows is of gets no weights and a bias below all others; a label that all or none have, its log-odds.

    Args:
        workers: To share the work.
        rows: m rows of d values.
        truth: (m,) int64 or (m, c) bool.
        weights: (m,) or (m, c): how much each counts, 1 on average.
        outputs: c.
        mean: (d,) taken off the rows, so that bias and weights do not pull at each other.
        factor: (d,) the rows are multiplied by.
    """

    def __init__(
        self,
        workers: Workers,
        rows: Rows,
        truth: NDArray[Any],
        weights: NDArray[np.float64],
        outputs: int,
        mean: NDArray[np.float64],
        factor: NDArray[np.float64],
    ) -> None:
        self._workers, self._rows, self._mean, self._factor = workers, rows.kept(), mean, factor
        self._outputs, self._several = outputs, truth.ndim > 1
        share = np.array([truth[:, k].mean() for k in range(outputs)]) if self._several else None
        if share is None:
            counted = np.bincount(truth, minlength=outputs)
            self._learnt = np.flatnonzero(counted)
            place = np.zeros(outputs, np.int64)
            place[self._learnt] = np.arange(len(self._learnt))
            self._truth: NDArray[Any] = place[truth]
            prior = np.bincount(self._truth, weights, len(self._learnt)) / weights.sum()
            self._start = np.log(prior)
            self._constant = np.full(outputs, np.nan)
            self._weights = weights
        else:
            self._learnt = np.flatnonzero((share > 0) & (share < 1))
            self._truth = truth[:, self._learnt]
            self._weights = weights[:, self._learnt] if weights.ndim > 1 else weights[:, None]
            prior = (self._truth * self._weights).sum(axis=0) / np.broadcast_to(self._weights, self._truth.shape).sum(
                axis=0
            )
            self._start = np.log(prior) - np.log1p(-prior)
            count = len(truth)
            smooth = (share * count + 0.5) / (count + 1)
            self._constant = np.log(smooth) - np.log1p(-smooth)
        self._prior = prior

    def fit(self, found: Directions, c: float, start: Line | None, *, gain: float, steps: int) -> Line:
        """The minimum.

        Args:
            found: The input's main directions.
            c: The inverse strength of the penalty, as scikit-learn's ``C``.
            start: Where to begin, as an earlier call gave it; the classes' shares by default.
            gain: Ends when a step promises less than this share of the loss.
            steps: Ends after so many.

        Returns:
            Weights and bias for the rows less ``mean`` times ``factor``.
        """
        learnt, d = self._learnt, len(self._mean)
        penalty = 1 / (c * len(self._rows))
        curvature = self._prior * (1 - self._prior) if start is None else start.curvature[learnt]
        metric = Metric.of(found, curvature, penalty)
        weights = np.zeros((len(learnt), d)) if start is None else start.weights[learnt]
        bias = self._start if start is None else start.bias[learnt]
        latest = curvature

        def function(point: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
            nonlocal latest
            table = point.reshape(len(learnt), d + 1)
            line = metric.out(table[:, :d])
            loss, slope, slope_bias, latest = self._pass(line, table[:, d] * metric.bias)
            slope += penalty * line
            whole = np.column_stack([metric.out(slope), slope_bias * metric.bias])
            return loss + 0.5 * penalty * float(np.vdot(line, line)), whole.ravel()

        first = np.column_stack([metric.into(weights), bias / metric.bias])
        table = minimise(function, first.ravel(), gain=gain, steps=steps).reshape(len(learnt), d + 1)
        return self._whole(metric.out(table[:, :d]), table[:, d] * metric.bias, latest)

    def _whole(self, weights: NDArray[np.float64], bias: NDArray[np.float64], curvature: NDArray[np.float64]) -> Line:
        """With the classes or labels that there was nothing to learn of."""
        learnt = self._learnt
        all_weights, all_curvature = np.zeros((self._outputs, len(self._mean))), np.zeros(self._outputs)
        all_bias = self._constant.copy()
        all_weights[learnt], all_bias[learnt], all_curvature[learnt] = weights, bias, curvature
        unseen = np.isnan(all_bias)
        if unseen.any():
            all_bias[unseen] = bias.min() - np.log(len(self._rows) + 1)
        return Line(all_weights, all_bias, all_curvature)

    def _pass(
        self, line: NDArray[np.float64], bias: NDArray[np.float64]
    ) -> tuple[float, NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        """The loss, its slopes by weights and bias, and the mean p · (1 − p)."""
        scaled = line * self._factor
        offset = bias - scaled @ self._mean
        across = np.ascontiguousarray(scaled.T)
        count, c = len(self._rows), len(bias)
        step = max(32, min(512, _VALUES // len(self._mean), _LOGITS // c))

        def work(chunk: slice) -> tuple[float, NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
            loss, slope, slope_bias, bend = 0.0, np.zeros_like(scaled), np.zeros(c), np.zeros(c)
            for part in blocks(chunk, step):
                values = self._rows.block(part)
                logits = values @ across
                logits += offset
                gained, chance = self._sigmoid(logits, part) if self._several else self._softmax(logits, part)
                loss += gained
                bend += (chance * (1 - chance)).sum(axis=0)
                self._less_truth(chance, part)
                slope += chance.T @ values
                slope_bias += chance.sum(axis=0)
            return loss, slope, slope_bias, bend

        parts = self._workers.over(count, work)
        losses, slopes, slopes_bias, bends = zip(*parts, strict=True)
        loss = float(sum(losses)) / count
        slope, slope_bias, bend = (np.sum(each, axis=0) / count for each in (slopes, slopes_bias, bends))
        slope -= np.outer(slope_bias, self._mean)
        slope *= self._factor
        return loss, slope, slope_bias, bend

    def _softmax(self, logits: NDArray[np.float64], part: slice) -> tuple[float, NDArray[np.float64]]:
        truth, weights = self._truth[part], self._weights[part]
        top = logits.max(axis=1)
        own = np.take_along_axis(logits, truth[:, None], 1)[:, 0] - top
        logits -= top[:, None]
        np.exp(logits, out=logits)
        total = logits.sum(axis=1)
        logits /= total[:, None]
        return float(weights @ (np.log(total) - own)), logits

    def _sigmoid(self, logits: NDArray[np.float64], part: slice) -> tuple[float, NDArray[np.float64]]:
        truth, weights = self._truth[part], self._weights[part]
        loss = np.logaddexp(0.0, np.where(truth, -logits, logits)) * weights
        return float(loss.sum()), np.exp(-np.logaddexp(0.0, -logits))

    def _less_truth(self, chance: NDArray[np.float64], part: slice) -> None:
        truth, weights = self._truth[part], self._weights[part]
        if self._several:
            chance -= truth
            chance *= weights
        else:
            chance[np.arange(len(truth)), truth] -= 1
            chance *= weights[:, None]
