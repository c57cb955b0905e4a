"""What ``featstore index`` does with the index that is there: nothing, a little, or all of it anew."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from featstore import neighbours
from featstore.records import IndexRequest

if TYPE_CHECKING:
    from featstore.index.freshness import Alignment
    from featstore.records import IndexCard
    from featstore.settings import IndexSettings
    from featstore.tables import FeatureTable

__all__ = ["Action", "Decision", "decide", "wanted"]

Action = Literal["built", "rebuilt", "updated", "carried", "unchanged"]

_RECALL = 0.95
# Vectors of items that have left are passed over at every search; with a quarter more of them than of the others
# they begin to cost what a rebuild saves.
_MOST_TOMBSTONES = 0.2


@dataclass(frozen=True, slots=True)
class Decision:
    """What is to be done, and why. ``updated`` may still become ``rebuilt`` when recall is measured."""

    action: Action
    reason: str
    added: int
    removed: int


def wanted(settings: IndexSettings, before: IndexCard | None) -> IndexRequest:
    """What is asked of the index: what is not said now stays as it was said last, unless all is to be made anew."""
    last = None if before is None or settings.rebuild else before.request
    kind: str | None = settings.kind
    factory = settings.factory
    if last is not None and kind is None and factory is None:
        kind, factory = last.kind, last.factory
    recall = settings.recall or (last.recall if last else _RECALL)
    memory = settings.memory or (last.memory if last else None)
    return IndexRequest(recall=recall, kind=kind, factory=factory, memory=memory)


def decide(
    card: IndexCard | None,
    alignment: Alignment | None,
    why_none: str,
    features: FeatureTable,
    request: IndexRequest,
    rebuild: bool,
) -> Decision:
    """Chooses the least that is enough.

    Args:
        card: The newest index; None where there is none that can be used.
        alignment: How it fits the version.
        why_none: Why there is none.
        features: The version to index.
        request: What is asked for.
        rebuild: Build anew in any case.

    Raises:
        UsageError: What is asked for cannot be.
    """
    n = len(features)
    if card is None or alignment is None:
        return Decision("built", why_none, n, 0)
    added, removed = len(alignment.new), alignment.gone
    anew = "asked for" if rebuild else _why_anew(card, alignment, n, request)
    if anew is not None:
        return Decision("rebuilt", anew, added, removed)
    if not alignment.same:
        return Decision("updated", f"{added:,} added, {removed:,} removed", added, removed)
    if card.version == features.version and card.files == features.file_rows and card.request == request:
        return Decision("unchanged", "it has every item of this version", 0, 0)
    if _meets(card, request):
        return Decision("carried", f"the items are those of version {card.version}", 0, 0)
    return Decision("updated", f"a recall of {request.recall} is asked for now", 0, 0)


def _why_anew(card: IndexCard, alignment: Alignment, n: int, request: IndexRequest) -> str | None:
    best = neighbours.recipes(n, card.dim, kind=request.kind, factory=request.factory, memory=request.memory)[0]
    if request.factory is not None and request.factory != card.factory:
        return f"{request.factory} is asked for, it was {card.factory}"
    if request.kind is not None and request.factory is None and request.kind != card.kind:
        return f"{request.kind} is asked for, it was {card.kind}"
    if request.memory is not None and card.bytes_per_vector * (n + card.tombstones + alignment.gone) > request.memory:
        return f"it has grown beyond {request.memory:,} bytes"
    if card.kind not in ("flat", "hnsw") and n > 1.5 * card.built_items:
        return f"its lists were learnt from {card.built_items:,} items, there are {n:,}"
    if n > 2 * card.built_items and best.kind != card.kind:
        return f"it was chosen for {card.built_items:,} items; {best.kind} suits {n:,}"
    left = card.tombstones + alignment.gone
    if alignment.gone and card.kind == "flat":
        return f"{alignment.gone:,} vectors are dropped, which a flat index does by being written anew"
    if left > _MOST_TOMBSTONES * (n + left):
        return f"{left:,} of its {n + left:,} vectors would be of items that have left"
    return None


def _meets(card: IndexCard, request: IndexRequest) -> bool:
    return card.measured is None or card.measured.recall >= request.recall
