"""How each item of a classification came out: how sure the head was, of what, and whether that was right."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from featstore.records import HeadCard
from featstore.reports import predictions
from featstore.reports.charts import Bin
from featstore.reports.mistakes import Thresholds, suggested

if TYPE_CHECKING:
    import polars as pl

__all__ = ["BINS", "Level", "Outcomes", "bins", "calibration_error", "uncalibrated"]

BINS = 15
"""Of the calibration error: as many, and as wide, as Guo et al., On Calibration of Modern Neural Networks (2017)."""


@dataclass(frozen=True)
class Level:
    """What sets of classes of one promised coverage do on the test items.

    Attributes:
        promised: The share of sets that are to hold the true class.
        covered: The share that do.
        answered: The share that is a single class, so that the head answers.
        right: The share of those answers that are right; NaN where there is none.
        size: The mean number of classes in a set.
    """

    promised: float
    covered: float
    answered: float
    right: float
    size: float


@dataclass(frozen=True, eq=False)
class Outcomes:
    """A row an item; all arrays are (n,).

    Attributes:
        test: Whether it is a test item.
        truth: int64, the class of its label; −1 for one that the head does not know.
        predicted: int64, the class that the head says (out of fold for a training item).
        confidence: float64, the probability of ``predicted``.
        before: The same without the temperature.
        suggested: int64, the class that it likely is; −1 where none is likely.
        margin: float64, lowest where its label is least believable.
        levels: Sets of classes, on the test items.
        sure: Whether probabilities are kept; without them all that follows from them is 0, −1 or empty.
    """

    test: NDArray[np.bool_]
    truth: NDArray[np.int64]
    predicted: NDArray[np.int64]
    confidence: NDArray[np.float64]
    before: NDArray[np.float64]
    suggested: NDArray[np.int64]
    margin: NDArray[np.float64]
    levels: tuple[Level, ...]
    sure: bool

    @property
    def right(self) -> NDArray[np.bool_]:
        """Whether the prediction is the label."""
        return np.asarray(self.truth == self.predicted, np.bool_)

    @property
    def mistaken(self) -> NDArray[np.int64]:
        """The rows whose labels are likely wrong, the least believable first."""
        rows = np.flatnonzero((self.suggested >= 0) & (self.suggested != self.truth) & (self.margin < 0))
        return np.asarray(rows[np.argsort(self.margin[rows], kind="stable")], np.int64)

    @classmethod
    def of(cls, card: HeadCard, frame: pl.DataFrame) -> Outcomes:
        """Gathers them, in two passes over the probabilities.

        Raises:
            IntegrityError: The predictions lack something, or do not fit the card's classes.
        """
        predictions.check(frame, probabilities=True)
        n, c = len(frame), len(card.classes)
        test = predictions.on_test(frame)
        truth = predictions.classes_of(frame["truth"], card.classes)
        said = predictions.classes_of(frame["predicted"], card.classes)
        confidence, before, margin = np.zeros(n), np.zeros(n), np.zeros(n)
        likely = np.full(n, -1, np.int64)
        if not predictions.kept(frame):
            return cls(test, truth, said, confidence, before, likely, margin, (), sure=False)
        thresholds = Thresholds(c)
        for rows, found in predictions.blocks(frame, c):
            thresholds.add(found, truth[rows])
        sets = _Sets(card)
        for rows, found in predictions.blocks(frame, c):
            at = np.arange(len(found))
            confidence[rows] = found[at, np.maximum(said[rows], 0)]
            plain = uncalibrated(found, card.settings.get("temperature", 1.0))
            before[rows] = plain[at, np.maximum(said[rows], 0)]
            likely[rows], margin[rows] = suggested(found, truth[rows], thresholds.values)
            sets.add(found[test[rows]], truth[rows][test[rows]])
        return cls(test, truth, said, confidence, before, likely, margin, sets.levels, sure=True)


class _Sets:
    """Counts, block by block, what sets of classes of some coverages do."""

    _SHOWN = (0.8, 0.9, 0.95)

    def __init__(self, card: HeadCard) -> None:
        known = card.conformal
        pairs = list(zip(known.levels, known.scores, strict=True)) if known is not None else []
        self._bounds = {want: bound for want in self._SHOWN for level, bound in pairs if abs(level - want) < 1e-9}
        self._sums = {level: np.zeros(4) for level in self._bounds}
        self._items = 0

    def add(self, found: NDArray[np.float64], truth: NDArray[np.int64]) -> None:
        self._items += len(truth)
        for level, bound in self._bounds.items():
            held = 1.0 - found <= bound
            sizes = held.sum(axis=1)
            holds = (truth >= 0) & held[np.arange(len(truth)), np.maximum(truth, 0)]
            single = sizes == 1
            self._sums[level] += (holds.sum(), single.sum(), (single & holds).sum(), sizes.sum())

    @property
    def levels(self) -> tuple[Level, ...]:
        return tuple(
            Level(level, holds / self._items, single / self._items, right / single if single else np.nan, size)
            for level, (holds, single, right, total) in sorted(self._sums.items())
            if self._items
            for size in [total / self._items]
        )


def uncalibrated(probabilities: NDArray[np.float64], temperature: float) -> NDArray[np.float64]:
    """What (n, c) probabilities were before the logits were divided by the temperature."""
    odds = np.log(np.maximum(probabilities, 1e-300)) * temperature
    odds = np.exp(odds - odds.max(axis=1, keepdims=True))
    return np.asarray(odds / odds.sum(axis=1, keepdims=True), np.float64)


def bins(confidence: NDArray[np.float64], right: NDArray[np.bool_]) -> list[Bin]:
    """Items by confidence, in ``BINS`` equally wide bins; empty ones are left out."""
    at = np.clip(np.ceil(confidence * BINS).astype(np.int64) - 1, 0, BINS - 1)
    items = np.bincount(at, minlength=BINS)
    sure = np.bincount(at, confidence, BINS)
    held = np.bincount(at, right.astype(np.float64), BINS)
    return [Bin(int(n), float(s / n), float(h / n)) for n, s, h in zip(items, sure, held, strict=True) if n]


def calibration_error(found: Sequence[Bin]) -> float:
    """The mean distance between how sure and how right, over all items; NaN where there are none."""
    total = sum(b.items for b in found)
    return sum(b.items * abs(b.accuracy - b.confidence) for b in found) / total if total else float("nan")
