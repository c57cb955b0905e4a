"""The charts: intervals side by side, a curve, calibration, a histogram, a scatter."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from featstore.records import Estimate
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
    span,
    text,
    tick,
)
from featstore.reports.figures import between, written
from featstore.reports.markup import Markup, element, join, plain

__all__ = ["Bin", "Row", "curve", "histogram", "intervals", "reliability", "scatter", "spark"]

_RIGHT, _TOP, _BOTTOM = WIDTH - 12.0, 26.0, HEIGHT - 46.0


@dataclass(frozen=True)
class Row:
    """One line of ``intervals``: its name, its figure, and whether it is the one that the page is about."""

    name: str
    estimate: Estimate
    own: bool = False


@dataclass(frozen=True)
class Bin:
    """Items of about the same confidence: how many, how sure on average, how many of them right."""

    items: int
    confidence: float
    accuracy: float


def intervals(name: str, title: str, rows: Sequence[Row], *, share: bool) -> Markup:
    """Figures and their intervals on one scale, a line each."""
    ends = [end for row in rows for end in (row.estimate.low, row.estimate.high, row.estimate.value)]
    x = Scale.over([end for end in ends if math.isfinite(end)], 164.0, WIDTH - 62.0)
    if share:
        x = Scale(max(0.0, x.low), min(1.0, x.high), x.start, x.end)
    step = 30.0
    bottom = 8 + step * len(rows)
    upright = [x.at(value) for value in x.ticks(4)]
    drawn = [element("line.grid", {"x1": at, "x2": at, "y1": 4, "y2": bottom}) for at in upright]
    for at, row in enumerate(rows):
        y, kind = 8 + step * (at + 0.5), "" if row.own else "2"
        drawn.append(text(0, y + 4.5, plain(row.name, 22)))
        drawn.append(span(x.at(row.estimate.low), x.at(row.estimate.high), y, f"whisker{kind}"))
        drawn.append(mark(x.at(row.estimate.value), y, 6 if row.own else 4.5, f"dot{kind}"))
        drawn.append(text(WIDTH, y + 4.5, written(row.estimate.value, share=share), "", "end"))
    axis = bottom_axis(x, bottom, [(value, tick(value, x, share=share)) for value in x.ticks(4)])
    words = "; ".join(
        f"{plain(row.name, 40)} {written(row.estimate.value, share=share)} ({between(row.estimate, share=share)})"
        for row in rows
    )
    return chart(name, title, f"{words}.", *drawn, axis, height=bottom + 26)


def curve(
    name: str,
    title: str,
    points: Sequence[tuple[float, float]],
    *,
    across: str,
    up: str,
    band: Sequence[tuple[float, float]] = (),
    log: bool = False,
    share: bool = True,
    across_share: bool = False,
    dots: bool = True,
    at: Sequence[float] = (),
) -> Markup:
    """A line through points, in a band of their intervals where there are any; ``at`` are values to name below it."""
    x = Scale.over([p[0] for p in points], LEFT, _RIGHT - 8, log=log, pad=0.02)
    heights = [p[1] for p in points] + [end for ends in band for end in ends]
    y = Scale.over([h for h in heights if math.isfinite(h)], _BOTTOM, _TOP, pad=0.12)
    if share:
        y = Scale(max(0.0, y.low), min(1.0, y.high), y.start, y.end)
    drawn = []
    if band:
        above = [(x.at(p[0]), y.at(ends[1])) for p, ends in zip(points, band, strict=True)]
        below = [(x.at(p[0]), y.at(ends[0])) for p, ends in zip(points, band, strict=True)]
        drawn.append(path([*above, *reversed(below)], "band", closed=True))
    drawn.append(path([(x.at(a), y.at(b)) for a, b in points], "line"))
    drawn += [mark(x.at(a), y.at(b), 4.5, "dot") for a, b in points] if dots else []
    ends = [points[0], points[-1]]
    words = ", ".join(f"{written(b, share=share)} at {place(a, share=across_share)}" for a, b in ends)
    return chart(
        name,
        title,
        f"{up} over {across}, {len(points)} points: {words}.",
        left_axis(y, _RIGHT, [(value, tick(value, y, share=share)) for value in y.ticks(5)], up),
        bottom_axis(x, _BOTTOM, [(value, place(value, share=across_share)) for value in at or x.ticks(5)], across),
        *drawn,
    )


def reliability(name: str, title: str, after: Sequence[Bin], before: Sequence[Bin]) -> Markup:
    """How often predictions came true against how sure they were; on the diagonal the two are the same."""
    x, y = Scale(0, 1, LEFT, _RIGHT - 8), Scale(0, 1, _BOTTOM, _TOP)
    shares = [(value / 4, f"{25 * value}%") for value in range(5)]
    most = max((b.items for b in (*after, *before)), default=1)
    drawn = [element("line.ideal", {"x1": x.start, "y1": y.start, "x2": x.end, "y2": y.end})]
    drawn += [_circle(x, y, b, most, "hollow") for b in before if b.items]
    drawn.append(path([(x.at(b.confidence), y.at(b.accuracy)) for b in after if b.items], "line"))
    drawn += [_circle(x, y, b, most, "dot") for b in after if b.items]
    words = "; ".join(f"{b.items} at {b.confidence:.0%} sure, {b.accuracy:.0%} right" for b in after if b.items)
    return chart(
        name,
        title,
        f"After calibration: {words}.",
        left_axis(y, _RIGHT, shares, "came true"),
        bottom_axis(x, _BOTTOM, shares, "how sure the head was"),
        *drawn,
    )


def histogram(
    name: str, title: str, edges: Sequence[float], counts: Sequence[tuple[int, int]], across: str, *, share: bool = True
) -> Markup:
    """Numbers of items between edges, each bar of two parts, the first below."""
    x = Scale(edges[0], edges[-1], LEFT, _RIGHT - 8)
    most = max((a + b for a, b in counts), default=0) or 1
    y = Scale(0, most * 1.05, _BOTTOM, _TOP)
    drawn = []
    for at, (first, second) in enumerate(counts):
        left, right = x.at(edges[at]) + 1, x.at(edges[at + 1]) - 1
        for low, high, kind in ((0, first, "bar"), (first, first + second, "worse")):
            if high > low:
                top = y.at(high)
                drawn.append(
                    element(f"rect.{kind}", {"x": left, "y": top, "width": right - left, "height": y.at(low) - top})
                )
    whole = [value for value in y.ticks(4) if value == int(value)]
    total = [sum(pair[part] for pair in counts) for part in (0, 1)]
    parts = f"{total[0]:,} items" if not total[1] else f"{total[0]:,} right and {total[1]:,} wrong"
    peak = max(range(len(counts)), key=lambda i: sum(counts[i]))
    span_ = " to ".join(place(edges[peak + end], share=share) for end in (0, 1))
    return chart(
        name,
        title,
        f"{parts}; most of them between {span_}.",
        left_axis(y, _RIGHT, [(value, f"{value:,.0f}") for value in whole], "items"),
        bottom_axis(x, _BOTTOM, [(value, tick(value, x, share=share)) for value in x.ticks(5)], across),
        *drawn,
    )


def scatter(
    name: str,
    title: str,
    points: Sequence[tuple[float, float]],
    *,
    across: str,
    up: str,
    words: str,
    diagonal: bool,
) -> Markup:
    """A point an item. The line is where truth and prediction are the same, or where nothing is left over."""
    x = Scale.over([p[0] for p in points], LEFT, _RIGHT - 8)
    y = Scale.over([p[1] for p in points] + ([] if diagonal else [0.0]), _BOTTOM, _TOP)
    if diagonal:
        low, high = min(x.low, y.low), max(x.high, y.high)
        x, y = Scale(low, high, x.start, x.end), Scale(low, high, y.start, y.end)
        line = element("line.ideal", {"x1": x.start, "y1": y.start, "x2": x.end, "y2": y.end})
    else:
        line = span(x.start, x.end, y.at(0.0), "ideal")
    # A line of no length with round ends is a dot, in a tenth of the characters; paths of their own overlap visibly.
    parts = [points[at::16] for at in range(16)]
    dots = ["".join(f"M{x.at(a):.1f} {y.at(b):.1f}h0" for a, b in part) for part in parts if part]
    return chart(
        name,
        title,
        words,
        left_axis(y, _RIGHT, [(value, tick(value, y, share=False)) for value in y.ticks(5)], up),
        bottom_axis(x, _BOTTOM, [(value, tick(value, x, share=False)) for value in x.ticks(5)], across),
        line,
        *(element("path.points", {"d": d}) for d in dots),
    )


def spark(value: float) -> Markup:
    """A share as a small bar beside its number."""
    track = element("rect.track", {"width": 56, "height": 7, "rx": 3.5})
    filled = element("rect.bar", {"width": max(56 * min(value, 1.0), 0.0), "height": 7, "rx": 3.5})
    return element("svg.spark", {"width": 56, "height": 7, "aria-hidden": "true"}, join(track, filled))


def _circle(x: Scale, y: Scale, found: Bin, most: int, kind: str) -> Markup:
    return mark(x.at(found.confidence), y.at(found.accuracy), 3 + 4.5 * math.sqrt(found.items / most), kind)
