"""What a person sees of hits: thumbnails or snippets, scores, and the columns that say what an item is."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from featstore.errors import ItemError
from featstore.extract import previews
from featstore.layout import Layout
from featstore.search.result import FIRST, plain_rows
from featstore.storage import frames

if TYPE_CHECKING:
    import pyarrow as pa

    from featstore.search.queries import Query
    from featstore.search.searcher import Answer, Searcher

__all__ = ["Look", "Shown", "looks", "one_line", "shown_columns", "snippets"]

_TEXT = "text"
# Columns that say nothing to a person who looks at hits.
_UNSHOWN = {*FIRST, "content_sha256", "event_ts", "parent", _TEXT}
_SHOWN = 4


@dataclass(frozen=True)
class Shown:
    """A query or a hit: its picture as the bytes of an image file, the beginning of its text; either may be empty."""

    title: str
    picture: bytes
    text: str
    score: float | None = None
    details: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Look:
    """A query and its hits, best first."""

    query: Shown
    hits: tuple[Shown, ...]


def looks(layout: Layout, searcher: Searcher, answer: Answer, found: pa.Table) -> list[Look]:
    """What there is to see of an answer.

    Args:
        layout: The store.
        searcher: What gave the answer.
        answer: The answer.
        found: Its hits with their columns.
    """
    contents = frames.strings(found, "content_sha256")
    own = {query.name: _content_of(searcher, query) for query in answer.queries if query.kind == "id"}
    kept = previews.find(layout, searcher.table.name, {*contents, *own.values()})
    pictures = searcher.card.modality == "image"
    texts = found[_TEXT].to_pylist() if _TEXT in found.column_names else [None] * found.num_rows
    hits = []
    for row, content, text in zip(plain_rows(found), contents, texts, strict=True):
        preview = kept.get(content, b"")
        hits.append(
            Shown(
                title=row["item_id"],
                picture=preview if pictures else b"",
                text=_words(text, preview, pictures),
                score=row["score"],
                details=tuple(_details(row)),
            )
        )
    ends = np.cumsum([0, *(len(rows) for rows, _ in answer.hits)]).tolist()
    return [
        Look(_asked(query, kept, own, pictures), tuple(hits[begin:end]))
        for query, begin, end in zip(answer.queries, ends, ends[1:], strict=False)
    ]


def snippets(layout: Layout, searcher: Searcher, found: pa.Table) -> list[str]:
    """The beginning of each hit's text, as far as texts or their beginnings are kept."""
    if searcher.card.modality == "image":
        return [""] * found.num_rows
    if _TEXT in found.column_names and not found[_TEXT].null_count:
        return [one_line(text) for text in frames.strings(found, _TEXT)]
    contents = frames.strings(found, "content_sha256")
    kept = previews.find(layout, searcher.table.name, contents)
    return [one_line(kept.get(content, b"").decode("utf-8", "replace")) for content in contents]


def shown_columns(found: pa.Table) -> list[str]:
    """The columns that say what an item is, as far as any hit has a value; the first few."""
    names = [name for name in found.column_names if name not in _UNSHOWN]
    return [name for name in names if found[name].null_count < found.num_rows][:_SHOWN]


def one_line(text: str) -> str:
    """The text without line breaks and control characters, which a terminal would obey."""
    return " ".join("".join(" " if unicodedata.category(c)[0] in "CZ" else c for c in text).split())


def _words(text: object, preview: bytes, pictures: bool) -> str:
    if isinstance(text, str):
        return text[:500]
    return "" if pictures else preview.decode("utf-8", "replace")


def _details(row: Mapping[str, object]) -> list[tuple[str, str]]:
    found = [(name, one_line(str(value))) for name, value in row.items() if name not in _UNSHOWN and value is not None]
    return found[:_SHOWN]


def _content_of(searcher: Searcher, query: Query) -> str:
    row = searcher.table.find([str(query.content)])
    return str(searcher.columns.at(row, ["content_sha256"])["content_sha256"][0].as_py())


def _asked(query: Query, kept: Mapping[str, bytes], own: Mapping[str, str], pictures: bool) -> Shown:
    if query.kind == "id":
        preview = kept.get(own[query.name], b"")
        return Shown(query.name, preview if pictures else b"", _words(None, preview, pictures))
    if query.kind == "image":
        return Shown(query.name, _thumbnail(query), "")
    if query.kind == "text" and isinstance(query.content, str):
        return Shown("" if query.name == query.content else query.name, b"", query.content[:500])
    return Shown(query.name, b"", "")


def _thumbnail(query: Query) -> bytes:
    from featstore.inputs import images

    try:
        content = query.content.read_bytes() if isinstance(query.content, Path) else query.content
        assert isinstance(content, bytes)
        return images.thumbnail(images.decode(content))
    except (ItemError, OSError):
        return b""  # it was readable a moment ago; the sheet shows a gray field
