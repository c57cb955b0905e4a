"""The small records that tables hand out: a written file, a finding of ``verify``, what was cleaned."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Cleaned", "PartFile", "Problem"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PartFile:
    """A Parquet file that a run has written, durable but not visible until it is committed.

    ``path`` is relative to the table's folder, POSIX; ``sha256`` is that of the whole file.
    """

    path: str
    rows: int
    bytes: int
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One thing that ``verify`` found.

    ``code`` is ``missing_file``, ``damaged_file``, ``stray_file``, ``duplicate_ids`` or ``damaged_log``;
    ``path`` is relative to the table's folder. ``harmless`` problems change no answer.
    """

    code: str
    path: str
    message: str
    harmless: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Cleaned:
    """What ``vacuum`` removed: paths relative to the table's folder, and their bytes."""

    files: tuple[str, ...]
    bytes: int
