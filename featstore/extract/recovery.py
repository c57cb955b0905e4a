"""What runs that were cut short left behind: found, used, and in the end cleared away.

A run notes itself as *open* before its first shard and takes the note away after its commit. While a
note is there, the data files under ``_runs/`` that no commit names hold vectors worth keeping: the
next run resumes it if its plan is still the same, and otherwise carries those vectors over.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime

from featstore.errors import IntegrityError, NotFoundError
from featstore.extract.finish import staged_rows
from featstore.extract.plan import Staged
from featstore.extract.planned import Planned
from featstore.layout import Layout
from featstore.records import Manifest, OpenRun, ShardReceipt
from featstore.storage import documents
from featstore.tables import FeatureTable

# A run that a gate refused is whole, and still not committed.
_UNFINISHED = ("running", "failed", "interrupted", "refused")

__all__ = ["close", "find_open", "finished_shards", "staged", "unfinished"]


def find_open(layout: Layout, name: str, table: FeatureTable, warn: Callable[[str], None]) -> OpenRun | None:
    """The run that was cut short, unless its commit took effect before it was."""
    path = layout.open_run(name, table.space_id)
    opened = documents.find(layout.storage, path, OpenRun)
    if opened is None:
        return None
    version = table.committed(opened.run_id)
    if version is None:
        return opened
    manifest = documents.find(layout.storage, layout.manifest(opened.run_id), Manifest)
    if manifest is not None:
        finished = datetime.now(UTC).isoformat(timespec="milliseconds")
        done = replace(manifest, status="committed", finished_ts=finished)
        documents.write(layout.storage, layout.manifest(opened.run_id), done)
    layout.storage.delete(path)
    warn(f"run {opened.run_id} had been committed as version {version} before it was cut short")
    return None


def unfinished(layout: Layout, table: FeatureTable) -> list[Manifest]:
    """Runs of this table and space that left files which no commit names, oldest first."""
    found = []
    for run_id in layout.storage.folders(f"{layout.table(table.name, table.space_id)}/_runs"):
        manifest = documents.find(layout.storage, layout.manifest(run_id), Manifest)
        if manifest is not None and manifest.status in _UNFINISHED:
            found.append(manifest)
    return found


def staged(layout: Layout, runs: Sequence[Manifest], warn: Callable[[str], None]) -> list[Staged]:
    """The vectors that the finished shards of some runs left; those of a run whose plan is damaged are made anew."""
    found = []
    for manifest in runs:
        table = layout.table(manifest.name, manifest.space_id)
        receipts = [
            documents.read(layout.storage, path, ShardReceipt)
            for path in layout.storage.files(layout.run(manifest.run_id, "shards"))
            if path.endswith(".json")
        ]
        receipts = [r for r in receipts if _whole(layout, table, r)]
        if receipts:
            try:
                rows = list(staged_rows(Planned(layout, manifest.run_id), receipts))
            except (IntegrityError, NotFoundError) as error:
                warn(f"what run {manifest.run_id} had embedded is not used: {error.message}")
                continue
            found += [Staged(sha, file, row) for sha, file, row in rows]
    return found


def finished_shards(layout: Layout, table: FeatureTable, run_id: str, shards: int) -> list[ShardReceipt]:
    """Receipts of an earlier attempt at the same plan whose files are still there, whole."""
    folder = layout.table(table.name, table.space_id)
    receipts = [documents.find(layout.storage, layout.receipt(run_id, shard), ShardReceipt) for shard in range(shards)]
    return [r for r in receipts if r is not None and _whole(layout, folder, r)]


def close(layout: Layout, table: FeatureTable, runs: Sequence[Manifest], *, but: str) -> None:
    """Takes the note of an open run away and clears the runs that the finished one made superfluous."""
    layout.storage.delete(layout.open_run(table.name, table.space_id))
    for manifest in runs:
        if manifest.run_id != but:
            documents.write(layout.storage, layout.manifest(manifest.run_id), replace(manifest, status="superseded"))
            layout.storage.delete_folder(layout.run_files(table.name, table.space_id, manifest.run_id))


def _whole(layout: Layout, folder: str, receipt: ShardReceipt) -> bool:
    if receipt.file is None:
        return True
    path = f"{folder}/{receipt.file}"
    return layout.storage.exists(path) and layout.storage.stat(path).size == receipt.bytes
