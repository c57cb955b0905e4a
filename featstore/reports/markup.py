"""HTML and SVG from Python calls: what is not markup already is text, and is escaped.

Labels, item ids and texts come from strangers. There is no way to put one into a page but through here.
"""

from __future__ import annotations

import html
import unicodedata
from collections.abc import Mapping

__all__ = ["Attributes", "Markup", "element", "join", "plain"]

Attributes = Mapping[str, str | int | float | None]

_VOID = frozenset({"img", "meta", "link", "br", "col"})
# Marks that turn the direction of the text after them, across the ends of a sentence.
_TURNING = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


class Markup(str):
    """Text that is markup already."""

    __slots__ = ()


def element(tag: str, attributes: Attributes | None = None, *children: str) -> Markup:
    """One element.

    Args:
        tag: Its name, and after it its classes: ``td.number``.
        attributes: Its attributes; those that are None are left out, fractions are cut to two places.
        *children: Markup as it is; any other text escaped.
    """
    name, *classes = tag.split(".")
    given = {"class": " ".join(classes) or None, **(attributes or {})}
    written = "".join(f' {key}="{_value(value)}"' for key, value in given.items() if value is not None)
    if name in _VOID:
        return Markup(f"<{name}{written}>")
    return Markup(f"<{name}{written}>{join(*children)}</{name}>")


def join(*children: str) -> Markup:
    """Several pieces one after the other; text among them is escaped."""
    return Markup("".join(c if isinstance(c, Markup) else html.escape(c) for c in children))


def plain(text: str, limit: int = 80) -> str:
    """A stranger's text as one line that can be shown: no control characters, nothing that turns the text around it.

    Args:
        text: Any text; lone surrogates become the replacement character.
        limit: Characters kept; where more are cut off, the end says so.
    """
    head = text[: 4 * limit]
    shown = " ".join("".join(_shown(c) for c in head).split())
    return shown if len(shown) <= limit and len(head) == len(text) else f"{shown[: limit - 1]}…"


def _shown(character: str) -> str:
    kind = unicodedata.category(character)
    if kind == "Cs":
        return "\ufffd"
    return " " if kind in ("Cc", "Zl", "Zp") or character in _TURNING else character


def _value(value: str | int | float) -> str:
    if isinstance(value, float):
        return f"{value:.2f}".rstrip("0").rstrip(".")
    return html.escape(str(value), quote=True)
