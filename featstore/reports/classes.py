"""How each class fares, and which ones are taken for each other."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from featstore.records import ClassFigures, HeadCard
from featstore.reports.charts import spark
from featstore.reports.figures import count
from featstore.reports.markup import Markup, element, join
from featstore.reports.outcomes import Outcomes
from featstore.reports.pieces import Cell, Column, captioned, item, section, table
from featstore.reports.style import SHADES

__all__ = ["classes", "per_class"]

_ALL = 60
"""With more classes than this the table shows the worst ``_WORST``."""

_WORST = 30
_MATRIX = 20
"""With more classes than this the pairs most confused are listed, in place of the matrix."""

_PAIRS = 30
# Beside a small matrix there is room for a few pairs.
_SMALL, _FEW = 8, 8
# Columns that are many, or have long names, are named upright.
_LONG = 9


class _Confusion(NamedTuple):
    """``items`` test items of class ``given`` were taken for ``said``."""

    given: int
    said: int
    items: int


def classes(card: HeadCard, found: Outcomes) -> Markup:
    """The section of a classification."""
    known = found.test & (found.truth >= 0) & (found.predicted >= 0)
    pairs = _confusions(found.truth[known], found.predicted[known], len(card.classes))
    wrong = sorted((p for p in pairs if p.given != p.said), key=lambda p: (-p.items, p.given, p.said))
    matrix = _matrix(card, pairs) if len(card.classes) <= _MATRIX else Markup()
    listed = Markup()
    if len(card.classes) > _MATRIX:
        listed = _pairs(card, wrong[:_PAIRS])
    elif 2 < len(card.classes) <= _SMALL and wrong:
        matrix, listed = element("div.pair", None, matrix, _pairs(card, wrong[:_FEW])), Markup()
    return section(
        "classes",
        "Class by class",
        "On the test items. Recall: the share of a class's items that were found. Precision: the share of items given "
        "to a class that belong there.",
        per_class(card.classes_figures, {card.classes[p.given]: card.classes[p.said] for p in reversed(wrong)}),
        matrix,
        listed,
    )


def per_class(
    figures: Sequence[ClassFigures], taken_for: dict[str, str] | None = None, *, thing: str = "class"
) -> Markup:
    """A sortable table of classes.

    Args:
        figures: A class each.
        taken_for: The class that each is most often taken for; None leaves the column out.
        thing: What one is called.
    """
    shown = sorted(figures, key=lambda f: (f.f1 is None, f.f1 if f.f1 is not None else 0.0, f.label))
    cut = len(shown) > _ALL
    shown = shown[:_WORST] if cut else list(figures)
    bounds = any(f.threshold is not None for f in figures)
    columns = [
        Column(thing, up=True),
        Column("training", True),
        Column("test", True),
        Column("precision", True, True),
        Column("recall", True, True),
        Column("F1", True, True),
        *([Column("threshold", True)] if bounds else []),
        *([Column("most often taken for", up=True)] if taken_for is not None else []),
    ]
    rows = []
    for f in shown:
        row: list[str | Cell] = [item(f.label), *(Cell(f"{n:,}", n) for n in (f.n_train, f.n_test))]
        row += [_share(value) for value in (f.precision, f.recall)]
        row.append(_share(f.f1, bar=True))
        if bounds:
            row.append(Cell("–" if f.threshold is None else f"{f.threshold:.2f}", f.threshold))
        if taken_for is not None:
            row.append(item(taken_for[f.label]) if f.label in taken_for else "")
        rows.append(row)
    note = f"The worst {_WORST} of {count(len(figures), thing)}; the card lists all." if cut else ""
    many = "classes" if thing == "class" else f"{thing}s"
    return table(f"The worst {many}" if cut else many.capitalize(), note, columns, rows, sortable=True)


def _share(value: float | None, *, bar: bool = False) -> Cell:
    if value is None or not math.isfinite(value):
        return Cell("–")
    return Cell(join(f"{value:.1%}", spark(value)) if bar else f"{value:.1%}", value)


def _confusions(truth: NDArray[np.int64], said: NDArray[np.int64], classes: int) -> list[_Confusion]:
    """Pairs of classes that occur; never an array of classes × classes."""
    cells, counts = np.unique(truth * classes + said, return_counts=True)
    given, taken = cells // max(classes, 1), cells % max(classes, 1)
    return [_Confusion(*map(int, cell)) for cell in zip(given, taken, counts, strict=True)]


def _matrix(card: HeadCard, pairs: Sequence[_Confusion]) -> Markup:
    items = np.zeros((len(card.classes), len(card.classes)), np.int64)
    for pair in pairs:
        items[pair.given, pair.said] = pair.items
    names = [item(name, 24) for name in card.classes]
    corner = element("td.corner", None, "")
    heads = [element("th", {"scope": "col"}, name) for name in names]
    body = [
        element(
            "tr",
            None,
            element("th", {"scope": "row"}, names[row]),
            *(_cell(items[row], row, at) for at in range(len(names))),
        )
        for row in range(len(names))
    ]
    note = "Rows: what items are labelled. Columns: what the head says. Shades: the share of the row."
    long = len(names) > _SMALL or max(map(len, card.classes)) > _LONG
    made = element(
        "table.matrix.upright" if long else "table.matrix",
        None,
        captioned("Confusion matrix", note),
        element("thead", None, element("tr", None, corner, *heads)),
        element("tbody", None, *body),
    )
    return element("div.scroll", {"tabindex": 0, "role": "region", "aria-label": "Confusion matrix"}, made)


def _cell(row: NDArray[np.int64], at: int, column: int) -> Markup:
    items, total = int(row[column]), int(row.sum())
    if not items:
        return element("td.muted", None, "·")
    step = min(SHADES, math.ceil(items / total * SHADES))
    kind = "right" if at == column else "wrong"
    strong = ".strong" if step == SHADES else ""
    return element(f"td.{kind}{step}{strong}", {"title": f"{items / total:.1%} of {total:,}"}, f"{items:,}")


def _pairs(card: HeadCard, wrong: Sequence[_Confusion]) -> Markup:
    sizes = {f.label: f.n_test for f in card.classes_figures}
    rows: list[tuple[str | Cell, ...]] = []
    for pair in wrong:
        given, said = card.classes[pair.given], card.classes[pair.said]
        of = sizes.get(given, 0)
        share = Cell(f"{pair.items / of:.1%}", pair.items / of) if of else Cell("–")
        rows.append((item(given), item(said), Cell(f"{pair.items:,}", pair.items), share))
    return table(
        "Most confused",
        "What test items are most often wrong about.",
        [
            Column("labelled", up=True),
            Column("taken for", up=True),
            Column("items", True),
            Column("of class", True),
        ],
        rows,
        sortable=True,
    )
