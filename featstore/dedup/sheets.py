"""Groups of pictures, drawn: each row a group, its representative framed."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path

from featstore.records import DuplicateGroup
from featstore.storage import durable

__all__ = ["SHOWN", "draw"]

SHOWN = 10
"""Items of a group that are shown, its representative among them."""


def draw(
    path: Path, groups: Sequence[DuplicateGroup], contents: Mapping[str, str], previews: Mapping[str, bytes]
) -> None:
    """Writes a contact sheet.

    Args:
        path: The PNG; replaced if it is there.
        groups: The groups to draw.
        contents: The content hash of each item in them.
        previews: Thumbnails by content hash; a missing one leaves a gray field.

    Raises:
        StorageError: The disk refused.
    """
    from featstore.inputs.contact_sheet import contact_sheet

    rows = []
    for group in groups:
        cells = []
        for at, item in enumerate(group.first):
            name = _plain(item.item_id.rpartition("/")[2])
            below = f"{group.items:,} items" if at == 0 else "same content" if item.exact else f"{item.score:.4f}"
            cells.append((previews.get(contents[item.item_id], b""), f"{name}\n{below}"))
        rows.append(cells)
    with durable.replacing(path) as file:
        file.write(contact_sheet(rows))


def _plain(text: str) -> str:
    """One line without control characters, for which a font has no picture."""
    return "".join(" " if unicodedata.category(c)[0] in "CZ" else c for c in text)
