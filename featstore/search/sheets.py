"""Sheets of hits for people: one HTML file without scripts or anything from outside, or one PNG."""

from __future__ import annotations

import base64
import html
from collections.abc import Sequence

from featstore.search.looks import Look, Shown, one_line

__all__ = ["as_html", "as_png"]

_STYLE = """
:root { color-scheme: light dark; }
body { font: 14px/1.45 system-ui, sans-serif; margin: 1.5rem; }
h1 { font-size: 1.1rem; } h1 small { font-weight: normal; opacity: .7; }
section { display: flex; flex-wrap: wrap; gap: .8rem; padding: 1rem 0; border-top: 1px solid #8884; }
figure { margin: 0; width: 150px; overflow-wrap: anywhere; }
figure.text { width: 300px; }
figure.query { border-left: 4px solid #c83c14; padding-left: .6rem; }
img { max-width: 128px; max-height: 128px; display: block; }
.none { width: 128px; height: 96px; background: #8882; }
figcaption { font-size: .85em; } b { font-variant-numeric: tabular-nums; }
blockquote { margin: 0 0 .3rem; white-space: pre-line; max-height: 9em; overflow: auto; }
dl { margin: 0; opacity: .75; } dt { display: inline; } dt::after { content: ": "; } dd { display: inline; margin: 0; }
dd::after { content: ""; display: block; }
""".strip()

_TITLE = 60


def as_html(title: str, note: str, looks: Sequence[Look]) -> bytes:
    """A page with a row for each query: the query, then its hits, best first.

    Args:
        title: The table's address.
        note: What was asked for, in a few words.
        looks: The queries and their hits.
    """
    body = "".join(
        f"<section>{_figure(look.query, 'query')}{''.join(_figure(hit) for hit in look.hits) or '<p>no hits</p>'}"
        "</section>\n"
        for look in looks
    )
    # Nothing but its own pictures and style: names and texts come from outside.
    policy = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
    page = (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        f'<meta name="viewport" content="width=device-width">\n'
        f"<title>{_safe(title)}</title>\n<style>\n{_STYLE}\n</style></head>\n<body>\n"
        f"<h1>{_safe(title)} <small>{_safe(note)}</small></h1>\n{body}</body></html>\n"
    )
    return page.encode("utf-8", "replace")


def as_png(looks: Sequence[Look]) -> bytes:
    """A contact sheet with a row of pictures for each query; the query stands first, framed.

    Raises:
        ItemError: A thumbnail of the store cannot be decoded.
    """
    from featstore.inputs.contact_sheet import contact_sheet

    return contact_sheet([[_cell(look.query), *(_cell(hit) for hit in look.hits)] for look in looks])


def _figure(shown: Shown, kind: str = "") -> str:
    inside = ""
    if shown.picture:
        data = base64.b64encode(shown.picture).decode()
        inside = f'<img alt="" src="data:image/jpeg;base64,{data}">'
    elif shown.text:
        kind += " text"
        inside = f"<blockquote>{_safe(shown.text)}</blockquote>"
    elif shown.score is not None:
        inside = '<div class="none"></div>'
    score = "" if shown.score is None else f"<b>{shown.score:.4f}</b> "
    details = "".join(f"<dt>{_safe(name)}</dt><dd>{_safe(value)}</dd>" for name, value in shown.details)
    details = f"<dl>{details}</dl>" if details else ""
    return (
        f'<figure class="{kind.strip()}">{inside}<figcaption>{score}{_safe(shown.title)}{details}</figcaption></figure>'
    )


def _cell(shown: Shown) -> tuple[bytes, str]:
    name = one_line(shown.title.rpartition("/")[2] or shown.text[:_TITLE])
    score = "" if shown.score is None else f"{shown.score:.3f}"
    below = " ".join(part for part in (score, *(value for _, value in shown.details[:1])) if part)
    return shown.picture, f"{name}\n{below}"


def _safe(text: str) -> str:
    kept = "".join(c if c.isprintable() or c == "\n" else "\N{REPLACEMENT CHARACTER}" for c in text)
    return html.escape(kept)
