"""One shard: a contiguous stretch of the plan, from contents to a durable file and its receipt.

``open_run`` needs only the store and the run's id: a process on another machine that sees the same
store can open the run and take shards of it.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from featstore import models
from featstore.encode import Encoder
from featstore.encode.opening import Opening, open_encoder
from featstore.encode.workers import Clock
from featstore.errors import ItemError
from featstore.extract import chunks, previews
from featstore.extract.plan import SCAN_COLUMNS
from featstore.extract.planned import Planned
from featstore.extract.progress import Reporter
from featstore.inputs.previews import of_image, of_text
from featstore.layout import Layout
from featstore.records import Manifest, ModelCard, Reject, ShardReceipt, StageSeconds
from featstore.settings import ExtractSettings
from featstore.sources import Source, SourceOptions, open_source
from featstore.storage import documents, frames
from featstore.tables import FeatureTable

__all__ = [
    "ShardContext",
    "as_reject",
    "open_encoder",
    "open_items",
    "open_run",
    "run_shard",
    "source_options",
    "stamp",
]


@dataclass(frozen=True)
class ShardContext:
    """What the shards of one run share within a process."""

    layout: Layout
    manifest: Manifest
    settings: ExtractSettings
    table: FeatureTable
    source: Source
    encoder: Encoder
    planned: Planned
    reporter: Reporter


def open_run(
    layout: Layout, run_id: str, reporter: Reporter | None = None, opening: Opening | None = None
) -> ShardContext:
    """Opens a planned run from what the store holds of it.

    Args:
        layout: The store.
        run_id: A run whose manifest and plan are written.
        reporter: Told of progress.
        opening: The model, where it is being opened already.

    Raises:
        NotFoundError: No such run, or its source or model is gone.
        IntegrityError: A document or the model is damaged, or the model no longer gives its
            canary vectors here.
    """
    manifest = documents.read(layout.storage, layout.manifest(run_id), Manifest)
    settings = ExtractSettings(
        **{f.name: manifest.settings[f.name].value for f in fields(ExtractSettings) if f.name in manifest.settings}  # type: ignore[arg-type]
    )
    card = models.load_card(layout, manifest.space_id)
    # Its own settings alone: the run goes on as it was begun, whatever was found to be faster since.
    encoder = (opening or Opening(layout, card, settings)).take(settings)
    models.check_canaries(layout, card, encoder.backbone)
    return ShardContext(
        layout=layout,
        manifest=manifest,
        settings=settings,
        table=FeatureTable.staging(layout, manifest.name, manifest.space_id, card.dim),
        source=open_items(layout, manifest.source, card, settings),
        encoder=encoder,
        planned=Planned(layout, run_id),
        reporter=reporter or Reporter(),
    )


def open_items(layout: Layout, uri: str, card: ModelCard, settings: ExtractSettings) -> Source:
    """Opens a source whose items are what the model embeds: files, rows, or chunks of their texts."""
    source = open_source(uri, modality=card.modality, options=source_options(settings))
    return chunks.wrap(source, layout, card, settings)


def source_options(settings: ExtractSettings) -> SourceOptions:
    """The settings that say how a source is read."""
    return SourceOptions(
        source_root=settings.source_root,
        label_from=settings.label_from,
        text_columns=settings.text_column,
        text_template=settings.text_template,
        image_column=settings.image_column,
        id_column=settings.id_column,
        label_column=settings.label_column,
        group_column=settings.group_column,
        split_column=settings.split_column,
        time_column=settings.time_column,
    )


def run_shard(context: ShardContext, shard: int) -> ShardReceipt:
    """Embeds one shard and writes its file, previews and receipt, in that order, each durably.

    The same plan gives the same bytes: items keep the source's order and batches never cross a
    shard. Running it twice replaces the file by an equal one.

    Args:
        context: The run.
        shard: The shard's number, from 0.

    Returns:
        The receipt, as written.
    """
    run_id, settings = context.manifest.run_id, context.settings
    rows = context.planned.shard(shard)
    observer = _Collector(rows, context)
    reader = context.source.reader(rows)
    encoded = context.encoder.encode(reader.read, rows.num_rows, observer)

    clock = Clock()
    with clock.stage("write"):
        good = np.array([row for row in range(rows.num_rows) if row not in encoded.errors], np.int64)
        part = None
        if len(good):
            texts = [observer.texts[row] for row in good.tolist()] if settings.keep_text else None
            kept = stamp(rows.take(good), context.manifest, texts)
            part = context.table.write_part(run_id, shard, kept, encoded.vectors[good])
        previews.keep(context.layout, context.manifest.name, f"{run_id}-{shard:05d}", observer.previews)
    ids, contents = frames.strings(rows, "item_id"), frames.strings(rows, "content_sha256")
    spent = encoded.seconds
    receipt = ShardReceipt(
        run_id=run_id,
        shard=shard,
        file=part.path if part else None,
        rows=len(good),
        bytes=part.bytes if part else 0,
        sha256=part.sha256 if part else None,
        rejects=tuple(as_reject(ids[row], contents[row], encoded.errors[row]) for row in sorted(encoded.errors)),
        truncated=encoded.truncated,
        tokens=encoded.tokens,
        seconds=StageSeconds(read=spent.read, decode=spent.decode, infer=spent.infer, write=clock.seconds["write"]),
    )
    documents.write(context.layout.storage, context.layout.receipt(run_id, shard), receipt)
    return receipt


def stamp(rows: pa.Table, manifest: Manifest, texts: list[str] | None = None) -> pa.Table:
    """Rows of a plan as the table holds them: the scan's own columns off, run, time and texts on.

    ``created_ts`` is the start of the run, the same for all its rows and after a resume.
    """
    own = {*SCAN_COLUMNS, "from_file", "from_row", "event_ts", "text"}
    columns: dict[str, pa.ChunkedArray[Any] | pa.Array[Any]] = {
        name: rows[name] for name in ("item_id", "content_sha256")
    }
    columns |= {name: rows[name] for name in rows.column_names if name not in own}
    if texts is not None:
        columns["text"] = pa.array(texts, pa.string())
    elif "text" in rows.column_names:
        columns["text"] = rows["text"]
    started = datetime.fromisoformat(manifest.started_ts).astimezone(UTC)
    columns["event_ts"] = rows["event_ts"]
    columns["created_ts"] = pa.array([started] * rows.num_rows, pa.timestamp("us", tz="UTC"))
    columns["run_id"] = pa.array([manifest.run_id] * rows.num_rows, pa.string())
    return pa.table(columns)


def as_reject(item_id: str, content: str | None, error: ItemError) -> Reject:
    """An item's error as a row for the rejects table."""
    return Reject(item_id=item_id, content_sha256=content, stage=error.stage, code=error.code, message=error.message)


class _Collector:
    """Gathers previews and texts while a shard goes by."""

    def __init__(self, rows: pa.Table, context: ShardContext) -> None:
        self.previews: dict[str, bytes] = {}
        self.texts: dict[int, str] = {}
        self._contents = frames.strings(rows, "content_sha256")
        self._context = context
        self._previewed: set[str] = set()
        if context.settings.previews:
            self._previewed = previews.among(context.layout, context.manifest.name, self._contents)
        self._lock = threading.Lock()

    def decoded(self, row: int, content: NDArray[np.uint8] | str) -> None:
        settings = self._context.settings
        if isinstance(content, str) and settings.keep_text:
            self.texts[row] = content
        sha = self._contents[row]
        if settings.previews and sha not in self._previewed:
            small = of_text(content).encode() if isinstance(content, str) else of_image(content)
            with self._lock:
                self.previews[sha] = small

    def done(self, count: int, rejected: int) -> None:
        self._context.reporter.advance(count, rejected)
