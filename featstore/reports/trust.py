"""Whether probabilities mean what they say, and what abstaining gains."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from featstore.records import HeadCard
from featstore.reports.charts import Bin, curve, histogram, reliability
from featstore.reports.figures import count, written
from featstore.reports.markup import Markup, element, join
from featstore.reports.outcomes import Level, Outcomes, bins, calibration_error
from featstore.reports.pieces import Cell, Column, figure, key, section, table

__all__ = ["BARS", "barred", "calibration", "sureness", "trust"]

BARS = 20
"""Of the histogram of probabilities."""

_STEPS = 40
# Below so many answers their share of right ones says little.
_LEAST = 10


def trust(card: HeadCard, found: Outcomes) -> Markup:
    """The section of a classification."""
    test = found.test
    sure, right = found.confidence[test], found.right[test]
    intro = (
        "A head that says 80% should be right 8 times in 10. Where it is not sure, it can leave the item to a person."
    )
    if not len(sure):
        return section("trust", "Can its probabilities be trusted?", "There are no test items to tell.")
    return section(
        "trust",
        "Can its probabilities be trusted?",
        intro,
        element(
            "div.pair",
            None,
            calibration(bins(sure, right), bins(found.before[test], right), card.settings.get("temperature", 1.0)),
            _confidence(sure, right),
            _surest(sure, right),
            _levels(card, found.levels),
        ),
    )


def calibration(after: list[Bin], before: list[Bin], temperature: float) -> Markup:
    """The reliability diagram, and its calibration error in words."""
    words = [written(calibration_error(side), share=True) for side in (before, after)]
    title = "Reliability"
    note = join(
        key("one"),
        "after and ",
        key("hole"),
        f"before calibration (temperature {temperature:.3g}). On the dashed line the head is right as often as it "
        f"says; below it, it is too sure. Calibration error {words[0]} before, {words[1]} after.",
    )
    return figure(title, note, reliability("reliability", title, after, before))


def _confidence(sure: NDArray[np.float64], right: NDArray[np.bool_]) -> Markup:
    good, bad = (np.bincount(barred(sure[mask]), minlength=BARS) for mask in (right, ~right))
    return sureness(good, bad, "to the left")


def barred(sure: NDArray[np.float64]) -> NDArray[np.int64]:
    """The bar of a histogram that each probability belongs to."""
    return np.clip((sure * BARS).astype(np.int64), 0, BARS - 1)


def sureness(good: NDArray[np.int64], bad: NDArray[np.int64], where: str) -> Markup:
    """How sure the head was: right and wrong ones by probability, in ``BARS`` bars; ``where`` the wrong should be."""
    title = "How sure it is"
    note = join(key("one"), "right, ", key("bad"), f"wrong. Wrong ones should stand {where}.")
    counts = list(zip(good.tolist(), bad.tolist(), strict=True))
    drawn = histogram("sureness", title, np.linspace(0, 1, BARS + 1).tolist(), counts, "probability it gives")
    return figure(title, note, drawn)


def _surest(sure: NDArray[np.float64], right: NDArray[np.bool_]) -> Markup:
    if len(sure) < 2 * _LEAST:
        return Markup()
    order = np.argsort(-sure, kind="stable")
    held = np.cumsum(right[order]) / np.arange(1, len(order) + 1)
    counts = np.unique(np.linspace(_LEAST, len(order), _STEPS).astype(int))
    points = [(n / len(order), float(held[n - 1])) for n in counts.tolist()]
    title = "If it answers only the surest"
    note = "Accuracy of its answers when it leaves the rest to a person."
    drawn = curve("surest", title, points, across="share answered", up="accuracy", across_share=True, dots=False)
    return figure(title, note, drawn)


def _levels(card: HeadCard, levels: tuple[Level, ...]) -> Markup:
    if card.conformal is None or not levels:
        return Markup()
    rows = [
        (
            f"{level.promised:.0%}",
            Cell(written(level.covered, share=True), level.covered),
            Cell(f"{level.size:.2f}", level.size),
            Cell(written(level.answered, share=True), level.answered),
            Cell(written(level.right, share=True), level.right),
        )
        for level in levels
    ]
    return table(
        "Sets of classes that hold the true one",
        f"Split conformal prediction, from {count(card.conformal.n, 'item')} outside the fit. Where the set is not one "
        "class, the head abstains.",
        [
            Column("promised"),
            Column("covered", True),
            Column("classes", True),
            Column("answered", True),
            Column("answers right", True),
        ],
        rows,
    )
