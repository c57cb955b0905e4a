"""What the old model and the new one cost: how fast they are on the same items, and the bytes they take."""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING

import numpy as np

from featstore.encode import rate
from featstore.errors import FeatstoreError
from featstore.extract import chunks, opening
from featstore.extract.shard import open_encoder, open_items
from featstore.index import files, own
from featstore.models import load_card
from featstore.records import IndexCard, SourceRecord, SpaceCost
from featstore.settings import ExtractSettings, resolve
from featstore.sources import LIST_PREFIX
from featstore.storage import documents, frames

if TYPE_CHECKING:
    import pyarrow as pa

    from featstore.layout import Layout
    from featstore.records import ModelCard
    from featstore.sources import Source
    from featstore.tables import FeatureTable

__all__ = ["costs"]

# More than the fastest model does in the seconds that it is timed for.
_TIMED = 16_384


def costs(
    layout: Layout, before: FeatureTable, after: FeatureTable, index: IndexCard | None, device: str | None
) -> tuple[tuple[SpaceCost, ...], str | None]:
    """What each side costs, the old one first.

    Args:
        layout: The store.
        before: The table in the old space.
        after: The table in the new one.
        index: The new table's.
        device: What both models run on.

    Returns:
        The costs, and why the models were not timed, if they were not.

    Raises:
        IntegrityError: A card is damaged.
    """
    cards = [load_card(layout, table.space_id) for table in (before, after)]
    try:
        rates, why = _rates(layout, before.name, cards, device)
    except FeatstoreError as error:  # the source is gone, a device does not work: no reason not to report the rest
        rates, why = None, f"the models were not timed: {error.message}"
    there = own(layout, before)
    indexes = [None if there is None else files.find_card(layout, before.name, before.space_id, there), index]
    return tuple(
        SpaceCost(
            space_id=table.space_id,
            dim=table.dim,
            items_per_s=None if rates is None else round(rates[at], 3),
            vector_bytes=table.bytes,
            index_bytes=None if (found := indexes[at]) is None else found.index.bytes + found.ids.bytes,
            model_bytes=cards[at].onnx.bytes,
        )
        for at, table in enumerate((before, after))
    ), why


def _rates(
    layout: Layout, name: str, cards: list[ModelCard], device: str | None
) -> tuple[list[float] | None, str | None]:
    record = documents.find(layout.storage, layout.source(name), SourceRecord)
    if record is None or record.uri.startswith(LIST_PREFIX):
        return None, "the models were not timed: the store does not know where the items came from"
    known = {key: value for key, value in record.options.items() if value not in (None, [])}
    given = {"source": record.uri, "model": cards[1].space_id, "device": device, **known}
    settings, _ = resolve(ExtractSettings, given, {})
    source = open_items(layout, record.uri, cards[1], settings)
    rows = _scanned(layout, name, source, settings, cards[1])
    if rows is None:
        return None, "the models were not timed: no list of the source's items is kept"
    encoders = [open_encoder(layout, card, settings) for card in cards]
    read = source.reader(rows).read
    rates = [statistics.median(found) for found in rate.side_by_side(encoders, read, rows.num_rows)]
    if not all(rates):
        return None, f"the models were not timed: the items cannot be read from {record.uri}"
    return rates, None


def _scanned(layout: Layout, name: str, source: Source, settings: ExtractSettings, card: ModelCard) -> pa.Table | None:
    """Items of the last scan, in the order of their contents' hashes, which says nothing of their sizes."""
    key = opening.source_key(source, settings, chunks.cutting(card, settings))
    for path in (layout.next_scan_cache(name, key), layout.scan_cache(name, key)):
        if layout.storage.exists(path):
            rows = frames.read(layout.storage, path)
            order = np.argsort(np.array(frames.strings(rows, "content_sha256"), np.str_), kind="stable")
            return rows.take(order[:_TIMED])
    return None
