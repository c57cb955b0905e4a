"""What a card says of an index beside its recall."""

from __future__ import annotations

import importlib.metadata
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from featstore.errors import NotFoundError
from featstore.models import load_card
from featstore.records import Artefact, IndexCard, IndexRequest

if TYPE_CHECKING:
    from featstore.index.deciding import Decision
    from featstore.index.freshness import Alignment
    from featstore.layout import Layout
    from featstore.records import IndexRecall
    from featstore.tables import FeatureTable

__all__ = ["blank", "note", "renewed"]

_NONE = Artefact(file="", sha256="", bytes=0)


def renewed(
    card: IndexCard,
    features: FeatureTable,
    rows: NDArray[np.int64],
    decision: Decision,
    alignment: Alignment | None,
) -> IndexCard:
    """The card for another version.

    Args:
        card: The one there was, or a blank one.
        features: The version.
        rows: (count,) int64, for each FAISS id its row, -1 for an item that has left.
        decision: What is done.
        alignment: How the index there was fits the version; None where there was none.
    """
    assert features.version is not None
    left = int((rows < 0).sum())
    return replace(
        card,
        name=features.name,
        space_id=features.space_id,
        version=features.version,
        items=len(features),
        dim=features.dim,
        action=decision.action,
        reason=decision.reason,
        added=len(features) if alignment is None else len(alignment.new),
        removed=0 if alignment is None else alignment.gone,
        ordered=not left and bool((rows == np.arange(len(rows))).all()),
        tombstones=left,
        files=features.file_rows,
        versions={name: importlib.metadata.version(name) for name in ("faiss-cpu", "featstore")},
        created_ts=f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}",
    )


def note(layout: Layout, features: FeatureTable, measured: IndexRecall | None, *, given: bool) -> str | None:
    """What the figures do not say; ``given`` is whether the queries were."""
    if measured is None:
        return "there are too few items to measure recall on"
    if given or not _two_towers(layout, features.space_id):
        return None
    return (
        "tuned on the table's own images; texts lie elsewhere in this space, and fewer of their neighbours may be "
        "found: tune on texts with --queries FILE"
    )


def blank(features: FeatureTable) -> IndexCard:
    """A card to be filled in."""
    return IndexCard(
        name=features.name,
        space_id=features.space_id,
        version=-1,
        items=0,
        dim=features.dim,
        kind="",
        factory="",
        search={},
        action="built",
        reason="",
        added=0,
        removed=0,
        ordered=False,
        tombstones=0,
        built_items=0,
        build_seconds=0.0,
        seconds=0.0,
        bytes_per_vector=0.0,
        request=IndexRequest(recall=0.0, kind=None, factory=None, memory=None),
        measured=None,
        index=_NONE,
        ids=_NONE,
        files={},
        versions={},
        created_ts="",
    )


def _two_towers(layout: Layout, space_id: str) -> bool:
    """Whether texts may be compared with a table's images as they are."""
    try:
        card = load_card(layout, space_id)
    except NotFoundError:
        return False
    return card.joint_id is not None and card.modality == "image"
