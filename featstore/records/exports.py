"""What is written out of a table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from featstore.records.store import FORMAT_VERSION

__all__ = ["ExportOrigin", "ExportResult"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportOrigin:
    """Where the vectors of an exported file come from.

    Parquet, npz and safetensors files hold it as JSON under the key ``featstore``; beside ``FILE.csv`` it is the
    document ``FILE.csv.json``, and ``sha256`` is that of the CSV file. ``digest`` is the model card's.
    """

    format_version: int = FORMAT_VERSION
    table: str
    space_id: str
    digest: str
    version: int
    model: str
    licence: str
    dim: int
    rows: int
    columns: tuple[str, ...]
    where: str | None
    as_of: str | None
    ids: int | None
    sha256: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportResult:
    """What ``export`` wrote: ``rows`` of the version's ``items``.

    ``missing`` are the ids asked for that the version does not hold, ``missing_ids`` the first of them.
    """

    table: str
    space_id: str
    version: int
    dim: int
    format: Literal["parquet", "csv", "npz", "safetensors"]
    path: str
    rows: int
    items: int
    bytes: int
    sha256: str
    columns: tuple[str, ...]
    missing: int
    missing_ids: tuple[str, ...]
    seconds: float
