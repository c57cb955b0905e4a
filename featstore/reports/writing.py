"""A report on a kept head, from what the store has of it."""

from __future__ import annotations

from pathlib import Path

from featstore.errors import IntegrityError
from featstore.extract import previews
from featstore.layout import Layout
from featstore.records import HeadCard, ModelCard
from featstore.reports.page import render
from featstore.storage import documents, durable, frames, hashing

__all__ = ["write"]


def write(layout: Layout, card: HeadCard, path: Path) -> int:
    """Writes a head's report; what was at ``path`` is replaced.

    Args:
        layout: The store.
        card: The head's.
        path: The HTML file.

    Returns:
        The file's bytes.

    Raises:
        IntegrityError: The head's predictions are not those that its card speaks of.
        NotFoundError: They are gone.
        StorageError: The disk refused.
    """
    import polars as pl

    where = layout.head(card.head, card.version, card.predictions.file)
    found = hashing.of_file(layout.storage.local(where))
    if found != card.predictions.sha256:
        raise IntegrityError(
            f"{layout.storage.local(where)} is damaged: its SHA-256 is {found[:16]}…, the head's card says "
            f"{card.predictions.sha256[:16]}….",
            hint="Restore the file from a backup, or train the head again: featstore train-head",
        )
    frame = pl.from_arrow(frames.read(layout.storage, where))
    assert isinstance(frame, pl.DataFrame)
    model = documents.find(layout.storage, layout.model_card(card.space_id), ModelCard)
    page = render(
        card,
        frame,
        previews=lambda contents: previews.find(layout, card.table, contents),
        modality=model.modality if model is not None else "image",
        model_card=model,
    ).encode("utf-8")
    with durable.replacing(path) as file:
        file.write(page)
    return len(page)
