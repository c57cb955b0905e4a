"""What sections are made of: headings, tables that scroll and sort, lists of facts."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from featstore.reports.markup import Markup, element, join, plain

__all__ = ["Cell", "Column", "captioned", "facts", "figure", "item", "key", "section", "table", "words"]


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Attributes:
        name: Its heading.
        number: Whether it holds numbers, which stand to the right.
        up: Whether the first click sorts the least on top.
    """

    name: str
    number: bool = False
    up: bool = False


@dataclass(frozen=True)
class Cell:
    """What a table's cell shows, and the number that it is sorted by (None comes last)."""

    shown: str
    value: float | None = None


def section(name: str, title: str, intro: str, *content: str) -> Markup:
    """A section of the page; ``name`` is what links lead to."""
    heading = element("h2", {"id": f"{name}-heading"}, title)
    opening = element("p.muted", None, intro) if intro else ""
    return element("section", {"id": name, "aria-labelledby": f"{name}-heading"}, heading, opening, *content)


def figure(title: str, note: str, *content: str) -> Markup:
    """A chart under its title and a line on how to read it."""
    return element("figure", None, element("figcaption", None, title, element("span", None, note)), *content)


def key(kind: str) -> Markup:
    """The coloured dot of a legend: ``one``, ``two``, ``bad`` or ``hole``."""
    return element(f"span.key.{kind}", {"aria-hidden": "true"})


def table(
    title: str, note: str, columns: Sequence[Column], rows: Iterable[Sequence[str | Cell]], *, sortable: bool = False
) -> Markup:
    """A table; the first cell of a row is its heading. On a narrow screen it scrolls by itself.

    Args:
        title: Its caption.
        note: A line below the caption.
        columns: Its columns.
        rows: Their cells; text is escaped.
        sortable: Whether its headings sort it.
    """
    heads = []
    for column in columns:
        name: str = element("button", {"type": "button"}, column.name) if sortable else column.name
        given = {"scope": "col", "data-first": "up" if column.up else None}
        heads.append(element("th.n" if column.number else "th", given, name))
    body = [element("tr", None, *_cells(columns, row)) for row in rows]
    caption = captioned(title, note)
    made = element(
        "table",
        {"data-sort": "" if sortable else None},
        caption,
        element("thead", None, element("tr", None, *heads)),
        element("tbody", None, *body),
    )
    return element("div.scroll", {"tabindex": 0, "role": "region", "aria-label": title}, made)


def captioned(title: str, note: str) -> Markup:
    """A table's caption; it stays in view where the table is wider than its column."""
    below = [element("span.note", None, note)] if note else []
    return element("caption", None, element("span", None, title), *below)


def facts(pairs: Iterable[tuple[str, str]]) -> Markup:
    """Names and what they are; empty ones are left out."""
    rows = (join(element("dt", None, name), element("dd", None, value)) for name, value in pairs if value)
    return element("dl.facts", None, *rows)


def words(lines: Iterable[tuple[str, str]]) -> Markup:
    """Sentences, each with its kind: ``good``, ``warn`` or none."""
    return element("ul.words", None, *(element(f"li.{kind}" if kind else "li", None, line) for line, kind in lines))


def item(text: str, limit: int = 80) -> Markup:
    """A stranger's text in a line of ours: cut, and kept from turning what stands beside it."""
    return element("bdi", None, plain(text, limit))


def _cells(columns: Sequence[Column], row: Sequence[str | Cell]) -> Iterable[Markup]:
    for at, (column, cell) in enumerate(zip(columns, row, strict=True)):
        shown, value = (cell.shown, cell.value) if isinstance(cell, Cell) else (cell, None)
        given = {"scope": "row"} if at == 0 else {}
        sort = f"{value:.6g}" if value is not None and math.isfinite(value) else "" if isinstance(cell, Cell) else None
        tag = "th" if at == 0 else "td.n" if column.number else "td"
        yield element(tag, {**given, "data-value": sort}, shown)
