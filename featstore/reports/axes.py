"""The frame of a chart: scales, ticks, the SVG around it with its words for those who cannot see it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from featstore.reports.figures import signed
from featstore.reports.markup import Markup, element, join

__all__ = [
    "HEIGHT",
    "LEFT",
    "WIDTH",
    "Scale",
    "bottom_axis",
    "chart",
    "left_axis",
    "mark",
    "path",
    "place",
    "span",
    "text",
    "tick",
]

WIDTH = 440
"""Units of a chart's width: on a phone they shrink to 4/5, so that 12 stay readable."""

HEIGHT = 300

LEFT = 54.0
"""Where a chart with labels at its left side begins."""


@dataclass(frozen=True)
class Scale:
    """Where values stand: ``low`` at ``start``, ``high`` at ``end``.

    Attributes:
        low: The least value.
        high: The greatest.
        start: Its position in the chart, in units.
        end: The same of the greatest.
        log: Whether equal factors, not equal steps, are equally far.
    """

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    @classmethod
    def over(cls, values: Sequence[float], start: float, end: float, *, log: bool = False, pad: float = 0.04) -> Scale:
        """A scale on which all of some finite values have room; one value alone stands in the middle."""
        low, high = min(values, default=0.0), max(values, default=1.0)
        if log:
            return cls(low / 1.1, high * 1.1, start, end, True)
        room = (high - low) * pad or abs(high) * 0.1 or 1.0
        return cls(low - room, high + room, start, end)

    def at(self, value: float) -> float:
        """The position of a value; one beyond the ends stands at the end."""
        kept = min(max(value, self.low), self.high)
        low, high, kept = map(math.log, (self.low, self.high, kept)) if self.log else (self.low, self.high, kept)
        return self.start + (self.end - self.start) * ((kept - low) / ((high - low) or 1.0))

    def ticks(self, about: int = 5) -> list[float]:
        """Round values between the ends."""
        if self.log:
            powers = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
            for factors in ((1, 2, 5), (1, 3), (1,)):
                found = [f * 10.0**p for p in powers for f in factors if self.low <= f * 10.0**p <= self.high]
                if len(found) <= about + 1:
                    return found
            return found[:: 1 + len(found) // about]
        rough = (self.high - self.low) / about
        power = 10.0 ** math.floor(math.log10(rough))
        step = next(f * power for f in (1, 2, 5, 10) if f * power >= rough * 0.7)
        first, last = math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9)
        return [number * step for number in range(first, last + 1)]


def chart(name: str, title: str, description: str, *content: str, height: float = HEIGHT) -> Markup:
    """An SVG that fills its column, with a title and a description.

    Args:
        name: Of its own on the page.
        title: What it is.
        description: What it shows, in words and numbers.
        *content: Its parts, in units of ``WIDTH`` and ``height``.
        height: Its height.
    """
    about = {"role": "img", "aria-labelledby": f"{name}-title {name}-words", "viewBox": f"0 0 {WIDTH} {height:g}"}
    return element(
        "svg.chart",
        about,
        element("title", {"id": f"{name}-title"}, title),
        element("desc", {"id": f"{name}-words"}, description),
        *content,
    )


def left_axis(scale: Scale, right: float, labels: Sequence[tuple[float, str]], name: str = "") -> Markup:
    """Lines across from labelled values, ``labels`` being values and their words; ``name`` stands above them."""
    lines = [element("line.grid", {"x1": LEFT, "x2": right, "y1": y, "y2": y}) for y in _positions(scale, labels)]
    words = [
        text(LEFT - 7, y + 4.5, word, "tick", "end")
        for y, (_, word) in zip(_positions(scale, labels), labels, strict=True)
    ]
    return join(*lines, *words, *([text(0, 14, name, "tick")] if name else []))


def bottom_axis(scale: Scale, bottom: float, labels: Sequence[tuple[float, str]], name: str = "") -> Markup:
    """Labelled values below a chart, and below them what they are."""
    marks = []
    for x, (_, word) in zip(_positions(scale, labels), labels, strict=True):
        marks.append(element("line.grid", {"x1": x, "x2": x, "y1": bottom, "y2": bottom + 5}))
        marks.append(text(x, bottom + 19, word, "tick", "middle"))
    base = element("line.grid", {"x1": scale.start, "x2": scale.end, "y1": bottom, "y2": bottom})
    middle = (scale.start + scale.end) / 2
    return join(base, *marks, *([text(middle, bottom + 38, name, "tick", "middle")] if name else []))


def text(x: float, y: float, words: str, kind: str = "", anchor: str | None = None) -> Markup:
    """Words at a place."""
    return element("text", {"x": x, "y": y, "text-anchor": anchor, "class": kind or None}, words)


def mark(x: float, y: float, radius: float, kind: str) -> Markup:
    """A dot."""
    return element("circle", {"cx": x, "cy": y, "r": radius, "class": kind})


def span(x1: float, x2: float, y: float, kind: str) -> Markup:
    """A line from left to right."""
    return element("line", {"x1": x1, "x2": x2, "y1": y, "y2": y, "class": kind})


def path(points: Sequence[tuple[float, float]], kind: str, *, closed: bool = False) -> Markup:
    """A line through points, or the area that they enclose."""
    steps = "L".join(f"{x:.1f} {y:.1f}" for x, y in points)
    return element("path", {"d": f"M{steps}{'Z' if closed else ''}", "class": kind}) if points else Markup()


def tick(value: float, scale: Scale, *, share: bool) -> str:
    """A tick's words, with as many places as the steps between ticks need."""
    width = (scale.high - scale.low) * (100 if share else 1)
    places = max(0, min(6, 1 - math.floor(math.log10(width / 2)))) if width > 0 else 0
    shown = f"{(100 if share else 1) * value:,.{places}f}"
    shown = shown.rstrip("0").rstrip(".") if "." in shown else shown
    return signed(f"{shown or '0'}%" if share else shown or "0")


def place(value: float, *, share: bool) -> str:
    """A value on the lower axis, in words."""
    return f"{value:.0%}" if share else f"{value:,.0f}" if abs(value) >= 100 or value == int(value) else f"{value:.3g}"


def _positions(scale: Scale, labels: Sequence[tuple[float, str]]) -> list[float]:
    return [scale.at(value) for value, _ in labels]
