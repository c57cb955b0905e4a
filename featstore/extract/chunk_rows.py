"""Rows of texts and rows of chunks, and the way from one to the other and back.

A chunk's locator holds what the next scan needs to know its text again: ``FIRST:AFTER:SIZE:SHA256:LOCATOR``,
the chunk's characters, and the size, hash and locator of the whole text. A chunk's size is its own.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from featstore.storage import frames

__all__ = ["PARENT", "Located", "Span", "chunks", "gone", "known", "located", "parent_of", "parents", "texts"]

PARENT = "parent"
"""The column with the id of the text that a chunk is of."""

# A source's own column of that name, and those that it could then be taken for, get one more ``_``.
_ALIKE = re.compile(rf"{PARENT}_*")


class Span(NamedTuple):
    """A chunk within its text: its characters, and the hash and the bytes of its content."""

    first: int
    after: int
    sha256: str
    size: int


class Located(NamedTuple):
    """A chunk's locator, taken apart: its characters; size, hash and locator of its text."""

    first: int
    after: int
    size: int
    sha256: str
    locator: str


def located(locator: str) -> Located:
    """Takes a chunk's locator apart."""
    first, after, size, sha256, inner = locator.split(":", 4)
    return Located(int(first), int(after), int(size), sha256, inner)


def parent_of(item_id: str) -> str:
    """The id of the text that a chunk is of; any other id as it is."""
    parent, mark, number = item_id.rpartition("#")
    return parent if mark and number.isdecimal() else item_id


def chunks(items: pa.Table, spans: Sequence[Sequence[Span]]) -> pa.Table:
    """A row for each chunk, with the columns of its text."""
    counts = np.array([len(found) for found in spans], np.int64)
    rows = items.take(np.repeat(np.arange(len(spans)), counts))
    rows = rows.rename_columns([f"{n}_" if _ALIKE.fullmatch(n) else n for n in rows.column_names])
    parents, hashes, locators = (frames.strings(rows, name) for name in ("item_id", "content_sha256", "locator"))
    sizes = rows["size"].to_pylist()
    flat = [(number, span) for found in spans for number, span in enumerate(found)]
    columns: dict[str, list[Any]] = {
        "item_id": [f"{parent}#{number}" for parent, (number, _) in zip(parents, flat, strict=True)],
        "content_sha256": [span.sha256 for _, span in flat],
        "locator": [
            f"{span.first}:{span.after}:{size}:{sha}:{inner}"
            for (_, span), size, sha, inner in zip(flat, sizes, hashes, locators, strict=True)
        ],
        "size": [span.size for _, span in flat],
    }
    return _replaced(rows, columns).append_column(PARENT, rows["item_id"])


def parents(chunks: pa.Table) -> pa.Table:
    """The scan of the texts that a scan of chunks was made from, but for those that were refused."""
    return texts(chunks, [at for at, item in enumerate(frames.strings(chunks, "item_id")) if item.endswith("#0")])


def texts(chunks: pa.Table, rows: Sequence[int]) -> pa.Table:
    """The texts of some chunks, as their source listed them."""
    found = chunks.take(pa.array(rows, pa.int64()))
    apart = [located(locator) for locator in frames.strings(found, "locator")]
    columns: dict[str, list[Any]] = {
        "item_id": [parent_of(item) for item in frames.strings(found, "item_id")],
        "content_sha256": [text.sha256 for text in apart],
        "locator": [text.locator for text in apart],
        "size": [text.size for text in apart],
    }
    found = _replaced(found, columns)
    if PARENT in found.column_names:
        found = found.drop_columns([PARENT])
    return found.rename_columns([n[:-1] if n != PARENT and _ALIKE.fullmatch(n) else n for n in found.column_names])


def known(chunks: pa.Table) -> dict[str, list[Span]]:
    """The chunks of each content of the last scan."""
    found: dict[str, list[Span]] = {}
    names = frames.strings(chunks, "item_id")
    columns = (
        frames.strings(chunks, "locator"),
        frames.strings(chunks, "content_sha256"),
        chunks["size"].to_numpy().tolist(),
    )
    owner: dict[str, str] = {}
    for name, locator, sha, size in zip(names, *columns, strict=True):
        text = located(locator)
        # Of several texts with one content the first tells.
        if owner.setdefault(text.sha256, parent_of(name)) == parent_of(name):
            found.setdefault(text.sha256, []).append(Span(text.first, text.after, sha, size))
    return found


def gone(removed: Sequence[str], items: pa.Table) -> tuple[str, ...]:
    """The texts of which nothing is left, of items that are no longer there.

    Args:
        removed: Ids of chunks, or of whole texts from before they were cut.
        items: The chunks that are there.
    """
    there = set(frames.strings(items, PARENT))
    lost = (parent_of(item) for item in removed if item not in there)
    return tuple(dict.fromkeys(text for text in lost if text not in there))


def _replaced(table: pa.Table, columns: dict[str, list[Any]]) -> pa.Table:
    """The table with other values in some columns, of the same types."""
    for name, values in columns.items():
        at = table.column_names.index(name)
        table = table.set_column(at, name, pa.array(values, table.schema.field(at).type))
    return table
