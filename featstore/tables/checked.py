"""Which data files have passed their checksums: by size, time of change and inode.

A cache. Lost, damaged or overwritten by another process, it costs one more verification and nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from featstore.errors import IntegrityError, NotFoundError, StorageError
from featstore.layout import Layout
from featstore.records import FORMAT_VERSION
from featstore.storage import Stat, documents

__all__ = ["CheckedFiles", "recall", "remember"]


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckedFiles:
    """``cache/checked.json``: path in the store → size, mtime in nanoseconds, inode."""

    format_version: int = FORMAT_VERSION
    files: dict[str, tuple[int, int, int]] = field(default_factory=dict)


def recall(layout: Layout) -> dict[str, Stat]:
    """The files that have passed, by path in the store."""
    try:
        found = documents.find(layout.storage, layout.checked_files(), CheckedFiles)
    except (IntegrityError, NotFoundError, StorageError):
        return {}
    return {} if found is None else {path: Stat(*stat) for path, stat in found.files.items()}


def remember(layout: Layout, passed: Mapping[str, Stat]) -> None:
    """Adds files that have passed; those that are gone are dropped."""
    if not passed:
        return
    every = {**recall(layout), **passed}
    kept = {
        path: (stat.size, stat.mtime_ns, stat.inode)
        for path, stat in sorted(every.items())
        if path in passed or layout.storage.exists(path)
    }
    try:
        documents.write(layout.storage, layout.checked_files(), CheckedFiles(files=kept))
    except StorageError:
        return  # a store that cannot be written to can still be read
