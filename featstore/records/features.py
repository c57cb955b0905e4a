"""What is written down of reading features at a time: since when a table keeps what leaves it, what was read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from featstore.records.store import FORMAT_VERSION

__all__ = ["FeatureExport", "FeatureOrigin", "HistoryRecord"]


@dataclass(frozen=True, slots=True, kw_only=True)
class HistoryRecord:
    """``history/NAME/SPACE_ID.json``: the table keeps every row that leaves it.

    ``base_version`` is the version that it had when this began, None where it had none: then no row was ever lost.
    ``since_ts`` is that time, ISO 8601 in UTC.
    """

    format_version: int = FORMAT_VERSION
    name: str
    space_id: str
    base_version: int | None
    since_ts: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FeatureOrigin:
    """Where the columns of one address come from, and how many of their rows have no vector.

    ``digest`` is the model card's. ``history_ts`` says since when the table keeps the rows that leave it: None for a
    table that does not. ``reasons`` counts the missing by why.
    """

    address: str
    table: str
    space_id: str
    version: int
    digest: str
    model: str
    licence: str
    dim: int
    columns: tuple[str, ...]
    history_ts: str | None
    missing: int
    reasons: dict[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class FeatureExport:
    """What ``export`` of several tables wrote: a row for each id, the columns of each address beside the others."""

    path: str
    format: Literal["parquet", "csv", "npz"]
    rows: int
    bytes: int
    sha256: str
    as_of: str | None
    tables: tuple[FeatureOrigin, ...]
    seconds: float
