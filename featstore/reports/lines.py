"""A chart of several lines over the same steps, such as what is trained on beside what is only looked at."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from featstore.reports.axes import (
    HEIGHT,
    LEFT,
    WIDTH,
    Scale,
    bottom_axis,
    chart,
    left_axis,
    mark,
    path,
    place,
    text,
    tick,
)
from featstore.reports.figures import signed, written
from featstore.reports.markup import Markup, element, join, plain
from featstore.reports.pieces import key

__all__ = ["Line", "legend", "lines"]

_RIGHT, _TOP, _BOTTOM = WIDTH - 12.0, 26.0, HEIGHT - 46.0
# More dots than these would hide the line between them.
_DOTS = 40


@dataclass(frozen=True)
class Line:
    """One line of ``lines``: its points from left to right, and whether it is the one that the page is about.

    A point whose height is not finite is left out. Points that are not ``joined`` are dots alone.
    """

    name: str
    points: Sequence[tuple[float, float]]
    own: bool = False
    joined: bool = True


def lines(
    name: str,
    title: str,
    drawn: Sequence[Line],
    *,
    across: str,
    up: str,
    share: bool,
    at: tuple[float, str] | None = None,
) -> Markup:
    """Draws lines on one scale: the page's own in full, with dots, the others broken, with hollow ones.

    Args:
        name: Of its own on the page.
        title: What it is.
        drawn: The lines; without a finite point among them the chart is empty.
        across: What the steps are.
        up: What the heights are.
        share: Whether heights are shares, which are written as percentages.
        at: A step to mark by an upright line, and the word on it.
    """
    found = [replace(one, points=[p for p in one.points if math.isfinite(p[1])]) for one in drawn]
    found = [one for one in found if one.points]
    if not found:
        return Markup()
    steps = sorted({p[0] for one in drawn for p in one.points})
    x = Scale.over(steps, LEFT, _RIGHT - 8, pad=0.02)
    y = Scale.over([p[1] for one in found for p in one.points], _BOTTOM, _TOP, pad=0.12)
    if share:
        y = Scale(max(0.0, y.low), min(1.0, y.high), y.start, y.end)
    marked = [value for value in x.ticks(6) if value == int(value) and steps[0] <= value <= steps[-1]]
    return chart(
        name,
        title,
        f"{up} over {across}. " + " ".join(_words(one, share=share) for one in found),
        left_axis(y, _RIGHT, [(value, tick(value, y, share=share)) for value in y.ticks(5)], up),
        bottom_axis(x, _BOTTOM, [(value, _step(value)) for value in marked or steps[:1]], across),
        *([] if at is None else _upright(x, *at)),
        *(_line(one, x, y) for one in sorted(found, key=lambda one: one.own)),
    )


def legend(drawn: Sequence[Line]) -> Markup:
    """Which line is which: a dot as the line has them, and its name."""
    keys = (element("span", None, key("one" if one.own else "hole"), plain(one.name, 60)) for one in drawn)
    return element("span.legend", None, *keys)


def _line(one: Line, x: Scale, y: Scale) -> Markup:
    points = [(x.at(a), y.at(b)) for a, b in one.points]
    few = len(points) <= _DOTS or not one.joined
    dots = [mark(a, b, 4.5, "dot" if one.own else "hollow") for a, b in points] if few else []
    return join(path(points, "line" if one.own else "line2") if one.joined else "", *dots)


def _upright(x: Scale, step: float, word: str) -> list[Markup]:
    place_ = x.at(step)
    left = place_ > (x.start + x.end) / 2
    line = element("line.ideal", {"x1": place_, "x2": place_, "y1": _TOP - 8, "y2": _BOTTOM})
    return [line, text(place_ + (-6 if left else 6), _TOP - 2, word, "tick", "end" if left else None)]


def _step(value: float) -> str:
    return signed(place(value, share=False))


def _words(one: Line, *, share: bool) -> str:
    ends = [one.points[0], one.points[-1]] if len(one.points) > 1 else one.points[:1]
    told = ", ".join(f"{written(b, share=share)} at {_step(a)}" for a, b in ends)
    return f"{plain(one.name, 60)}, {len(one.points)} points: {told}."
