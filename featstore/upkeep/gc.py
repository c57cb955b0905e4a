"""Garbage collection: small files become large ones, and what no kept version needs goes."""

from __future__ import annotations

import secrets
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from featstore import index
from featstore.heads import upkeep as heads
from featstore.records import GcReport, Manifest, OpenRun
from featstore.storage import documents, locks

if TYPE_CHECKING:
    from featstore.layout import Layout
    from featstore.tables import FeatureTable

__all__ = ["gc"]


def gc(
    layout: Layout, tables: Sequence[FeatureTable], *, dry_run: bool, keep_versions: int, grace_hours: float
) -> GcReport:
    """Compacts and cleans tables; each is locked meanwhile, so no extract into it is under way.

    Args:
        layout: The store.
        tables: The tables.
        dry_run: Only say what would go.
        keep_versions: How many of the newest versions of each table and head stay; at least 1. Those that an index
            or a head was made from stay as well.
        grace_hours: Files younger than this stay: a reader or an unfinished run may need them.

    Returns:
        What was done.

    Raises:
        LockedError: A run holds one of the tables; those before it are done.
        IntegrityError: A head's card is damaged, so that nobody knows which version of a table it needs.
    """
    started = time.monotonic()
    compacted = written = files = size = 0
    kept: dict[str, list[int]] = {}
    # Heads first: what nobody keeps needs no version of a table.
    kept_heads, gone = heads.clean(
        layout, keep_versions=keep_versions, older_than_seconds=grace_hours * 3600, dry_run=dry_run
    )
    files += len(gone)
    size += sum(gone)
    for table in tables:
        heads.pinned(layout, table.name, table.space_id)  # before anything is changed: it may not be known
    for table in tables:
        with locks.hold(layout.storage, layout.lock(table.name), purpose=f"gc of '{table.name}'"):
            fresh = type(table).open(layout, table.name, table.space_id)
            if not dry_run:
                before = set(fresh.files)
                if fresh.compact(_run_id()) is not None:
                    fresh = type(table).open(layout, table.name, table.space_id)
                    compacted += len(before - set(fresh.files))
                    written += len(set(fresh.files) - before)
            there = [commit.version for commit in fresh.history()]
            versions = there[: max(1, keep_versions)]
            pinned = (
                *index.pinned(layout, table.name, table.space_id),
                *heads.pinned(layout, table.name, table.space_id),
            )
            # A head outlives its table; another one of that name has other versions.
            versions += [v for v in dict.fromkeys(pinned) if v in there and v not in versions]
            gone = index.clean(
                layout, table.name, table.space_id, older_than_seconds=grace_hours * 3600, dry_run=dry_run
            )
            files += len(gone)
            size += sum(gone)
            kept[f"{table.name}@{table.space_id}"] = sorted(versions)
            if documents.find(layout.storage, layout.open_run(table.name, table.space_id), OpenRun) is not None:
                continue  # what an unfinished run has staged is worth keeping, however old: it may be resumed
            cleaned = fresh.vacuum(versions, grace_hours * 3600, dry_run=dry_run)
            files += len(cleaned.files)
            size += cleaned.bytes
    done = _finished_runs(layout)
    size += sum(layout.storage.stat(path).size for path in done)
    files += len(done)
    if not dry_run:
        for path in done:
            layout.storage.delete(path)
    return GcReport(
        dry_run=dry_run,
        tables=len(tables),
        compacted_files=compacted,
        written_files=written,
        removed_files=files,
        removed_bytes=size,
        kept_versions=kept,
        kept_heads=kept_heads,
        seconds=round(time.monotonic() - started, 3),
    )


def _run_id() -> str:
    return f"{datetime.now(UTC):%Y%m%dT%H%M%S}-gc-{secrets.token_hex(3)}"


def _finished_runs(layout: Layout) -> list[str]:
    """Plans and receipts of runs that are over; their manifests stay."""
    found = []
    for run_id in layout.storage.folders("runs"):
        manifest = documents.find(layout.storage, layout.manifest(run_id), Manifest) if run_id != "open" else None
        if manifest is not None and manifest.status in ("committed", "superseded"):
            found += [path for path in layout.storage.files(f"runs/{run_id}") if path != layout.manifest(run_id)]
    return found
