"""Is everything still what was written? Bytes by their digests, vectors by making some again."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from featstore import bridge, index, models
from featstore.encode import Observer
from featstore.errors import FeatstoreError, IntegrityError
from featstore.extract import previews
from featstore.extract.opening import source_key
from featstore.extract.shard import open_encoder, open_items
from featstore.heads import upkeep as heads
from featstore.models.kept import artefacts
from featstore.records import (
    Artefact,
    Finding,
    JobState,
    Manifest,
    ModelCard,
    OpenRun,
    Reference,
    RefreshResult,
    ShardReceipt,
    SourceRecord,
    StagedCommit,
    StoreRecord,
    VerifyReport,
)
from featstore.settings import ExtractSettings
from featstore.storage import documents, frames, hashing
from featstore.tables import RejectsTable, companion
from featstore.upkeep import publications

if TYPE_CHECKING:
    import pyarrow as pa
    from numpy.typing import NDArray

    from featstore.layout import Layout
    from featstore.tables import FeatureTable

__all__ = ["verify"]

# The same cosine that makes two ways of computing a vector one space.
_SAME = 0.9999


def verify(
    layout: Layout, tables: Sequence[FeatureTable], *, sample: int = 16, unread: Sequence[FeatstoreError] = ()
) -> VerifyReport:
    """Checks tables, their models and the store's documents.

    Args:
        layout: The store.
        tables: The tables to look at, each at the version it was opened at.
        sample: Items of each table to embed again from the source; 0 for none.
        unread: Why further tables could not be opened.

    Returns:
        What was looked at and found; nothing is changed.
    """
    started = time.monotonic()
    findings = [*_documents(layout), *heads.verify(layout), *publications.verify(layout)]
    findings += [
        Finding(severity="error", code="damaged_table", path="features", message=error.message) for error in unread
    ]
    spaces = sorted({table.space_id for table in tables})
    for space_id in spaces:
        findings += _model(layout, space_id)
        findings += bridge.verify(layout, space_id)
    sampled, cosines = 0, []
    for name in sorted({table.name for table in tables}):
        findings += _besides(layout, name)
    for table in tables:
        found = [
            Finding(
                severity="warning" if problem.harmless else "error",
                code=problem.code,
                path=f"{layout.table(table.name, table.space_id)}/{problem.path}",
                message=problem.message,
            )
            for problem in publications.problems(layout, table)
        ]
        findings += found
        findings += [
            Finding(
                severity="warning" if problem.harmless else "error",
                code=problem.code,
                path=f"{layout.history(table.name, table.space_id)}/{problem.path}",
                message=problem.message,
            )
            for problem in companion.verify(layout, table.name, table.space_id)
        ]
        findings += index.verify(layout, table.name, table.space_id)
        if sample and not any(finding.severity == "error" for finding in findings):
            try:
                ids, similar = _sample(layout, table, sample)
            except FeatstoreError as error:
                findings.append(Finding(severity="warning", code="not_sampled", path=table.name, message=error.message))
                continue
            sampled += len(ids)
            cosines += similar
            findings += [
                Finding(
                    severity="error",
                    code="vector_differs",
                    path=f"{table.name}: {item}",
                    message=f"embedding it again gives a vector of cosine {cosine:.6f} with the stored one",
                )
                for item, cosine in zip(ids, similar, strict=True)
                if cosine < _SAME
            ]
    return VerifyReport(
        ok=not any(finding.severity == "error" for finding in findings),
        tables=len(tables),
        files=sum(len(table.files) for table in tables),
        bytes=sum(table.bytes for table in tables),
        rows=sum(len(table) for table in tables),
        models=len(spaces),
        sampled=sampled,
        min_cosine=round(min(cosines), 6) if cosines else None,
        seconds=round(time.monotonic() - started, 3),
        findings=tuple(findings),
    )


def _documents(layout: Layout) -> list[Finding]:
    """Reads every JSON document of the store; each carries its own digest."""
    kinds: list[tuple[str, type]] = [(layout.store, StoreRecord)]
    storage = layout.storage
    kinds += [(path, SourceRecord) for path in storage.files("sources")]
    kinds += [(path, Reference) for path in storage.files("models/refs")]
    for path in storage.files("runs"):
        if path.endswith("/manifest.json"):
            kinds.append((path, Manifest))
        elif "/shards/" in path:
            kinds.append((path, ShardReceipt))
        elif path.endswith("/refresh.json"):
            kinds.append((path, RefreshResult))
        elif path.endswith("/commit.json"):
            kinds.append((path, StagedCommit))
        elif path.startswith("runs/open/"):
            kinds.append((path, OpenRun))
    kinds += [(path, JobState) for path in storage.files(layout.job()) if path.endswith(".json")]
    findings = []
    for path, kind in kinds:
        try:
            documents.read(storage, path, kind)
        except FeatstoreError as error:
            findings.append(Finding(severity="error", code="damaged_document", path=path, message=error.message))
    return findings


def _besides(layout: Layout, name: str) -> list[Finding]:
    """Reads what lies beside a table's vectors: its rejects and its previews."""
    findings = []
    readers: dict[str, Callable[[], object]] = {
        layout.rejects(name): lambda: RejectsTable.read(layout, name),
        layout.previews(name): lambda: previews.known(layout, name),
    }
    for path, reader in readers.items():
        try:
            reader()
        except FeatstoreError as error:
            findings.append(Finding(severity="error", code="damaged_file", path=path, message=error.message))
    return findings


