"""Maps from an image space into a text space."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from featstore.records.store import FORMAT_VERSION, Artefact

__all__ = ["BridgeCard", "BridgeResult", "RecallAt"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RecallAt:
    """The share of held-out queries whose one right answer is among the first ``k``.

    ``low`` and ``high`` are its 95 % interval; ``chance`` is what an order without meaning would reach.
    """

    k: int
    value: float
    low: float
    high: float
    chance: float


@dataclass(frozen=True, slots=True, kw_only=True)
class BridgeCard:
    """``bridges/IMAGE_SPACE/TEXT_SPACE/card.json``: a linear map from an image space into a text space.

    It is bound to both spaces by their ``space_id`` and the digests of their cards. ``pairs`` of ``table`` at
    ``version`` were learned from; they fall into ``groups``, of which no two share a picture, a caption or nearly one.
    ``strength`` is the ridge's penalty, or the number of dimensions that the rotation turns. The figures are of pairs
    held out: ``queries`` of them, each searched for among ``gallery`` (the mean over the folds).
    """

    format_version: int = FORMAT_VERSION
    image_space: str
    image_digest: str
    image_dim: int
    text_space: str
    text_digest: str
    text_dim: int
    table: str
    version: int
    pairs: int
    groups: int
    method: Literal["ridge", "procrustes"]
    strength: float
    queries: int
    gallery: float
    text_to_image: tuple[RecallAt, ...]
    image_to_text: tuple[RecallAt, ...]
    weights: Artefact
    featstore: str
    created_ts: str


@dataclass(frozen=True, slots=True, kw_only=True)
class BridgeResult:
    """What ``bridge`` learned. ``kept`` is whether it is in the store, ``path`` the folder where it is or would be.

    ``without_caption`` are items that no caption was given for, ``without_item`` captions whose item the table does
    not have, ``refused`` captions that the text model does not take. ``sampled`` says that not all pairs were used.
    """

    card: BridgeCard
    kept: bool
    path: str
    without_caption: int
    without_item: int
    refused: int
    sampled: bool
    seconds: float
    warnings: tuple[str, ...]
