"""Which data files have passed their checksums: by size, times of change and inode.

A cache. Lost, damaged or overwritten by another process, it costs one more verification and nothing else.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field

from featstore.errors import IntegrityError, NotFoundError, StorageError
from featstore.layout import Layout
from featstore.records import FORMAT_VERSION
from featstore.storage import Stat, documents

__all__ = ["CheckedFiles", "distinct", "recall", "remember"]


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckedFiles:
    """``cache/checked.json``: path in the store → size, mtime in nanoseconds, inode, ctime in nanoseconds.

    ``distinct`` has, by table folder, the digest of the files in which no id occurs twice.
    """

    format_version: int = FORMAT_VERSION
    files: dict[str, tuple[int, int, int, int]] = field(default_factory=dict)
    distinct: dict[str, str] = field(default_factory=dict)


def recall(layout: Layout) -> dict[str, Stat]:
    """The files that have passed, by path in the store."""
    return {path: Stat(*stat) for path, stat in _read(layout).files.items()}


def distinct(layout: Layout, folder: str) -> str | None:
    """The digest of the files of a table in which no id was found twice."""
    return _read(layout).distinct.get(folder)


def remember(layout: Layout, passed: Mapping[str, Stat], *, distinct: tuple[str, str] | None = None) -> None:
    """Adds files that have passed, or a table without double ids; those that are gone are dropped."""
    if not passed and distinct is None:
        return
    with _writing:
        _remember(layout, passed, distinct)


# matrix() looks at ids and vectors in two threads.
_writing = threading.Lock()


def _remember(layout: Layout, passed: Mapping[str, Stat], distinct: tuple[str, str] | None) -> None:
    before = _read(layout)
    every = {**{path: Stat(*stat) for path, stat in before.files.items()}, **passed}
    kept = {
        path: (stat.size, stat.mtime_ns, stat.inode, stat.ctime_ns)
        for path, stat in sorted(every.items())
        if path in passed or layout.storage.exists(path)
    }
    try:
        tables = {**before.distinct, **dict([distinct] if distinct else [])}
        tables = {folder: digest for folder, digest in sorted(tables.items()) if layout.storage.exists(folder)}
        documents.write(layout.storage, layout.checked_files(), CheckedFiles(files=kept, distinct=tables))
    except StorageError:
        return  # a store that cannot be written to can still be read


def _read(layout: Layout) -> CheckedFiles:
    try:
        return documents.find(layout.storage, layout.checked_files(), CheckedFiles) or CheckedFiles()
    except (IntegrityError, NotFoundError, StorageError):
        return CheckedFiles()
