"""New items: read and encoded as ``extract`` does it, a stretch of the source at a time, and not kept."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from featstore import models
from featstore.encode import Encoder
from featstore.encode.opening import open_encoder
from featstore.errors import ItemError, NotFoundError, UsageError
from featstore.extract.plan import SCAN_COLUMNS
from featstore.extract.progress import Reporter
from featstore.extract.shard import open_items
from featstore.predicting.blocks import OWN, Block, Taken
from featstore.predicting.stored import Stored
from featstore.records import SourceRecord
from featstore.settings import ExtractSettings
from featstore.sources import LIST_PREFIX, open_source, walk
from featstore.sources.folder import IMAGE_SUFFIXES, TEXT_SUFFIXES
from featstore.storage import Storage, documents, frames
from featstore.tables import metadata, where

if TYPE_CHECKING:
    from featstore.layout import Layout
    from featstore.records import HeadCard, ModelCard
    from featstore.sources import Source

__all__ = ["alike", "from_source", "open_model"]

# As many as a shard of an extract has: what is held of a source at once, beside the list of its items.
_ITEMS = {"image": 4096, "text": 16_384}

# How the head's own table was read; labels, groups and splits of new items need not be there.
_REMEMBERED = ("text_column", "text_template", "image_column", "id_column")


def open_model(layout: Layout, card: HeadCard) -> ModelCard:
    """The card of the model whose vectors a head takes.

    Raises:
        NotFoundError: The store has the head, but not its model.
        IntegrityError: The card is damaged.
    """
    try:
        return models.load_card(layout, card.space_id)
    except NotFoundError as error:
        raise NotFoundError(
            f"the head '{card.head}:{card.version}' takes vectors of {card.space_id}, whose model is not in the store.",
            hint=f"Extract something with {card.model} to bring it back, or predict on a table: --table {card.table}",
        ) from error


def alike(
    layout: Layout, card: HeadCard, model: ModelCard, settings: ExtractSettings
) -> dict[str, str | tuple[str, ...]]:
    """The settings that read a source as the head's own table was read; none where others are given or do not fit."""
    record = documents.find(layout.storage, layout.source(card.table), SourceRecord)
    said = any(getattr(settings, name) not in (None, ()) for name in _REMEMBERED)
    if record is None or said or settings.source == "-":
        return {}
    found = _reading(record.options)
    try:
        open_items(layout, settings.source, model, replace(settings, **found))  # type: ignore[arg-type]
    except UsageError:  # another kind of source, or other columns
        return {}
    return found


def from_source(
    layout: Layout,
    card: HeadCard,
    model: ModelCard,
    settings: ExtractSettings,
    *,
    expression: str | None,
    limit: int | None,
    reporter: Reporter,
) -> Taken:
    """Lists a source, and encodes what the store has no vector of.

    A source may also be one picture or text. Where nothing is said of how a table is to be read, it is read as the
    head's own table was, if it has those columns.

    Args:
        layout: The store.
        card: The head.
        model: The model of its space.
        settings: The source and how it is read, device and threads.
        expression: Only items for whose metadata this Polars SQL expression holds.
        limit: Only the first so many of them.
        reporter: Told of progress.

    Raises:
        NotFoundError: There is no such source or column.
        UsageError: The source, an option or the expression cannot be used.
    """
    reporter.stage("scanning")
    single = _single(settings.source, model)
    if single is None:
        source = _open(layout, card, model, settings)
        scan = source.scan(limit=limit if expression is None else None, progress=reporter.at)
    else:
        source = open_source(f"{LIST_PREFIX}{single.parent}", modality=model.modality)
        listed = pa.table({"locator": [walk.escape(os.fsencode(single.name))]})
        scan = source.scan(previous=listed, rehash=True)
    if not scan.items.num_rows and not scan.rejects:
        ignored = sum(scan.ignored.values())
        raise UsageError(
            f"{source.uri} holds no {source.modality}s" + (f" ({ignored:,} other files)." if ignored else "."),
            hint=f"The head '{card.head}' takes {source.modality}s. Check the path.",
        )
    rows = _metadata(scan.items)
    items = scan.items
    if expression is not None:
        names = where.columns_of(expression, rows.column_names)
        kept = np.flatnonzero(where.picked(rows.select(["item_id", *(n for n in names if n != "item_id")]), expression))
        at = kept[:limit]
        rows, items = rows.take(at), items.take(at)
    stored = Stored(layout, model.space_id, items["content_sha256"], reporter.warning)
    encoding = _Encoding(layout, model, settings, source, items, rows, stored, reporter)
    name = source.uri if single is None else str(single)
    warnings = [*scan.warnings, *_chunked(layout, card, settings)]
    return Taken(name, rows.slice(0, 0), rows.num_rows, encoding.blocks(), scan.rejects, warnings)


