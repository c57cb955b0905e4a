"""Results of commands that are no documents of the store: what their ``--json`` prints."""

from __future__ import annotations

from dataclasses import dataclass

from featstore.models import CatalogEntry
from featstore.records import ModelCard

__all__ = ["ModelDetails", "ModelLine", "RejectLine", "SearchHit", "TablePaths"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RejectLine:
    """One line of ``show NAME --rejects``."""

    item_id: str
    content_sha256: str | None
    stage: str
    code: str
    message: str
    run_id: str
    created_ts: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TablePaths:
    """``show NAME --paths``: where things lie; None for what is not there."""

    table: str
    space_id: str
    store: str
    features: str
    model: str
    source: str | None
    rejects: str | None
    previews: str | None
    index: str | None
    index_ids: str | None
    runs: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelLine:
    """One line of ``models list``: a name, and the spaces of it that the store holds."""

    name: str
    entry: CatalogEntry | None
    spaces: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelDetails:
    """``models show``: what is known of a model, and its card once the store holds it."""

    model: str
    entry: CatalogEntry | None
    card: ModelCard | None


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchHit:
    """One hit of ``search``; the table's own columns follow, whose names are the source's.

    ``query`` is the text, the picture's path, the item's id, or what the file of queries calls it; ``rank`` counts
    from 1; ``score`` is the cosine. A column that is called like one of these four has a ``_`` at its end.
    """

    __pydantic_config__ = {"extra": "allow"}  # noqa: RUF012 – read by pydantic, which is at home elsewhere

    query: str
    rank: int
    item_id: str
    score: float
    content_sha256: str
