"""What a person needs to judge neighbours: the same queries for each model, drawn or written out."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from featstore.compare.items import Items
from featstore.neighbours import nearest_others
from featstore.records import ModelCard
from featstore.storage import durable

__all__ = ["Sheet", "write"]

_NEIGHBOURS = 8
_TEXT = 160


@dataclass(frozen=True)
class Sheet:
    """One model's neighbours of some queries.

    Attributes:
        card: The model.
        lines: For each query its own row of the items (without a cosine), then its neighbours', best first.
    """

    card: ModelCard
    lines: list[list[tuple[int, float | None]]]

    @classmethod
    def of(cls, card: ModelCard, items: Items, queries: Sequence[int]) -> Sheet:
        """Finds the neighbours of some rows of ``items``."""
        rows, scores = nearest_others(items.vectors[card.space_id], np.array(queries, np.int64), _NEIGHBOURS)
        found = zip(queries, rows.tolist(), scores.tolist(), strict=True)
        return cls(card, [[(at, None), *zip(others, cosines, strict=True)] for at, others, cosines in found])

    @property
    def shown(self) -> set[int]:
        """The rows of the items that are on it."""
        return {at for line in self.lines for at, _ in line}


def write(folder: Path, sheets: Sequence[Sheet], items: Items, previews: Mapping[str, bytes]) -> list[Path]:
    """Writes one file for each model: a PNG for images, text for texts.

    Args:
        folder: Where to; made if missing.
        sheets: One for each model.
        items: What was compared.
        previews: Thumbnails or beginnings of texts by content hash; a missing one leaves a gray field or nothing.

    Returns:
        The files.

    Raises:
        StorageError: The disk refused.
    """
    written = []
    for sheet in sheets:
        image = sheet.card.modality == "image"
        content = _drawn(sheet, items, previews) if image else _told(sheet, items, previews)
        path = folder / f"neighbours-{sheet.card.space_id}.{'png' if image else 'txt'}"
        with durable.replacing(path) as file:
            file.write(content)
        written.append(path)
    return written


def _drawn(sheet: Sheet, items: Items, previews: Mapping[str, bytes]) -> bytes:
    from featstore.inputs.contact_sheet import contact_sheet

    def cell(at: int, score: float | None) -> tuple[bytes, str]:
        name = items.ids[at].rpartition("/")[2]
        below = " ".join(part for part in (_score(score), items.labels[at] or "") if part)
        return previews.get(items.contents[at], b""), f"{_plain(name)}\n{_plain(below)}"

    return contact_sheet([[cell(at, score) for at, score in line] for line in sheet.lines])


def _told(sheet: Sheet, items: Items, previews: Mapping[str, bytes]) -> bytes:
    found = [f"{sheet.card.model} ({sheet.card.space_id})"]
    for line in sheet.lines:
        found.append("")
        for at, score in line:
            text = previews.get(items.contents[at], b"").decode("utf-8", "replace")[:_TEXT]
            label = f" [{items.labels[at]}]" if items.labels[at] else ""
            found.append(_plain(f"{_score(score) or 'query':>6}  {items.ids[at]}{label}  {text}"))
    return ("\n".join(found) + "\n").encode("utf-8", "replace")


def _score(score: float | None) -> str:
    return "" if score is None else f"{score:.3f}"


def _plain(text: str) -> str:
    """One line without control characters, which a terminal would obey."""
    return "".join(" " if unicodedata.category(c)[0] in "CZ" else c for c in text)
