"""Indexes: what was asked of one, what it finds, where it lies."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from featstore.records.store import FORMAT_VERSION, Artefact

__all__ = ["IndexCard", "IndexPlan", "IndexRecall", "IndexRequest", "IndexSummary"]


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexRequest:
    """What an index was asked to be; ``memory`` is in bytes, None where nothing was said."""

    recall: float
    kind: str | None
    factory: str | None
    memory: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexRecall:
    """How much of exact search an index finds, measured.

    ``recall`` is the mean share of the ``k`` nearest by exact cosine that are among the ``k`` found, with its 95 %
    interval, over ``queries`` that had no part in tuning; ``tuned_on`` others had. ``source`` says what they were:
    ``items`` of the table that were not in the index yet, nor any of equal content, or ``given`` vectors such as
    texts. ``version`` is the table's at which that was measured.
    """

    k: int
    recall: float
    low: float
    high: float
    queries: int
    tuned_on: int
    source: Literal["items", "given"]
    version: int
    queries_per_s_single: float
    queries_per_s_batch: float


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexCard:
    """``indexes/NAME/SPACE_ID/VERSION/card.json``: what an index was made from, and how well it does.

    Vectors have length 1 in the index, so that its inner product is the cosine. A FAISS id is a row of the ids'
    file, whose column ``row`` is the item's place in the table at ``version``, null once the item has left: there
    are ``tombstones`` such ids, and with ``ordered`` none and each id is its own row. ``files`` are the version's
    data files and their rows, in reading order. ``search`` holds ``efSearch`` or ``nprobe``, and ``rerank``, the
    candidates for each wanted hit whose cosines are computed anew from the table.

    ``action`` says what the last ``featstore index`` did and ``reason`` why. ``built_items`` counts the vectors when
    everything was last built anew, ``build_seconds`` is what that took. ``measured`` is None where there are too few
    items to ask. ``note`` says what the figures do not.
    """

    format_version: int = FORMAT_VERSION
    name: str
    space_id: str
    version: int
    items: int
    dim: int
    kind: str
    factory: str
    search: dict[str, int]
    metric: Literal["cosine"] = "cosine"
    action: Literal["built", "rebuilt", "updated", "carried", "unchanged"]
    reason: str
    added: int
    removed: int
    ordered: bool
    tombstones: int
    built_items: int
    build_seconds: float
    seconds: float
    bytes_per_vector: float
    request: IndexRequest
    measured: IndexRecall | None
    index: Artefact
    ids: Artefact
    files: dict[str, int]
    versions: dict[str, str]
    created_ts: str
    note: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexPlan:
    """What ``index --dry-run`` would begin with; ``updated`` becomes ``rebuilt`` where recall has fallen.

    ``kinds`` are those to try one after another where all is built anew, as FAISS describes them.
    """

    table: str
    space_id: str
    version: int
    items: int
    action: Literal["built", "rebuilt", "updated", "carried", "unchanged"]
    reason: str
    added: int
    removed: int
    kinds: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexSummary:
    """A table's newest index, made from its ``version``.

    ``kind`` is ``damaged`` where its card cannot be read; ``recall`` is None where there were too few items to ask.
    """

    version: int
    kind: str
    factory: str
    recall: float | None
    k: int | None
    bytes: int
