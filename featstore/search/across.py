"""From a text to a table's vectors: which model encodes the text, and how the two are compared."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from featstore.errors import HubError, UsageError
from featstore.layout import Layout
from featstore.models import ModelOptions, ModelRequest, ensure, load_card
from featstore.records import ModelCard

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["Route", "text_route"]

_IMAGE = ":image"


@dataclass(frozen=True)
class Route:
    """How texts meet the vectors of a table.

    Attributes:
        encode_with: The model that encodes the texts, with its query prompt.
        project: What the table's vectors (n, d) float32 have to go through before they are compared, giving
            (n, d_text) float32 of length 1; None where they are compared as they are, and an index of the table serves.
        note: What the user should know of it.
    """

    encode_with: ModelCard
    project: Callable[[NDArray[np.float32]], NDArray[np.float32]] | None = None
    note: str | None = None


def text_route(
    layout: Layout, card: ModelCard, *, to: str | None = None, progress: Callable[[str], None] = lambda _: None
) -> Route:
    """How a table can be searched by text.

    In this order: the table's own model, where it takes texts; the text tower of the same two-tower model, from the
    store; a bridge; the text tower, brought into the store now.

    Args:
        layout: The store.
        card: The model of the table.
        to: The text space that a bridge shall lead to; by default that of the bridge made last.
        progress: Told where a text tower has to be brought into the store.

    Raises:
        UsageError: There is no way from a text to these vectors; the message has those that can be made.
        SpaceMismatchError: A bridge lies there that was made for other spaces.
        HubError: The text tower is on a hub that cannot be reached.
        IntegrityError: A model or bridge of the store is damaged.
    """
    if card.modality == "text":
        return Route(card)
    tower = _tower(layout, card)
    if tower is not None:
        return Route(tower)
    from featstore.bridge import open_bridge

    bridge = open_bridge(layout, card.space_id, to)
    if bridge is not None:
        best = bridge.card.text_to_image[-1]
        note = (
            f"texts find pictures through the bridge to {bridge.card.text_space}: recall@{best.k} {best.value:.2f} "
            f"among {bridge.card.gallery:,.0f} held-out ones, {best.chance:.2f} by chance"
        )
        return Route(load_card(layout, bridge.card.text_space), bridge.project, note)
    if card.joint_id is None:
        raise UsageError(
            f"{card.model} takes images, and nothing leads from a text to its vectors.",
            hint="Make a bridge from pictures with captions: featstore bridge NAME --to minilm --pairs COLUMN. "
            "Or embed the pictures with a model of two towers: "
            "featstore extract … --model hf:openai/clip-vit-base-patch32:image",
        )
    return Route(_brought(layout, card, progress))


def _tower(layout: Layout, card: ModelCard) -> ModelCard | None:
    """The store's text tower whose vectors may be compared with a model's; the one without prompts first."""
    if card.joint_id is None:
        return None
    spaces = (space for space in layout.storage.folders("models") if layout.storage.exists(layout.model_card(space)))
    cards = (load_card(layout, space) for space in spaces)
    towers = [found for found in cards if found.joint_id == card.joint_id and found.modality == "text"]
    return min(towers, key=_preference, default=None)


def _preference(tower: ModelCard) -> tuple[bool, str]:
    assert tower.text is not None
    return bool(tower.text.prompt_query or tower.text.prompt_document), tower.space_id


def _brought(layout: Layout, card: ModelCard, progress: Callable[[str], None]) -> ModelCard:
    """The text tower that the image tower's name leads to, exported into the store."""
    name = f"{card.model.removesuffix(_IMAGE)}:text"
    dim = card.dim if str(card.joint_id).endswith(f"-{card.dim}d") else None
    lacks = f"the store lacks the text tower of {card.model}"
    bring = (
        f"Embed some texts with it once, from where the image tower came from: featstore extract TEXTS --model {name}"
        + (f" --dim {dim}" if dim else "")
        + ". Or make a bridge from pictures with captions: featstore bridge NAME --to minilm --pairs COLUMN"
    )
    if not card.model.endswith(_IMAGE):
        raise UsageError(f"{lacks}.", hint=bring)
    try:
        found = ensure(layout, ModelRequest(model=name, options=ModelOptions(dim=dim)), progress=progress)
    except HubError as error:
        raise HubError(f"{lacks}: {error.message}", hint=bring) from error
    except UsageError as error:
        raise UsageError(f"{lacks}, and its name does not lead there: {error.message}", hint=bring) from error
    if found.joint_id != card.joint_id:
        raise UsageError(
            f"{name} has other weights ({found.joint_id}) than the table's {card.model} ({card.joint_id}): "
            "their vectors cannot be compared.",
            hint=bring,
        )
    return found
