"""Tables and their versions, in a line each."""

from __future__ import annotations

from dataclasses import dataclass

from featstore.records.indexes import IndexSummary
from featstore.records.store import Modality

__all__ = ["TableSummary", "TableVersion"]


@dataclass(frozen=True, slots=True, kw_only=True)
class TableSummary:
    """One line of ``ls``, and the head of ``show``: a table at one version.

    ``newest`` is the version that was committed last. ``published`` is the version that the table's bare name means, in
    this space; None where nothing of it is published in this space. While ``held``, jobs publish nothing.
    """

    table: str
    space_id: str
    version: int
    items: int
    dim: int
    bytes: int
    modality: Modality
    model: str
    source: str
    rejects: int
    updated_ts: str
    columns: tuple[str, ...]
    path: str
    index: IndexSummary | None = None
    newest: int | None = None
    published: int | None = None
    held: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class TableVersion:
    """One side of a ``diff``."""

    table: str
    space_id: str
    version: int
    items: int
    dim: int
