"""A model that would be a space which the store has already: proven to be that one before it is taken for it.

Two models of equal digest should compute the same; a bundle, though, says its digest of itself.
"""

from __future__ import annotations

from featstore.errors import FeatstoreError, IntegrityError, RetryableError
from featstore.layout import Layout
from featstore.models import kept, parity, session, verified
from featstore.models.original import Original
from featstore.records import ModelCard

__all__ = ["check_graph", "check_original"]


def check_original(layout: Layout, existing: ModelCard, original: Original, *, threads: int) -> None:
    """Compares an original with the store's graph, as the gate compares it with its own export.

    Raises:
        IntegrityError: They differ, or the store's files are damaged.
    """
    backbone = kept.open_backbone(layout, existing, device="cpu", threads=threads)
    try:
        parity.gate(original, backbone)
    except RetryableError:
        raise
    except FeatstoreError as error:
        raise _differs(layout, existing, original.model) from error


def check_graph(layout: Layout, existing: ModelCard, backbone: session.Backbone, *, name: str) -> None:
    """Lets a graph compute the canaries of the store's space.

    Args:
        layout: The store.
        existing: The card of the space.
        backbone: The graph, opened.
        name: How to call it in messages.

    Raises:
        IntegrityError: The vectors differ, or the store's files are damaged.
    """
    path = layout.model(existing.space_id, existing.canaries.file)
    raw = verified.read(layout.storage, path, existing.canaries)
    try:
        parity.compare_canaries(existing, raw, backbone)
    except RetryableError:
        raise
    except FeatstoreError as error:
        raise _differs(layout, existing, name) from error


def _differs(layout: Layout, existing: ModelCard, name: str) -> IntegrityError:
    place = layout.storage.local(layout.model_card(existing.space_id)).parent
    return IntegrityError(
        f"{name} and the store's {existing.space_id} say that they are the same function, and give other vectors.",
        hint=f"One of them is not what it says. If it is the store's ({existing.weights.source}), its tables are "
        f"wrong too: remove them and {place}. Else leave {name} alone.",
    )
