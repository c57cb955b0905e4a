"""Garbage collection: small files become large ones, and what no kept version needs goes."""

from __future__ import annotations

import secrets
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from featstore import index, published
from featstore.extract import recovery
from featstore.heads import upkeep as heads
from featstore.records import GcReport, OpenRun
from featstore.storage import documents, locks
from featstore.tables import companion
from featstore.upkeep import leftovers

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
            or a head was made from, and those that are published or can be gone back to, stay as well.
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
    runs = leftovers.by_table(layout)
    for table in tables:
        heads.pinned(layout, table.name, table.space_id)  # before anything is changed: it may not be known
    for table in tables:
        with locks.hold(layout.storage, layout.lock(table.name), purpose=f"gc of '{table.name}'"):
            fresh = type(table).open(layout, table.name, table.space_id)
            opened = documents.find(layout.storage, layout.open_run(table.name, table.space_id), OpenRun)
            # A run that waits to be resumed, or published, is of exactly this version.
            if not dry_run and opened is None:
                before = set(fresh.files)
                if fresh.compact(_run_id()) is not None:
                    fresh = type(table).open(layout, table.name, table.space_id)
                    compacted += len(before - set(fresh.files))
                    written += len(set(fresh.files) - before)
                _follow(layout, fresh)
            there = [commit.version for commit in fresh.history()]
            versions = there[: max(1, keep_versions)]
            pinned = (
                *index.pinned(layout, table.name, table.space_id),
                *heads.pinned(layout, table.name, table.space_id),
                *(
                    state.table_version
                    for name, state in published.pins(layout)
                    if (name, state.space_id) == (table.name, table.space_id)
                ),
            )
            # A head outlives its table; another one of that name has other versions.
            versions += [v for v in dict.fromkeys(pinned) if v in there and v not in versions]
            gone = index.clean(
                layout, table.name, table.space_id, older_than_seconds=grace_hours * 3600, dry_run=dry_run
            )
            files += len(gone)
            size += sum(gone)
            kept[f"{table.name}@{table.space_id}"] = sorted(versions)
            # What unfinished runs have staged is worth keeping, however old: the next one takes it over.
            spare = [] if opened is None else [run.run_id for run in recovery.unfinished(layout, fresh)]
            cleaned = fresh.vacuum(versions, grace_hours * 3600, dry_run=dry_run, spare=spare)
            files += len(cleaned.files)
            size += cleaned.bytes
            cleaned = companion.clean(
                layout,
                table.name,
                table.space_id,
                run_id=_run_id(),
                older_than_seconds=grace_hours * 3600,
                dry_run=dry_run,
            )
            files += len(cleaned.files)
            size += cleaned.bytes
            owner = (table.name, table.space_id)
            gone = _cleared(
                layout,
                leftovers.of_table(layout, owner, runs.get(owner, []), older_than_seconds=grace_hours * 3600),
                dry_run,
            )
            files += len(gone)
            size += sum(gone)
    gone = _cleared(
        layout, leftovers.of_unknown(layout, runs.get(None, []), older_than_seconds=grace_hours * 3600), dry_run
    )
    files += len(gone)
    size += sum(gone)
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


def _follow(layout: Layout, newest: FeatureTable) -> None:
    """Lets what was published at a version mean the same rows in their larger files, so that the small ones can go."""
    there = published.find(layout, newest.name)
    if there is None or newest.version is None:
        return
    since = newest.version  # the earliest version with just these rows
    for commit in newest.history():
        if commit.operation != "compact":
            since = commit.version
            break
    moved = [
        replace(state, table_version=newest.version)
        if state.space_id == newest.space_id and state.table_version >= since
        else state
        for state in (there.state, *there.previous)
    ]
    made = replace(there, state=moved[0], previous=tuple(moved[1:]))
    if made != there:
        published.amend(layout, made, expected=there)


def _cleared(layout: Layout, paths: list[str], dry_run: bool) -> list[int]:
    """Removes files of runs, and says how large each was."""
    sizes = [layout.storage.stat(path).size for path in paths]
    if not dry_run:
        leftovers.remove(layout, paths)
    return sizes
