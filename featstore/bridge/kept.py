"""Bridges that a store has: written, listed, and opened for exactly the two spaces they were made for."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from featstore.bridge import weights
from featstore.bridge.maps import Map
from featstore.bridge.weights import CARD
from featstore.errors import FeatstoreError, IntegrityError, NotFoundError, SpaceMismatchError
from featstore.layout import Layout
from featstore.models import load_card
from featstore.records import BridgeCard, Finding
from featstore.storage import documents

if TYPE_CHECKING:
    from featstore.records import ModelCard

__all__ = ["Bridge", "bridges", "encode", "open_bridge", "publish", "verify"]

_ANEW = "Make it anew: featstore bridge NAME --to MODEL --pairs …"
_NAMES = ("image_mean", "matrix", "text_mean")


@dataclass(frozen=True)
class Bridge:
    """A linear map from the vectors of an image space into a text space."""

    card: BridgeCard
    map: Map = field(repr=False)

    def project(self, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        """The text vectors that pictures with these vectors would have as captions.

        Args:
            vectors: (n, image_dim) float32 of the bridge's image space, of any length.

        Returns:
            (n, text_dim) float32 of length 1.

        Raises:
            SpaceMismatchError: The vectors have another number of values.
        """
        if vectors.ndim != 2 or vectors.shape[1] != self.card.image_dim:
            raise SpaceMismatchError(
                f"the bridge takes {self.card.image_dim} values, those of {self.card.image_space}; "
                f"got an array of {vectors.shape}."
            )
        return weights.project(self.map, vectors)


def open_bridge(layout: Layout, space_id: str, text_space_id: str | None = None) -> Bridge | None:
    """The bridge that leads from an image space into a text space; None where there is none.

    Args:
        layout: The store.
        space_id: The image space.
        text_space_id: The text space; where none is named and there are several, the bridge made last.

    Raises:
        SpaceMismatchError: What lies there was made for other spaces; both are named.
        IntegrityError: The card or the weights are damaged.
    """
    if text_space_id is None:
        made = bridges(layout, space_id)
        if not made:
            return None
        text_space_id = max(made, key=lambda card: (card.created_ts, card.text_space)).text_space
    for last in (False, True):
        card = _card(layout, space_id, text_space_id)
        if card is None:
            return None
        path = layout.bridge(space_id, text_space_id, card.weights.file)
        try:
            content = layout.storage.read(path)
        except NotFoundError as error:
            if not last:
                continue  # replaced between the two reads
            raise IntegrityError(f"{layout.storage.local(path)} is missing; the bridge's card names it.") from error
        dims = (card.image_dim, card.text_dim)
        where = str(layout.storage.local(path))
        return Bridge(card, weights.decode(content, card.weights, _NAMES, dims, where=where, anew=_ANEW))
    raise AssertionError("unreachable")


def bridges(layout: Layout, space_id: str | None = None) -> list[BridgeCard]:
    """The cards of the store's bridges, or of those of one image space.

    Raises:
        SpaceMismatchError: A bridge lies where it does not belong.
        IntegrityError: A card is damaged.
    """
    images = [space_id] if space_id is not None else layout.storage.folders("bridges")
    found = (_card(layout, image, text) for image in images for text in layout.storage.folders(f"bridges/{image}"))
    return [card for card in found if card is not None]


def verify(layout: Layout, space_id: str) -> list[Finding]:
    """Opens every bridge of an image space: its card and weights by their digests, its spaces by their models."""
    findings = []
    for text in layout.storage.folders(f"bridges/{space_id}"):
        try:
            open_bridge(layout, space_id, text)
        except FeatstoreError as error:
            folder = layout.bridge(space_id, text)
            findings.append(Finding(severity="error", code="damaged_bridge", path=folder, message=error.message))
    return findings


def encode(found: Map) -> bytes:
    """A map as a safetensors file: ``image_mean``, ``matrix`` and ``text_mean``, float32."""
    return weights.encode(found, _NAMES)


def publish(layout: Layout, card: BridgeCard, content: bytes) -> None:
    """Puts a bridge into the store, in place of the one between the same spaces.

    The weights first, under a name of their own, then the card: a reader has the old bridge or the new one.

    Raises:
        LockedError: Another process is at the same bridge.
        StorageError: The disk refused.
    """
    folder = layout.bridge(card.image_space, card.text_space)
    lock = f"bridge-{card.image_space}-{card.text_space}"
    weights.put(layout, folder, card, content, weights=card.weights, lock=lock)


def _card(layout: Layout, image: str, text: str) -> BridgeCard | None:
    """A bridge's card, bound to the spaces whose folder it lies in and to the models that the store has of them."""
    path = layout.bridge(image, text, CARD)
    card = documents.find(layout.storage, path, BridgeCard)
    if card is None:
        return None
    where = layout.storage.local(path)
    if (card.image_space, card.text_space) != (image, text):
        raise SpaceMismatchError(
            f"{where} leads from {card.image_space} to {card.text_space}, not from {image} to {text}.",
            hint=f"A bridge holds for its two spaces only. {_ANEW}",
        )
    for digest, space_id in ((card.image_digest, image), (card.text_digest, text)):
        model = _model(layout, space_id)
        if model is not None and model.digest != digest:
            raise SpaceMismatchError(
                f"{where} was made for another {space_id} (digest {digest[:16]}…) than the one in this store "
                f"({model.digest[:16]}…).",
                hint=_ANEW,
            )
    return card


def _model(layout: Layout, space_id: str) -> ModelCard | None:
    return load_card(layout, space_id) if layout.storage.exists(layout.model_card(space_id)) else None
