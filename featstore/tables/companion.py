"""A table's companion: every row that has left the table, with when, why and for which run.

It is a Delta table of its own, so that the table itself stays plain: one row an item, all of them current. A run's
rows are committed here before its commit takes them out of the table. Where that commit then fails, they stand here
for a run that never took effect; readers pass over them, and the next run takes them out.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

from featstore.errors import FeatstoreError, SettingsError
from featstore.layout import Layout
from featstore.records import HistoryRecord
from featstore.storage import documents, frames
from featstore.tables.columns import TIMESTAMP
from featstore.tables.parts import Cleaned, Problem
from featstore.tables.table import FeatureTable
from featstore.tables.writer import ROW_GROUP_BYTES

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["OWN", "REMOVED", "REPLACED", "begin", "check_names", "clean", "find", "keep", "opened", "runs", "verify"]

OWN = ("superseded_ts", "superseded_by", "superseded_as")
"""The columns beside the table's: the start of the run that took the row out, its id, ``replaced`` or ``removed``."""

REPLACED, REMOVED = "replaced", "removed"

# What tells a row that was copied into another file from one that took its place.
_BIRTH = ["item_id", "run_id", "created_ts"]


@dataclass(frozen=True)
class _Beside(Layout):
    """The same store with the companions in their tables' places."""

    def table(self, name: str, space_id: str) -> str:
        return self.history(name, space_id)


def find(layout: Layout, name: str, space_id: str) -> HistoryRecord | None:
    """Since when a table keeps what leaves it; None for one that does not.

    Raises:
        IntegrityError: The record is damaged.
    """
    return documents.find(layout.storage, layout.history_record(name, space_id), HistoryRecord)


def begin(layout: Layout, table: FeatureTable, *, since: datetime | None = None) -> HistoryRecord:
    """From now on the table keeps what leaves it. To be called under the table's lock, before anything leaves.

    Args:
        layout: The store.
        table: The table.
        since: What to call now; no run that keeps anything may have begun before it.

    Raises:
        SettingsError: A column of the table has the name of one of the companion's.
        StorageError: The disk refused.
    """
    there = find(layout, table.name, table.space_id)
    if there is not None:
        return there
    check_names(table.column_names)
    record = HistoryRecord(
        name=table.name,
        space_id=table.space_id,
        base_version=table.version,
        since_ts=(since or datetime.now(UTC)).isoformat(timespec="milliseconds"),
    )
    documents.write(layout.storage, layout.history_record(table.name, table.space_id), record)
    return record


def check_names(names: Iterable[str]) -> None:
    """Refuses columns called like the companion's own.

    Raises:
        SettingsError: There is one.
    """
    taken = sorted(name for name in names if name.casefold() in OWN)
    if taken:
        raise SettingsError(
            f"the column '{taken[0]}' has a name that a table's history uses itself.",
            hint=f"Rename it in the source; taken are: {', '.join(OWN)}.",
        )


def opened(layout: Layout, name: str, space_id: str) -> FeatureTable | None:
    """The companion as it is now; None while nothing has left the table.

    Its ids repeat: ``rows``, ``locate``, ``rows_at`` and ``vectors_at`` are for it, ``find`` and ``matrix`` are not.

    Raises:
        IntegrityError: Its log is damaged.
    """
    beside = _Beside(layout.storage)
    return FeatureTable.open(beside, name, space_id) if FeatureTable.exists(beside, name, space_id) else None


