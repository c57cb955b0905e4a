"""What a report on a regression adds: predictions beside the truth, what is left over, the largest misses."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from featstore.records import HeadCard
from featstore.reports import predictions
from featstore.reports.charts import histogram, scatter
from featstore.reports.figures import count, written
from featstore.reports.gallery import SHOWN, Look
from featstore.reports.looking import Finds
from featstore.reports.markup import Markup, element
from featstore.reports.pieces import figure, section

if TYPE_CHECKING:
    import polars as pl

__all__ = ["numeric"]

_POINTS = 1500
_BARS = 24


def numeric(card: HeadCard, frame: pl.DataFrame) -> tuple[list[Markup], Finds]:
    """Sections of figures, and the items to look at.

    Raises:
        IntegrityError: The predictions lack a column.
    """
    predictions.check(frame, probabilities=False)
    truth, said = (predictions.numbers_of(frame[name]) for name in ("truth", "predicted"))
    known = np.isfinite(truth) & np.isfinite(said)
    test = predictions.on_test(frame) & known
    off = np.where(known, said - truth, 0.0)
    ids, contents = frame["item_id"], frame["content_sha256"]

    def looks(side: NDArray[np.bool_]) -> list[Look]:
        rows = np.flatnonzero(side)
        rows = rows[np.argsort(-np.abs(off[rows]), kind="stable")][:SHOWN]
        return [
            Look(
                str(ids[row]),
                str(contents[row]),
                _number(truth[row]),
                f"head: {_number(said[row])}",
                f"{off[row]:+.4g} off".replace("-", "−"),
            )
            for row in rows.tolist()
        ]

    finds = Finds(
        looks(test),
        None,
        int(test.sum()),
        looks(~test & known),
        None,
        errors_title="Furthest off, test items",
        mistakes_title="Furthest off, training items",
        mistakes_note="Heads that had not seen the item say a number far from its own: the label may be wrong, or the "
        "item unlike the others.",
    )
    return [_numbers(truth[test], said[test])] if test.any() else [], finds


def _numbers(truth: NDArray[np.float64], said: NDArray[np.float64]) -> Markup:
    picked = (
        np.unique(np.linspace(0, len(truth) - 1, _POINTS).astype(np.int64)) if len(truth) > _POINTS else slice(None)
    )
    shown = f"{count(len(truth), 'test item')}" + (f", {_POINTS:,} of them drawn" if len(truth) > _POINTS else "")
    left = said - truth
    half, most = np.quantile(np.abs(left), [0.5, 0.9]).tolist()
    words = f"{shown}. Half are off by less than {_number(half)}, nine in ten by less than {_number(most)}."
    beside, over = "Prediction and truth", "What is left over"
    pairs, rest = _pairs(truth[picked], said[picked]), _pairs(said[picked], left[picked])
    drawn = scatter("scatter", beside, pairs, across="truth", up="prediction", words=words, diagonal=True)
    below = scatter("residuals", over, rest, across="prediction", up="left over", words=words, diagonal=False)
    return section(
        "numbers",
        "How far off?",
        words,
        element(
            "div.pair",
            None,
            figure(beside, "On the dashed line they are the same.", drawn),
            figure(over, "Prediction minus truth. A slope or a funnel says that the head misses something.", below),
            _spread(left),
        ),
    )


def _spread(left: NDArray[np.float64]) -> Markup:
    # The outermost half percent at each end would flatten all the rest; they are counted in the last bars.
    low, high = np.quantile(left, [0.005, 0.995]).tolist()
    edges = np.linspace(low, high if high > low else low + 1, _BARS + 1)
    counts, _ = np.histogram(np.clip(left, edges[0], edges[-1]), edges)
    title = "How it is off"
    bars = [(int(n), 0) for n in counts]
    drawn = histogram("spread", title, edges.tolist(), bars, "prediction minus truth", share=False)
    return figure(title, "The first and last bars hold all beyond them too.", drawn)


def _pairs(a: NDArray[np.float64], b: NDArray[np.float64]) -> list[tuple[float, float]]:
    return list(zip(a.tolist(), b.tolist(), strict=True))


def _number(value: float) -> str:
    return written(float(value), share=False)
