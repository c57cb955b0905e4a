"""What looking after a store finds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["Check", "DoctorReport", "Finding", "GcReport", "VerifyReport"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that ``verify`` found wrong, or worth knowing."""

    severity: Literal["error", "warning"]
    code: str
    path: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifyReport:
    """What ``verify`` looked at. ``ok`` is whether there is no finding of severity error."""

    ok: bool
    tables: int
    files: int
    bytes: int
    rows: int
    models: int
    sampled: int
    min_cosine: float | None
    seconds: float
    findings: tuple[Finding, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class GcReport:
    """What ``gc`` removed and rewrote, or with ``--dry-run`` would."""

    dry_run: bool
    tables: int
    compacted_files: int
    written_files: int
    removed_files: int
    removed_bytes: int
    kept_versions: dict[str, list[int]]
    kept_heads: dict[str, list[int]]
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One line of ``doctor``."""

    name: str
    status: Literal["ok", "warning", "error"]
    value: str
    hint: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DoctorReport:
    """What ``doctor`` found out about this machine and store."""

    ok: bool
    checks: tuple[Check, ...]
