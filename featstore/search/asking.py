"""Asking with another model than the table's: found in the store, and led into the table's space by a bridge."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from featstore.errors import NotFoundError, SpaceMismatchError, UsageError
from featstore.layout import Layout
from featstore.models import ModelRequest, find, load_card
from featstore.records import ModelCard
from featstore.tables import FeatureTable

__all__ = ["Asking", "asking", "model_of"]

Project = Callable[[NDArray[np.float32]], NDArray[np.float32]]


@dataclass(frozen=True)
class Asking:
    """How the vectors of a model meet those of a table in another space.

    Attributes:
        card: The model, which encodes the queries with its own prompt for them.
        of_queries: What its vectors (q, d) float32 go through, giving vectors of the table's space, so that an index of
            the table serves; None where they are compared as they are.
        of_table: What the table's vectors go through instead, so that no index serves; None where they stay.
        note: What the user should know of it.
    """

    card: ModelCard
    of_queries: Project | None = None
    of_table: Project | None = None
    note: str | None = None


def asking(layout: Layout, table: FeatureTable, own: ModelCard, model: str) -> Asking | None:
    """The way from a model to a table; None where the model is the table's own.

    In this order: the other tower of the same two-tower model, whose vectors are compared as they are; the bridge from
    its space to the table's; for a text model and pictures, the bridge of captions.

    Args:
        layout: The store.
        table: The table.
        own: The card of the table's model.
        model: A model of the store, as ``model_of`` takes it.

    Raises:
        NotFoundError: The store has no such model.
        UsageError: Several of its models fit.
        SpaceMismatchError: No bridge leads from the one space to the other, or the one there is for others.
        IntegrityError: A bridge is damaged.
    """
    from featstore.bridge import open_bridge, open_space_bridge

    card = model_of(layout, model)
    if card.digest == own.digest:
        return None
    # Two image towers of one model differ in how they read a picture: those are two spaces like any others.
    if card.joint_id is not None and card.joint_id == own.joint_id and None in (card.image, own.image):
        return Asking(card)
    bridge = open_space_bridge(layout, card.space_id, own.space_id)
    if bridge is not None:
        best = bridge.card.reembedded[-1]
        return Asking(
            card,
            of_queries=bridge.project,
            note=f"queries of {card.space_id} go through the bridge to {own.space_id}: of the first {best.k} that "
            f"re-embedding would give they find {best.value:.2f} [{best.low:.2f}–{best.high:.2f}] among "
            f"{bridge.card.gallery:,.0f} held-out items, {best.chance:.2f} by chance",
        )
    captions = open_bridge(layout, own.space_id, card.space_id) if card.modality != own.modality else None
    if captions is not None:
        most = captions.card.text_to_image[-1]
        return Asking(
            card,
            of_table=captions.project,
            note=f"texts find pictures through the bridge to {card.space_id}: recall@{most.k} {most.value:.2f} among "
            f"{captions.card.gallery:,.0f} held-out ones, {most.chance:.2f} by chance",
        )
    raise SpaceMismatchError(
        f"queries of {card.space_id} cannot be compared with '{table.name}', which is in the space {own.space_id}: no "
        "bridge leads from the one to the other.",
        hint=_make_one(table, card, own),
    )


def model_of(layout: Layout, name: str) -> ModelCard:
    """The card of a model that the store has, by its name or by any beginning of its space; without torch or a network.

    Raises:
        NotFoundError: The store has no such model.
        UsageError: Several spaces begin so, or it is no name.
        IntegrityError: What the store has of it is damaged.
    """
    spaces = [space for space in layout.storage.folders("models") if layout.storage.exists(layout.model_card(space))]
    if name in spaces:
        return load_card(layout, name)
    try:
        found = find(layout, ModelRequest(model=name))
    except NotFoundError:
        found = None
    if found is not None:
        return found
    begun = name.lower().replace(":", "-").replace("_", "-")
    fitting = [space for space in spaces if space.startswith((name, begun))]
    if len(fitting) > 1:
        raise UsageError(f"several models of the store begin with '{name}': {', '.join(fitting)}.", hint="Say which.")
    if not fitting:
        raise NotFoundError(
            f"the store has no model '{name}'; it has: {', '.join(spaces) or 'none yet'}.",
            hint="A model comes into the store when something is embedded with it: featstore extract SOURCE --model "
            + name,
        )
    return load_card(layout, fitting[0])


def _make_one(table: FeatureTable, card: ModelCard, own: ModelCard) -> str:
    if card.modality == own.modality:
        return (
            f"Make one from items that both have embedded: featstore bridge {table.name}@{card.space_id} "
            f"--onto {table.name}@{own.space_id}"
        )
    if own.modality == "image":
        return (
            f"Make one from pictures with captions: featstore bridge {table.name}@{own.space_id} --to {card.space_id} "
            "--pairs COLUMN"
        )
    return f"{card.space_id} takes pictures and '{table.name}' holds texts: only the two towers of one model join them."