def keep(
    layout: Layout, table: FeatureTable, candidate: FeatureTable, *, run_id: str, started_ts: str, remove: Sequence[str]
) -> int:
    """Commits the rows that a run is about to take out of a table; done once, however often it is called.

    Args:
        layout: The store.
        table: The table as it is.
        candidate: The table as the run would make it.
        run_id: The run.
        started_ts: When it began, ISO 8601; the rows that it adds are of that time, so that nothing lies between.
        remove: The data files that it takes out of the table.

    Returns:
        How many rows are kept for the run.

    Raises:
        ConflictError: Another process commits to the companion.
        IntegrityError: A file of the table is damaged.
        StorageError: The disk refused.
    """
    leaving, why = _leaving(table, candidate, remove)
    beside = _Beside(layout.storage)
    kept = FeatureTable.staging(beside, table.name, table.space_id, table.dim)
    again = kept.committed(run_id) is not None
    if not len(leaving) or (again and _holds(kept, run_id)):
        return len(leaving)
    # Taken out meanwhile by another run that did not take effect either.
    commit_id = f"{run_id}-{kept.version}" if again else run_id
    rows = table.rows_at(leaving, None)
    when = datetime.fromisoformat(started_ts)
    own: dict[str, pa.Array[pa.Scalar[pa.DataType]]] = {
        "superseded_ts": pa.array([when] * len(leaving), TIMESTAMP),
        "superseded_by": pa.array([run_id] * len(leaving), pa.string()),
        "superseded_as": pa.array(why, pa.string()),
    }
    for name in OWN:
        rows = rows.append_column(name, own[name])
    kept, rows = _aligned(beside, kept, rows, commit_id)
    step = max(1, ROW_GROUP_BYTES // (4 * table.dim + rows.nbytes // len(rows) + 1))
    parts = [
        kept.write_part(commit_id, part, rows.slice(at, step), table.vectors_at(leaving[at : at + step]))
        for part, at in enumerate(range(0, len(leaving), step))
    ]
    stale = _stale(kept, {*runs(table), run_id})
    kept.commit(run_id=commit_id, add=parts, remove=stale, operation="history", details={"rows_removed": "0"})
    return len(leaving)


def runs(table: FeatureTable) -> Mapping[str, int]:
    """The runs that have committed to a table up to its version, with the version that each made."""
    newest = -1 if table.version is None else table.version
    return {c.run_id: c.version for c in table.history() if c.run_id is not None and c.version <= newest}


def clean(
    layout: Layout, name: str, space_id: str, *, run_id: str, older_than_seconds: float, dry_run: bool = False
) -> Cleaned:
    """Merges the companion's small files, and removes those that it does not name any more; no row goes.

    To be called under the table's lock.

    Args:
        layout: The store.
        name: The table.
        space_id: Its space.
        run_id: What the merging is called in the companion's log.
        older_than_seconds: The least age of what is removed.
        dry_run: Only say what would be removed.

    Returns:
        What was removed; nothing where there is no companion.
    """
    kept = opened(layout, name, space_id)
    if kept is None:
        return Cleaned(files=(), bytes=0)
    if not dry_run and kept.compact(run_id) is not None:
        kept = opened(layout, name, space_id) or kept
    return kept.vacuum([], older_than_seconds, dry_run=dry_run)


def verify(layout: Layout, name: str, space_id: str) -> list[Problem]:
    """Reads every byte of the companion, and looks for runs whose rows are not in it.

    Returns:
        What is wrong; beside what ``FeatureTable.verify`` finds, ``missing_history``. Paths are relative to the
        companion's folder.
    """
    try:
        record, kept = find(layout, name, space_id), opened(layout, name, space_id)
        table = FeatureTable.open(layout, name, space_id) if record is not None else None
    except FeatstoreError as error:
        return [Problem(code="damaged_history", path="", message=error.message)]
    problems = [] if kept is None else [p for p in kept.verify() if p.code != "duplicate_ids"]
    if record is None or table is None:
        return problems
    there = set() if kept is None else {commit.run_id for commit in kept.history()}
    began = -1 if record.base_version is None else record.base_version
    for commit in table.history():
        # Every extract that takes files out takes rows out; what compacts or retypes does not.
        lost = commit.operation == "extract" and commit.files_removed and commit.version > began
        if lost and commit.run_id not in there:
            message = f"the rows that run {commit.run_id} took out of version {commit.version - 1} were not kept"
            problems.append(Problem(code="missing_history", path="", message=message))
    return problems


def _leaving(
    table: FeatureTable, candidate: FeatureTable, remove: Sequence[str]
) -> tuple[NDArray[np.int64], list[str]]:
    """The rows that are in no file of the candidate, in rising order, and why."""
    gone, ranges, start = set(remove), [np.zeros(0, np.int64)], 0
    for file, count in table.file_rows.items():
        if file in gone:
            ranges.append(np.arange(start, start + count))
        start += count
    numbers = np.concatenate(ranges)
    if not len(numbers):
        return numbers, []
    old = table.rows_at(numbers, _BIRTH)
    new = candidate.locate(frames.strings(old, "item_id"), _BIRTH).drop_columns(["_at"])
    before, after = pl.from_arrow(old), pl.from_arrow(new)
    assert isinstance(before, pl.DataFrame)
    assert isinstance(after, pl.DataFrame)
    joined = before.with_columns(at=pl.Series(numbers)).join(
        after, on="item_id", how="left", suffix="_now", maintain_order="left"
    )
    same = (pl.col("run_id") == pl.col("run_id_now")) & (pl.col("created_ts") == pl.col("created_ts_now"))
    left = joined.filter(~same.fill_null(False))
    why = left.select(pl.when(pl.col("run_id_now").is_null()).then(pl.lit(REMOVED)).otherwise(pl.lit(REPLACED)))
    return left["at"].to_numpy().astype(np.int64), why.to_series().to_list()


def _aligned(beside: Layout, kept: FeatureTable, rows: pa.Table, run_id: str) -> tuple[FeatureTable, pa.Table]:
    """The rows as the companion takes them; a column that has changed its type in the table changes it there too."""
    if kept.version is not None and kept.retype(rows, run_id=f"{run_id}-retype") is not None:
        kept = FeatureTable.staging(beside, kept.name, kept.space_id, kept.dim)
    return kept, kept.align(rows, retype=True)


def _holds(kept: FeatureTable, run_id: str) -> bool:
    return run_id in kept.rows(["superseded_by"])["superseded_by"].unique().to_pylist()


def _stale(kept: FeatureTable, known: set[str]) -> list[str]:
    """The companion's files of runs that never took effect."""
    if kept.version is None:
        return []
    rows = kept.rows(["superseded_by"])
    frame = pl.from_arrow(rows)
    assert isinstance(frame, pl.DataFrame)
    effective = pl.col("superseded_by").is_in(list(known)).any()
    return frame.group_by("_file").agg(effective).filter(~pl.col("superseded_by"))["_file"].sort().to_list()
