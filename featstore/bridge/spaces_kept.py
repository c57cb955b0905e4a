"""Bridges between two models' spaces: written, listed, and opened for exactly the two they were made for."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from featstore.bridge import weights
from featstore.bridge.maps import Map
from featstore.bridge.weights import CARD
from featstore.errors import FeatstoreError, IntegrityError, NotFoundError, SpaceMismatchError
from featstore.layout import Layout
from featstore.models import load_card
from featstore.records import Finding, SpaceBridgeCard
from featstore.storage import documents

__all__ = ["SpaceBridge", "encode", "open_space_bridge", "publish_spaces", "space_bridges", "verify"]

_NAMES = ("from_mean", "matrix", "to_mean")
_FOLDER = "crossings"


@dataclass(frozen=True)
class SpaceBridge:
    """A linear map from the vectors of one model into the space of another of the same modality."""

    card: SpaceBridgeCard
    map: Map = field(repr=False)

    def project(self, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        """The vectors that the other model would about give.

        Args:
            vectors: (n, from_dim) float32 of the space that the bridge leads from, of any length.

        Returns:
            (n, to_dim) float32 of length 1; a vector of zeros becomes the mean of what was learned from.

        Raises:
            SpaceMismatchError: The vectors have another number of values.
        """
        if vectors.ndim != 2 or vectors.shape[1] != self.card.from_dim:
            raise SpaceMismatchError(
                f"the bridge to {self.card.to_space} takes {self.card.from_dim} values, those of "
                f"{self.card.from_space}; got an array of {vectors.shape}."
            )
        return weights.project(self.map, vectors)


def open_space_bridge(layout: Layout, from_space: str, to_space: str) -> SpaceBridge | None:
    """The bridge that leads from one space into another; None where there is none.

    Raises:
        SpaceMismatchError: What lies there was made for other spaces, or for other models of these names; both are
            named.
        IntegrityError: The card or the weights are damaged.
    """
    for last in (False, True):
        card = _card(layout, from_space, to_space)
        if card is None:
            return None
        path = layout.crossing(from_space, to_space, card.weights.file)
        where = str(layout.storage.local(path))
        try:
            content = layout.storage.read(path)
        except NotFoundError as error:
            if not last:
                continue  # replaced between the two reads
            raise IntegrityError(f"{where} is missing; the bridge's card names it.", hint=_anew(card)) from error
        dims = (card.from_dim, card.to_dim)
        return SpaceBridge(card, weights.decode(content, card.weights, _NAMES, dims, where=where, anew=_anew(card)))
    raise AssertionError("unreachable")


def space_bridges(
    layout: Layout, *, from_space: str | None = None, to_space: str | None = None
) -> list[SpaceBridgeCard]:
    """The cards of the store's bridges between models' spaces, or of those from or to one.

    Raises:
        SpaceMismatchError: A bridge lies where it does not belong.
        IntegrityError: A card is damaged.
    """
    found = (_card(layout, one, other) for one, other in _pairs(layout, from_space, to_space))
    return [card for card in found if card is not None]


def verify(layout: Layout, space_id: str) -> list[Finding]:
    """Opens every bridge that leads into a space: its card and weights by their digests, its spaces by their models."""
    findings = []
    for one, other in _pairs(layout, None, space_id):
        try:
            open_space_bridge(layout, one, other)
        except FeatstoreError as error:
            folder = layout.crossing(one, other)
            findings.append(Finding(severity="error", code="damaged_bridge", path=folder, message=error.message))
    return findings


def encode(found: Map) -> bytes:
    """A map as a safetensors file: ``from_mean``, ``matrix`` and ``to_mean``, float32."""
    return weights.encode(found, _NAMES)


def publish_spaces(layout: Layout, bridge: SpaceBridge) -> None:
    """Puts a bridge into the store, in place of the one between the same spaces; readers have one or the other.

    Raises:
        LockedError: Another process is at the same bridge.
        StorageError: The disk refused.
    """
    card = bridge.card
    folder = layout.crossing(card.from_space, card.to_space)
    lock = f"crossing-{card.from_space}-{card.to_space}"
    weights.put(layout, folder, card, encode(bridge.map), weights=card.weights, lock=lock)


def _pairs(layout: Layout, from_space: str | None, to_space: str | None) -> list[tuple[str, str]]:
    starts = [from_space] if from_space is not None else layout.storage.folders(_FOLDER)
    return [
        (one, other)
        for one in starts
        for other in layout.storage.folders(f"{_FOLDER}/{one}")
        if to_space in (None, other)
    ]


def _card(layout: Layout, from_space: str, to_space: str) -> SpaceBridgeCard | None:
    """A bridge's card, bound to the spaces whose folder it lies in and to the models that the store has of them."""
    path = layout.crossing(from_space, to_space, CARD)
    card = documents.find(layout.storage, path, SpaceBridgeCard)
    if card is None:
        return None
    where = layout.storage.local(path)
    if (card.from_space, card.to_space) != (from_space, to_space):
        raise SpaceMismatchError(
            f"{where} leads from {card.from_space} to {card.to_space}, not from {from_space} to {to_space}.",
            hint=f"A bridge holds for its two spaces only. {_anew(card)}",
        )
    for digest, space_id, other in ((card.from_digest, from_space, to_space), (card.to_digest, to_space, from_space)):
        if not layout.storage.exists(layout.model_card(space_id)):
            continue
        model = load_card(layout, space_id)
        if model.digest != digest:
            raise SpaceMismatchError(
                f"{where} was made for another {space_id} (digest {digest[:16]}…) than the one in this store "
                f"({model.digest[:16]}…), to go with {other}.",
                hint=_anew(card),
            )
    return card


def _anew(card: SpaceBridgeCard) -> str:
    return f"Make it anew: featstore bridge {card.table}@{card.from_space} --onto {card.table}@{card.to_space}"
