"""A forest plot: differences and their intervals around no difference."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from featstore.records import Estimate
from featstore.reports.axes import WIDTH, Scale, bottom_axis, chart, mark, span, text
from featstore.reports.figures import between, written
from featstore.reports.markup import Markup, element, plain

__all__ = ["Row", "forest"]

_LEFT, _RIGHT = 164.0, WIDTH - 62.0
_STEP, _TOP = 30.0, 22.0


@dataclass(frozen=True)
class Row:
    """One line: what differs, by how much."""

    name: str
    difference: Estimate


def forest(name: str, title: str, rows: Sequence[Row], *, least: float | None = None) -> Markup:
    """Draws new minus old, a line each; what is significantly worse stands out.

    Args:
        name: Of its own on the page.
        title: What it is.
        rows: The differences; those that are not finite are left out.
        least: The least difference that is allowed, drawn as a line of its own.
    """
    rows = [row for row in rows if all(map(math.isfinite, _ends(row.difference)))]
    if not rows:
        return Markup()
    most = max(0.01, abs(least or 0.0), *(abs(end) for row in rows for end in _ends(row.difference))) * 1.08
    x = Scale(-most, most, _LEFT, _RIGHT)
    bottom = _TOP + _STEP * len(rows)
    zero = x.at(0.0)
    drawn = [element("line.grid", {"x1": at, "x2": at, "y1": _TOP, "y2": bottom}) for at in map(x.at, x.ticks(4))]
    drawn.append(element("line.ideal", {"x1": zero, "x2": zero, "y1": _TOP - 6, "y2": bottom}))
    if least is not None:
        drawn.append(element("line.limit", {"x1": x.at(least), "x2": x.at(least), "y1": _TOP, "y2": bottom}))
    drawn += [text(zero - 8, 12, "← old better", "tick", "end"), text(zero + 8, 12, "new better →", "tick")]
    for at, row in enumerate(rows):
        y, found = _TOP + _STEP * (at + 0.5), row.difference
        sure = found.high < 0 or found.low > 0
        drawn.append(text(0, y + 4.5, plain(row.name, 24)))
        drawn.append(span(x.at(found.low), x.at(found.high), y, "whisker" if sure else "whisker2"))
        drawn.append(mark(x.at(found.value), y, 6, "worse" if found.high < 0 else "dot" if sure else "dot2"))
        drawn.append(text(WIDTH, y + 4.5, _signed(found.value), "", "end"))
    ticks = [(value, f"{value:+.3g}".replace("-", "−") if abs(value) > 1e-9 else "0") for value in x.ticks(4)]
    words = "; ".join(f"{plain(row.name, 60)} {_signed(row.difference.value)} ({_interval(row)})" for row in rows)
    allowed = "" if least is None else f" At least {_signed(least)} is allowed."
    axis = bottom_axis(x, bottom, ticks)
    return chart(name, title, f"New minus old: {words}.{allowed}", *drawn, axis, height=bottom + 26)


def _ends(found: Estimate) -> tuple[float, float, float]:
    return found.value, found.low, found.high


def _signed(value: float) -> str:
    shown = written(value, share=False)
    return f"+{shown}" if value > 0 and shown.strip("0.") else shown


def _interval(row: Row) -> str:
    return between(row.difference, share=False)
