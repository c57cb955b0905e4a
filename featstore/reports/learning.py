"""What more labels would bring: the learning curve, its advice, and heads of a few items a class."""

from __future__ import annotations

from featstore.records import HeadCard
from featstore.reports.charts import curve
from featstore.reports.figures import between, count, metric, primary, written
from featstore.reports.markup import Markup, element, plain
from featstore.reports.pieces import Cell, Column, figure, section, table, words

__all__ = ["learning"]

# More numbers of items than these would run into each other below the curve.
_MARKED = 7


def learning(card: HeadCard) -> Markup:
    """The section; empty where there is neither a curve nor advice."""
    if not (card.learning_curve or card.advice or card.shots):
        return Markup()
    return section(
        "learning",
        "What would help?",
        "",
        element("div.pair", None, _curve(card), element("div", None, _advice(card), _shots(card))),
    )


def _advice(card: HeadCard) -> Markup:
    if not card.advice:
        return Markup()
    return element("div", None, element("h3", None, "Advice"), words((plain(line, 400), "") for line in card.advice))


def _curve(card: HeadCard) -> Markup:
    points = [point for point in card.learning_curve if point.items > 0 and point.score == point.score]
    if len(points) < 2:
        return Markup()
    name = primary(card.task, card.metrics)
    known = metric(name or "")
    title = "Learning curve"
    note = (
        "The same kind of head fitted on fewer training items, scored on training items outside its fit. "
        "The band is the 95% interval."
    )
    drawn = curve(
        "curve",
        title,
        [(float(point.items), point.score) for point in points],
        across="training items, on a scale of factors",
        up=known.name.lower() if len(known.name) > 2 else known.name,
        band=[(point.low, point.high) for point in points],
        log=True,
        at=[float(point.items) for point in points] if len(points) <= _MARKED else (),
        share=known.share,
    )
    return figure(title, note, drawn)


def _shots(card: HeadCard) -> Markup:
    if not card.shots:
        return Markup()
    rows = [
        (
            count(shot.shots, "item"),
            shot.kind,
            Cell(written(shot.accuracy.value, share=True), shot.accuracy.value),
            between(shot.accuracy, share=True),
            Cell(f"{shot.tries}", shot.tries),
        )
        for shot in card.shots
    ]
    return table(
        "With a few items of each class",
        "Accuracy on the test items, over several draws.",
        [Column("of each class"), Column("kind"), Column("accuracy", True), Column("spread"), Column("draws", True)],
        rows,
    )
