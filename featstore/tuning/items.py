"""What a model is timed on: the user's own items, or samples that are on every machine."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from featstore.encode.encoder import Read
from featstore.errors import NotFoundError, UsageError
from featstore.extract import opening
from featstore.extract.shard import open_items
from featstore.layout import Layout
from featstore.models import samples
from featstore.records import ModelCard, SourceRecord
from featstore.settings import ExtractSettings
from featstore.sources import LIST_PREFIX
from featstore.storage import documents, frames

__all__ = ["Items", "gather"]

# More than a fast model does in a round, or few enough to be read and hashed at once.
_MOST = 4096


@dataclass(frozen=True)
class Items:
    """Contents to embed again and again.

    Attributes:
        read: Gives the content of one, by any number from 0: they begin again after the last.
        count: How many different ones there are.
        source: Where they are from; None for the samples.
    """

    read: Read
    count: int
    source: str | None


def gather(layout: Layout, card: ModelCard, settings: ExtractSettings, table: str | None) -> Items:
    """The items that were asked for.

    Args:
        layout: The store.
        card: The model.
        settings: The source and how it is read; an empty source means none.
        table: A table whose source is meant.

    Raises:
        NotFoundError: There is no such source or table.
        UsageError: Nothing can be read from it, or it came on standard input.
    """
    if table is not None:
        settings = _of_table(layout, table, settings)
    if not settings.source:
        return _samples(card)
    settings, _ = opening.remembered(layout, table or opening.table_name(settings), settings, {})
    source = open_items(layout, settings.source, card, settings)
    rows = source.scan(limit=_MOST).items
    if not rows.num_rows:
        raise UsageError(f"{settings.source} has no item to time the model on.")
    # Files of one folder are alike; the order of their hashes says nothing of their sizes.
    order = np.argsort(np.array(frames.strings(rows, "content_sha256"), np.str_), kind="stable")
    read, count = source.reader(rows.take(order)).read, rows.num_rows
    return Items(lambda row: read(row % count), count, source.uri)


def _of_table(layout: Layout, table: str, settings: ExtractSettings) -> ExtractSettings:
    record = documents.find(layout.storage, layout.source(table), SourceRecord)
    if record is None:
        raise NotFoundError(f"the store has no table '{table}'.", hint="See: featstore ls")
    if record.uri.startswith(LIST_PREFIX):
        raise UsageError(
            f"the items of '{table}' were listed on standard input and cannot be read again.",
            hint="Name the files' folder instead: --source FOLDER",
        )
    return replace(settings, source=record.uri)


def _samples(card: ModelCard) -> Items:
    found: list[bytes] | list[str] = samples.photographs() if card.modality == "image" else samples.canary_texts()
    return Items(lambda row: found[row % len(found)], len(found), None)
