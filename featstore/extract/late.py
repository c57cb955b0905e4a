"""A run that did everything but commit, kept for later: a gate refused it, and somebody may publish it all the same."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa

from featstore.errors import ConflictError, NotFoundError
from featstore.extract import leaving, members
from featstore.extract.finish import Pending
from featstore.layout import Layout
from featstore.records import Manifest, OpenRun, StagedCommit, StagedFile
from featstore.storage import documents, frames
from featstore.tables import FeatureTable, PartFile

__all__ = ["candidate", "commit", "find", "keep"]


# The items of this run's source, where the table has several.
_MEMBERS = "members.parquet"


def keep(
    layout: Layout,
    manifest: Manifest,
    table: FeatureTable,
    pending: Pending,
    mine: pa.ChunkedArray[Any] | None = None,
) -> None:
    """Writes down what the run would commit.

    Args:
        layout: The store.
        manifest: The run's.
        table: The table as it is.
        pending: What would be added and removed.
        mine: The ids of the run's source, where the table has several sources.
    """
    if mine is not None:
        frames.write(layout.storage, layout.run(manifest.run_id, _MEMBERS), pa.table({"item_id": mine}))
    made = table.with_staged(pending.add, pending.remove) if pending else table
    record = StagedCommit(
        run_id=manifest.run_id,
        name=table.name,
        space_id=table.space_id,
        dim=table.dim,
        base_version=table.version,
        version=made.version or 0,
        source=manifest.source,
        add=tuple(StagedFile(path=p.path, rows=p.rows, bytes=p.bytes, sha256=p.sha256) for p in pending.add),
        remove=pending.remove,
    )
    documents.write(layout.storage, layout.commit(manifest.run_id), record)


def find(layout: Layout, run_id: str) -> StagedCommit | None:
    """What a run would commit; None where nothing was kept."""
    return documents.find(layout.storage, layout.commit(run_id), StagedCommit)


def candidate(layout: Layout, staged: StagedCommit) -> FeatureTable:
    """The table as it would be.

    Raises:
        ConflictError: The table has moved since; the run no longer fits.
        IntegrityError: What the run has written is missing or damaged.
    """
    table = _base(layout, staged)
    return table.with_staged(_parts(staged), staged.remove) if staged.add or staged.remove else table


def commit(layout: Layout, staged: StagedCommit) -> int:
    """Commits what was kept; one that is committed already is left so. To be called under the table's lock.

    Returns:
        The version.

    Raises:
        ConflictError: The table has moved since; the run no longer fits.
        IntegrityError: What the run has written is missing or damaged.
    """
    manifest = documents.read(layout.storage, layout.manifest(staged.run_id), Manifest)
    table = FeatureTable.staging(layout, staged.name, staged.space_id, staged.dim)
    version = table.committed(staged.run_id)
    if version is None:
        details = {"operation": "extract", "source": staged.source}
        base, parts = _base(layout, staged), _parts(staged)
        leaving.keep(layout, base, Pending(tuple(parts), staged.remove), manifest)
        version = base.commit(run_id=staged.run_id, add=parts, remove=staged.remove, details=details)
    finished = datetime.now(UTC).isoformat(timespec="milliseconds")
    documents.write(
        layout.storage,
        layout.manifest(staged.run_id),
        replace(manifest, status="committed", finished_ts=finished, error=None),
    )
    noted = layout.run(staged.run_id, _MEMBERS)
    if layout.storage.exists(noted):
        newest = FeatureTable.open(layout, staged.name, staged.space_id)  # later runs may have come since
        members.keep(layout, newest, staged.source, frames.read(layout.storage, noted)["item_id"])
    note = layout.open_run(staged.name, staged.space_id)
    opened = documents.find(layout.storage, note, OpenRun)
    if opened is not None and opened.run_id == staged.run_id:  # a later run's stays: the next takes over its vectors
        layout.storage.delete(note)
    return version


def _base(layout: Layout, staged: StagedCommit) -> FeatureTable:
    if not layout.storage.exists(layout.manifest(staged.run_id)):
        raise NotFoundError(f"there is no run '{staged.run_id}'.", hint="featstore ls runs")
    table = FeatureTable.staging(layout, staged.name, staged.space_id, staged.dim)
    if table.version != staged.base_version:
        raise ConflictError(
            f"run {staged.run_id} was made for version {staged.base_version} of '{staged.name}', which is at "
            f"{table.version} now.",
            hint="Run the refresh again: it takes over what was embedded.",
        )
    return table


def _parts(staged: StagedCommit) -> list[PartFile]:
    return [PartFile(path=file.path, rows=file.rows, bytes=file.bytes, sha256=file.sha256) for file in staged.add]
