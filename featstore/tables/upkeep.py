"""Looks after a table: finds damage, merges small files, removes what nothing needs any more."""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

from featstore.errors import FeatstoreError, IntegrityError
from featstore.layout import Layout
from featstore.records import OpenRun
from featstore.storage import documents, hashing
from featstore.tables.entries import LiveFile
from featstore.tables.ids import duplicates
from featstore.tables.log import DeltaLog
from featstore.tables.parts import Cleaned, PartFile, Problem
from featstore.tables.reading import Reader

if TYPE_CHECKING:
    from featstore.tables.table import FeatureTable

__all__ = ["compact", "vacuum", "verify"]

_STRAY = "no version of the table names it; `featstore gc` removes it once it is old enough"
_TARGET_BYTES = 128 * 1024 * 1024


def verify(layout: Layout, name: str, space_id: str, reader: Reader, but: Collection[str] = ()) -> list[Problem]:
    """As ``FeatureTable.verify``."""
    problems = []
    try:
        digests = reader.log.sha256(reader.files)
        known = {path for commit in reader.log.commits() for path in commit.adds}
    except IntegrityError as error:
        return [Problem(code="damaged_log", path="_delta_log", message=error.message)]
    whole = []
    for live in (file for file in reader.files if file.path not in but):
        problem = _check(reader, live, digests.get(live.path))
        if problem is None:
            whole.append(live)
        else:
            problems.append(problem)
    known |= {live.path for live in reader.files}
    running = _open_run(layout, name, space_id)
    for path in _data_files(layout, reader.log.folder):
        if path not in known and not (running and path.startswith(running)):
            problems += [Problem(code="stray_file", path=path, message=_STRAY, harmless=True)]
    if len(whole) == len(reader.files):
        problems += _check_ids(reader)
    return problems


def compact(table: FeatureTable, reader: Reader, *, run_id: str, target_rows: int | None) -> int | None:
    """As ``FeatureTable.compact``."""
    target = target_rows or max(1, _TARGET_BYTES // (4 * table.dim))
    groups = _groups(reader.files, target)
    if not groups:
        return None
    added = [_merge(reader, group) for group in groups]
    return table.commit(
        run_id=run_id,
        add=added,
        remove=[live.path for group in groups for live in group],
        details={"rows_added": "0", "rows_removed": "0"},
        operation="compact",
    )


def vacuum(
    layout: Layout,
    name: str,
    space_id: str,
    *,
    keep_versions: Sequence[int],
    older_than_seconds: float,
    dry_run: bool,
    spare: Sequence[str] = (),
) -> Cleaned:
    """As ``FeatureTable.vacuum``."""
    log = DeltaLog(layout.storage, layout.table(name, space_id))
    running = _open_run(layout, name, space_id)
    spared = tuple(f"_runs/{run}/" for run in spare) + ((running,) if running else ())
    needed: set[str] = set()
    removed_at: dict[str, float] = {}
    if log.exists():
        latest = log.snapshot()
        for version in {*keep_versions, latest.version}:
            files = latest.files if version == latest.version else log.snapshot(version).files
            needed |= {live.path for live in files}
        for commit in log.commits():
            removed_at |= {path: at / 1000 for path, at in commit.removes.items()}
    before = time.time() - older_than_seconds
    gone, size = [], 0
    for path in _data_files(layout, log.folder):
        if path in needed or path.startswith(spared):
            continue
        stat = layout.storage.stat(f"{log.folder}/{path}")
        if max(stat.mtime_ns / 1e9, removed_at.get(path, 0.0)) > before:
            continue
        gone.append(path)
        size += stat.size
        if not dry_run:
            layout.storage.delete(f"{log.folder}/{path}")
    if not dry_run:
        _drop_empty_runs(layout, log.folder, {path.split("/")[1] for path in gone if path.startswith("_runs/")})
    return Cleaned(files=tuple(gone), bytes=size)


def _check(reader: Reader, live: LiveFile, digest: str | None) -> Problem | None:
    path = reader.layout.storage.local(f"{reader.log.folder}/{live.path}")
    if not path.exists():
        return Problem(code="missing_file", path=live.path, message=f"{live.rows:,} rows of this version were in it")
    try:
        if digest is not None and hashing.of_file(path) != digest:
            return Problem(code="damaged_file", path=live.path, message="its bytes are not those that were committed")
        reader.load([live], verify=True)
        reader.only(live).rows()
    except FeatstoreError as error:
        return Problem(code="damaged_file", path=live.path, message=error.message)
    return None


def _check_ids(reader: Reader) -> list[Problem]:
    column = reader.rows(["item_id"])["item_id"]
    twice = duplicates(column)
    if not twice:
        return []
    message = f"{len(twice)} item_ids occur more than once: {', '.join(map(repr, twice[:5]))}"
    return [Problem(code="duplicate_ids", path="", message=message)]


def _groups(files: Sequence[LiveFile], target: int) -> list[list[LiveFile]]:
    """Runs of neighbouring files that fit into one of ``target`` rows; single files stay as they are."""
    groups: list[list[LiveFile]] = [[]]
    for live in files:
        if groups[-1] and sum(file.rows for file in groups[-1]) + live.rows > target:
            groups.append([])
        groups[-1].append(live)
    return [group for group in groups if len(group) > 1]


def _merge(reader: Reader, group: list[LiveFile]) -> PartFile:
    # Named after the first file and the whole group: it takes their place in the order of rows, and a
    # merge that was killed writes the same file again.
    digest = hashing.of_json([live.path for live in group])[:8]
    path = f"{group[0].path.removesuffix('.parquet')}-{digest}.parquet"
    return reader.merge(group, path)


def _open_run(layout: Layout, name: str, space_id: str) -> str | None:
    """The folder of the run under way, relative to the table's folder."""
    found = documents.find(layout.storage, layout.open_run(name, space_id), OpenRun)
    return None if found is None else f"_runs/{found.run_id}/"


def _data_files(layout: Layout, folder: str) -> list[str]:
    paths = (path.removeprefix(f"{folder}/") for path in layout.storage.files(folder))
    return [path for path in paths if not path.startswith("_delta_log/")]


def _drop_empty_runs(layout: Layout, folder: str, runs: set[str]) -> None:
    for run in sorted(runs):
        if not layout.storage.files(f"{folder}/_runs/{run}"):
            layout.storage.delete_folder(f"{folder}/_runs/{run}")
