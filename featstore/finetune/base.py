"""The backbone that a fine-tuning begins with: the one that is named, the table's, or what that was tuned from."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from featstore import models
from featstore.errors import FeatstoreError, UsageError
from featstore.models import ModelRequest, kept
from featstore.refresh.drafting import from_here

if TYPE_CHECKING:
    from featstore.extract.progress import Reporter
    from featstore.layout import Layout
    from featstore.models.original import Original
    from featstore.records import ModelCard
    from featstore.settings import ExtractSettings, FinetuneSettings

__all__ = ["Base", "choose", "full_precision"]


@dataclass(frozen=True)
class Base:
    """A backbone to begin with.

    Attributes:
        request: What leads to it, from any folder.
        card: Its card, where the store has the model.
    """

    request: ModelRequest
    card: ModelCard | None

    def load(self, layout: Layout, reporter: Reporter) -> Original:
        """Loads the network.

        Raises:
            FeatstoreError: It cannot be loaded, or is not what the store's card says.
        """
        from featstore.models import making

        original = models.original(layout, self.request, progress=reporter.message)
        if original.joint_id is not None:
            raise _tower(original.model)
        if self.card is not None and making.sketch(original).digest != self.card.digest:
            raise UsageError(
                f"{self.request.model} is not {self.card.space_id} any more: its weights or its preprocessing changed.",
                hint="Name the model and its weights: --model MODEL --weights FILE",
            )
        return original


def choose(layout: Layout, table_card: ModelCard, extract: ExtractSettings, settings: FinetuneSettings) -> Base:
    """Finds the backbone to begin with, without loading it.

    A table's model that was itself fine-tuned is not tuned on: its origin is begun with again, so that no job that
    runs every night drifts away. ``--model SPACE_ID`` does go on from it.

    Args:
        layout: The store.
        table_card: Of the table's model.
        extract: How the table is extracted.
        settings: What was asked.

    Raises:
        NotFoundError: There is no such model.
        UsageError: It has no weights that could be trained, takes other items, or is one of two towers.
    """
    if settings.model is None and settings.weights is None:
        request = _of_table(layout, table_card, extract)
    else:
        request = _asked(layout, settings, extract)
    from featstore.models.catalog import resolve

    if not kept.has(layout, request.model) and resolve(request.model).file is not None:
        raise _graph(request.model)
    card = models.find(layout, request)
    if card is not None and (card.joint_id is not None or card.family == "own"):
        raise _tower(card.model) if card.joint_id is not None else _graph(card.model)
    if models.modality_of(request, layout) != table_card.modality:
        raise UsageError(f"the table holds {table_card.modality}s, and {request.model} takes something else.")
    return Base(request, card)


def full_precision(layout: Layout, card: ModelCard) -> ModelCard:
    """A model's card, or that of the model that it was quantised from."""
    return card if card.quantisation is None else kept.load_card(layout, card.quantisation.base)


def _of_table(layout: Layout, table_card: ModelCard, extract: ExtractSettings) -> ModelRequest:
    from featstore.models import tuned

    card = full_precision(layout, table_card)
    if card.finetuning is not None:
        return tuned.origin(card.finetuning)
    if card.family == "own":
        raise _graph(card.model)
    request = replace(models.plain(models.requested(extract)), table=None)
    return _by_name(layout, card) if kept.has(layout, request.model) else request


def _asked(layout: Layout, settings: FinetuneSettings, extract: ExtractSettings) -> ModelRequest:
    weights = None if settings.weights is None else Path(os.path.abspath(os.path.expanduser(settings.weights)))
    if settings.model is None:
        plain = models.plain(models.requested(extract))
        return replace(plain, weights=weights, table=None)
    if weights is None and kept.has(layout, settings.model):
        card = full_precision(layout, kept.load_card(layout, settings.model))
        return ModelRequest(model=card.space_id) if card.finetuning is not None else _by_name(layout, card)
    return ModelRequest(model=from_here(layout, settings.model), weights=weights)


def _by_name(layout: Layout, card: ModelCard) -> ModelRequest:
    """The request that leads to a space of which only the id is known."""
    if card.family == "own":
        raise _graph(card.model)
    request = ModelRequest(model=card.model)
    try:
        found = models.find(layout, request)
    except FeatstoreError:
        found = None
    if found is None or found.space_id != card.space_id:
        raise UsageError(
            f"the store has the graph of {card.space_id} and not its weights, and the name {card.model} alone does not "
            "lead to them.",
            hint="Name the model and its weights: --model MODEL --weights FILE",
        )
    return request


def _graph(model: str) -> UsageError:
    return UsageError(
        f"{model} is a graph without weights that could be trained.",
        hint="Fine-tune a model of torchvision, timm or transformers: --model NAME",
    )


def _tower(model: str) -> UsageError:
    return UsageError(
        f"{model} is one of two towers whose vectors are compared with each other; trained alone it would leave the "
        "other behind.",
        hint="Fine-tune a model that stands alone: --model NAME",
    )
