"""What a report on a multi-label head adds: label by label, calibration over all decisions, errors, mistakes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from featstore.records import HeadCard
from featstore.reports import predictions
from featstore.reports.charts import Bin
from featstore.reports.classes import per_class
from featstore.reports.gallery import SHOWN, Look
from featstore.reports.looking import Finds
from featstore.reports.markup import Markup, element
from featstore.reports.outcomes import BINS
from featstore.reports.pieces import section
from featstore.reports.trust import BARS, barred, calibration, sureness

if TYPE_CHECKING:
    import polars as pl

__all__ = ["several"]


def several(card: HeadCard, frame: pl.DataFrame) -> tuple[list[Markup], Finds]:
    """Sections of figures, and the items to look at.

    Raises:
        IntegrityError: The predictions do not fit the card.
    """
    predictions.check(frame, probabilities=True)
    test = predictions.on_test(frame)
    truth = predictions.labels_of(frame["truth"], card.classes)
    said = predictions.labels_of(frame["predicted"], card.classes)
    temperature = card.settings.get("temperature", 1.0)
    off = (said != truth) & test[:, None]
    ids, contents = frame["item_id"], frame["content_sha256"]

    def look(score: float | None, row: int, label: int) -> Look:
        name = card.classes[label]
        mine, heads = (name, f"head: not {name}") if truth[row, label] else (f"not {name}", f"head: {name}")
        return Look(str(ids[row]), str(contents[row]), mine, heads, "" if score is None else f"{score:.1%} sure")

    sections = [
        section(
            "classes",
            "Label by label",
            "On the test items. Training and test: items that carry the label. The threshold is the probability from "
            "which on it is given, chosen out of fold.",
            per_class(card.classes_figures, thing="label"),
        )
    ]
    wrong, decided = int(off.sum()), int(test.sum()) * len(card.classes)
    if not predictions.kept(frame):
        first = [look(None, row, label) for row, label in np.argwhere(off)[:SHOWN].tolist()]
        return sections, Finds(first, wrong, decided, [], 0, "Wrong", unsure=True)
    found = _Decisions.of(frame, truth, off, test, temperature)
    if test.any():
        reliable = calibration(found.after.bins, found.before.bins, temperature)
        drawn = element(
            "div.pair", None, reliable, sureness(found.sure[0], found.sure[1], "in the middle, near the thresholds")
        )
        sections.append(
            section("trust", "Can its probabilities be trusted?", "All decisions on a label of a test item.", drawn)
        )
    errors, mistakes = ([look(*one) for one in best.best] for best in (found.errors, found.mistakes))
    return sections, Finds(errors, wrong, decided, mistakes, found.mistaken)


@dataclass
class _Decisions:
    """What block after block of probabilities adds up to."""

    after: _Bins
    before: _Bins
    errors: _Best
    mistakes: _Best
    sure: NDArray[np.int64]
    mistaken: int = 0

    @classmethod
    def of(
        cls,
        frame: pl.DataFrame,
        truth: NDArray[np.bool_],
        off: NDArray[np.bool_],
        test: NDArray[np.bool_],
        temperature: float,
    ) -> _Decisions:
        made = cls(_Bins(), _Bins(), _Best(), _Best(), np.zeros((2, BARS), np.int64))
        has, lacks = _thresholds(frame, truth)
        for rows, found in predictions.blocks(frame, truth.shape[1]):
            given, side = truth[rows], test[rows]
            made.after.add(found[side], given[side])
            made.before.add(_uncalibrated(found[side], temperature), given[side])
            for at, mask in enumerate((~off[rows] & side[:, None], off[rows])):
                made.sure[at] += np.bincount(barred(found[mask]), minlength=BARS)
            made.errors.add(rows.start, off[rows], np.abs(given - found))
            doubted = np.where(given, (1 - found >= lacks) & (found < has), (found >= has) & (1 - found < lacks))
            doubted &= np.where(given, found < 0.5, found > 0.5)
            made.mistaken += int(doubted.sum())
            made.mistakes.add(rows.start, doubted, np.abs(given - found))
        return made


def _thresholds(frame: pl.DataFrame, truth: NDArray[np.bool_]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """How sure heads are, on average, that a label is there where it is, and that it is not where it is not."""
    c = truth.shape[1]
    there, gone = np.zeros(c), np.zeros(c)
    for rows, found in predictions.blocks(frame, c):
        there += (found * truth[rows]).sum(axis=0)
        gone += ((1 - found) * ~truth[rows]).sum(axis=0)
    items = truth.sum(axis=0)
    others = len(truth) - items
    has = np.where(items > 0, there / np.maximum(items, 1), np.inf)
    return has, np.where(others > 0, gone / np.maximum(others, 1), np.inf)


@dataclass
class _Bins:
    """Decisions by probability, summed up block by block."""

    sums: NDArray[np.float64] = field(default_factory=lambda: np.zeros((3, BINS)))

    def add(self, found: NDArray[np.float64], truth: NDArray[np.bool_]) -> None:
        flat, true = found.ravel(), truth.ravel().astype(np.float64)
        at = np.clip(np.ceil(flat * BINS).astype(np.int64) - 1, 0, BINS - 1)
        self.sums += [np.bincount(at, weights, BINS) for weights in (np.ones(len(flat)), flat, true)]

    @property
    def bins(self) -> list[Bin]:
        return [Bin(int(n), float(s / n), float(t / n)) for n, s, t in self.sums.T if n]


@dataclass
class _Best:
    """The ``SHOWN`` decisions of the highest scores: score, row, label."""

    best: list[tuple[float, int, int]] = field(default_factory=list)

    def add(self, start: int, wanted: NDArray[np.bool_], scores: NDArray[np.float64]) -> None:
        flat = np.flatnonzero(wanted)
        order = flat[np.argsort(-scores.ravel()[flat], kind="stable")][:SHOWN]
        rows, labels = np.unravel_index(order, wanted.shape)
        new = zip(scores.ravel()[order].tolist(), (rows + start).tolist(), labels.tolist(), strict=True)
        self.best = sorted([*self.best, *new], key=lambda found: -found[0])[:SHOWN]


def _uncalibrated(found: NDArray[np.float64], temperature: float) -> NDArray[np.float64]:
    kept = np.clip(found, 1e-12, 1 - 1e-12)
    return np.asarray(1 / (1 + np.exp(-temperature * (np.log(kept) - np.log1p(-kept)))), np.float64)