class _Encoding:
    """Goes through the items of a scan; the model is opened when the first content needs it."""

    def __init__(
        self,
        layout: Layout,
        model: ModelCard,
        settings: ExtractSettings,
        source: Source,
        items: pa.Table,
        rows: pa.Table,
        stored: Stored,
        reporter: Reporter,
    ) -> None:
        self._layout, self._model, self._settings = layout, model, settings
        self._source, self._items, self._rows, self._stored = source, items, rows, stored
        self._reporter = reporter
        self._encoder: Encoder | None = None

    def blocks(self) -> Iterator[Block]:
        step = self._settings.shard_items or _ITEMS[self._model.modality]
        for start in range(0, self._items.num_rows, step):
            yield self._block(start, min(start + step, self._items.num_rows))

    def _block(self, start: int, stop: int) -> Block:
        vectors = np.zeros((stop - start, self._model.dim), np.float32)
        self._stored.fill(start, vectors)
        known = self._stored.known(start, stop)
        hashes = frames.strings(self._items.slice(start, stop - start), "content_sha256")
        places: dict[str, list[int]] = {}
        for row in np.flatnonzero(~known).tolist():
            places.setdefault(hashes[row], []).append(row)
        errors: dict[int, ItemError] = {}
        told = (0, 0)
        if places:
            first = [rows[0] for rows in places.values()]
            made, refused = self._encode(np.array(first, np.int64) + start)
            told = (len(first), len(refused))
            for at, rows in enumerate(places.values()):
                vectors[rows] = made[at]
                if at in refused:
                    errors |= dict.fromkeys(rows, refused[at])
        own = self._rows.slice(start, stop - start)
        stored = int(known.sum())
        return Block(own, vectors, errors, stored, stop - start - stored - len(errors), told)

    def _encode(self, at: NDArray[np.int64]) -> tuple[NDArray[np.float32], dict[int, ItemError]]:
        if self._encoder is None:
            self._encoder = open_encoder(self._layout, self._model, self._settings)
            models.check_canaries(self._layout, self._model, self._encoder.backbone)
        reader = self._source.reader(self._items.take(at))
        encoded = self._encoder.encode(reader.read, len(at), _Telling(self._reporter))
        return encoded.vectors, encoded.errors


class _Telling:
    def __init__(self, reporter: Reporter) -> None:
        self._reporter = reporter

    def decoded(self, row: int, content: NDArray[np.uint8] | str) -> None:
        """Nothing is kept of it."""

    def done(self, count: int, rejected: int) -> None:
        self._reporter.advance(count, rejected)


def _single(source: str, model: ModelCard) -> Path | None:
    """The path of a source that is one picture or one text, as such a file in a folder would be an item."""
    try:
        path = Storage.at(source).root
    except UsageError:  # a bucket
        return None
    suffixes = IMAGE_SUFFIXES if model.modality == "image" else TEXT_SUFFIXES
    if path.suffix.removeprefix(".").lower() not in suffixes or not path.is_file():
        return None
    return Path(os.path.realpath(path))  # a link that was named was meant


def _open(layout: Layout, card: HeadCard, model: ModelCard, settings: ExtractSettings) -> Source:
    return open_items(layout, settings.source, model, replace(settings, **alike(layout, card, model, settings)))  # type: ignore[arg-type]


def _chunked(layout: Layout, card: HeadCard, settings: ExtractSettings) -> list[str]:
    """What to say where the head has learned from pieces of texts and is given whole ones."""
    record = documents.find(layout.storage, layout.source(card.table), SourceRecord)
    tokens = None if record is None else record.options.get("chunk_tokens")
    if tokens is None or settings.chunk_tokens is not None:
        return []
    return [f"the head's table holds texts cut into {tokens} tokens; cut these alike with --chunk-tokens {tokens}"]


def _reading(options: Mapping[str, object]) -> dict[str, str | tuple[str, ...]]:
    found = {name: options.get(name) for name in _REMEMBERED if options.get(name) not in (None, [])}
    return {name: tuple(value) if isinstance(value, list) else str(value) for name, value in found.items()}


def _metadata(items: pa.Table) -> pa.Table:
    """The items' ids, hashes and metadata, of the types that a table of them would have."""
    rows = items.drop_columns([name for name in SCAN_COLUMNS if name not in ("item_id", "content_sha256")])
    now = pa.scalar(datetime.now(UTC), pa.timestamp("us", tz="UTC"))
    rows = rows.append_column("created_ts", pa.repeat(now, rows.num_rows))
    rows = metadata.normalise(rows.append_column("run_id", pa.repeat("", rows.num_rows)))
    return rows.drop_columns([*OWN, *(["event_ts"] if not rows["event_ts"].drop_null().length() else [])])