def _model(layout: Layout, space_id: str) -> list[Finding]:
    """Hashes the files of a model against its card."""
    try:
        card = models.load_card(layout, space_id)
    except FeatstoreError as error:
        path = layout.model_card(space_id)
        return [Finding(severity="error", code="damaged_document", path=path, message=error.message)]
    findings = []
    for artefact in artefacts(card):
        path = layout.model(space_id, artefact.file)
        message = _differs(layout, path, artefact)
        if message:
            findings.append(Finding(severity="error", code="damaged_model", path=path, message=message))
    return findings


def _differs(layout: Layout, path: str, artefact: Artefact) -> str | None:
    try:
        found = hashing.of_file(layout.storage.local(path))
    except FeatstoreError as error:
        return error.message
    if found != artefact.sha256:
        return f"its SHA-256 is {found[:12]}…, the model's card says {artefact.sha256[:12]}…"
    return None


def _sample(layout: Layout, table: FeatureTable, count: int) -> tuple[list[str], list[float]]:
    """Embeds some items of the source again; their ids and cosines with the stored vectors."""
    record = documents.read(layout.storage, layout.source(table.name), SourceRecord)
    card: ModelCard = models.load_card(layout, table.space_id)
    reading = {key: value for key, value in record.options.items() if value not in (None, [])}
    settings = ExtractSettings(source=record.uri, model=card.model, device="auto", **reading)  # type: ignore[arg-type]
    source = open_items(layout, record.uri, card, settings)
    cache, before = layout.scan_cache(table.name, source_key(source, settings)), None
    if source.kind == "list" and layout.storage.exists(cache):
        before = frames.read(layout.storage, cache)  # what came on standard input is known from there alone
    scanned, stored_rows = source.scan(previous=before, rehash=True).items, table.rows()
    seen, places = _evenly(scanned, stored_rows, count)
    if not len(seen):
        return [], []
    items, where = scanned.take(seen), stored_rows.select(["_file", "_row"]).take(places)
    reader = source.reader(items)
    encoder = open_encoder(layout, card, settings)
    encoded = encoder.encode(reader.read, items.num_rows, _Nobody())
    stored = table.vectors(frames.strings(where, "_file"), np.asarray(where["_row"]))
    made = encoded.vectors
    lengths = np.linalg.norm(made, axis=1) * np.linalg.norm(stored, axis=1)
    cosines = (made * stored).sum(axis=1) / np.where(lengths > 0, lengths, 1)
    if encoded.errors:
        row, error = next(iter(sorted(encoded.errors.items())))
        raise IntegrityError(f"{items['item_id'][row]} can no longer be embedded: {error.message}")
    return frames.strings(items, "item_id"), cosines.tolist()


def _evenly(scanned: pa.Table, stored: pa.Table, count: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows of items that are as they were stored, spread evenly over their contents: in the scan and in the table.

    By polars and not by ``pyarrow.Table.join``, whose engine has hung at random before.

    Source: https://github.com/apache/arrow/issues/39582
    """
    import polars as pl

    keys = ["item_id", "content_sha256"]
    sides = [{name: pl.Series(name, rows[name]) for name in keys} for rows in (scanned, stored)]
    now, then = (pl.DataFrame(side).with_row_index(name) for side, name in zip(sides, ("seen", "place"), strict=True))
    same = now.join(then, on=keys).sort("content_sha256", "item_id")
    at = np.unique(np.linspace(0, same.height - 1, min(count, same.height)).astype(np.int64))
    return same["seen"].to_numpy()[at].astype(np.int64), same["place"].to_numpy()[at].astype(np.int64)


class _Nobody(Observer):
    def decoded(self, row: int, content: object) -> None:
        """Nothing is kept."""

    def done(self, count: int, rejected: int) -> None:
        """Nothing is shown."""
