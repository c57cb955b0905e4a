"""A table's past, as its log tells it."""

from __future__ import annotations

from datetime import UTC, datetime

from featstore.records import CommitInfo
from featstore.tables.entries import Commit
from featstore.tables.log import DeltaLog

__all__ = ["history"]


def history(log: DeltaLog) -> list[CommitInfo]:
    """Every commit, the newest first.

    Rows are those of whole files added and removed, unless the run told how many items it added and removed.
    """
    rows: dict[str, int] = {}
    found = []
    for commit in log.commits():
        rows |= {path: file.rows for path, file in commit.adds.items()}
        found.append(_entry(commit, rows))
    return found[::-1]


def _entry(commit: Commit, rows: dict[str, int]) -> CommitInfo:
    details = commit.info.get("details", {})
    added = sum(file.rows for file in commit.adds.values())
    removed = sum(rows.get(path, 0) for path in commit.removes)
    moment = datetime.fromtimestamp(commit.timestamp_ms / 1000, UTC)
    return CommitInfo(
        version=commit.version,
        timestamp=moment.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        operation=str(commit.info.get("operation", commit.operation.lower())),
        run_id=commit.run_id,
        rows_added=_told(details, "rows_added", added),
        rows_removed=_told(details, "rows_removed", removed),
        files_added=len(commit.adds),
        files_removed=len(commit.removes),
    )


def _told(details: object, key: str, otherwise: int) -> int:
    told = details.get(key) if isinstance(details, dict) else None
    return int(told) if isinstance(told, str | int) and str(told).isdigit() else otherwise
