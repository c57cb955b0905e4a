"""Fine-tuned models: what they are called, how their weights are kept, and how their network is loaded again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

from featstore.errors import IntegrityError
from featstore.layout import Layout
from featstore.models import kept, making, verified
from featstore.models.catalog import ModelOptions, ModelRequest
from featstore.models.making import Draft
from featstore.models.original import Original
from featstore.records import Finetuning, ModelCard
from featstore.storage import hashing

if TYPE_CHECKING:
    import torch

__all__ = ["fill", "keep", "named", "origin", "pack", "restored", "said"]


def named(original: Original, *, name: str, table: str, label: str, weights: bytes) -> Original:
    """A trained network as a model of its own.

    Args:
        original: The network as it was loaded, with the weights that it was trained to.
        name: What its space is to be called.
        table: What it was trained on.
        label: The labels' name.
        weights: What ``pack`` gave.
    """
    trained = f"{table}: {label}"
    return replace(
        original,
        model=f"{original.model} fine-tuned on {trained}",
        slug=name,
        source=f"{original.source}, fine-tuned on {trained}",
        weights_sha256=hashing.of_bytes(weights),
        training_data=f"{original.training_data}; {trained}",
        joint_id=None,
    )


def pack(original: Original) -> bytes:
    """A network's tensors by their names, as safetensors."""
    from safetensors.torch import save

    # Tensors that share their memory are written twice: the format knows no other way.
    return save({name: tensor.detach().cpu().clone().contiguous() for name, tensor in original.state.items()})


def fill(original: Original, weights: bytes, where: str) -> None:
    """Puts tensors into a network in place.

    Args:
        original: The network.
        weights: What ``pack`` gave for a network of the same kind.
        where: What messages call them.

    Raises:
        IntegrityError: They are damaged, or another network's.
    """
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        found = load(weights)
    except (SafetensorError, KeyError, ValueError) as error:
        raise IntegrityError(f"{where} cannot be read: {error}.") from error
    if _kinds(found) != _kinds(original.state):
        wrong = sorted(set(_kinds(found).items()) ^ set(_kinds(original.state).items()))[0][0]
        raise IntegrityError(
            f"{where} does not hold the tensors of {original.model}: '{wrong}' is not there, or of another shape.",
            hint="They were made with other versions of the libraries, or from another origin.",
        )
    with torch.no_grad():
        for name, tensor in original.state.items():
            tensor.copy_(found[name])


def keep(layout: Layout, made: Draft, finetuning: Finetuning, weights: bytes) -> ModelCard:
    """Takes a fine-tuned model into the store, the card last.

    Args:
        layout: The store.
        made: The model, exported and proven.
        finetuning: How it came about.
        weights: What ``pack`` gave.

    Raises:
        IntegrityError: The store has another model under the same id.
    """
    artefact = kept.artefact(kept.WEIGHTS, weights)
    card = replace(made.card, finetuning=replace(finetuning, weights=artefact))
    return making.publish(layout, Draft(card, {**made.files, kept.WEIGHTS: weights}, made.backbone))


def said(request: ModelRequest) -> tuple[str, str | None, dict[str, str | int | None]]:
    """A request as it is written down: the model, its weights, and what is changed of it."""
    options = {name: value for name, value in asdict(request.options).items() if value is not None}
    return request.model, None if request.weights is None else str(request.weights), options


def origin(finetuning: Finetuning) -> ModelRequest:
    """The request that leads to what a model was fine-tuned from."""
    weights = None if finetuning.base_weights is None else Path(finetuning.base_weights)
    options = ModelOptions(**finetuning.options)  # type: ignore[arg-type]
    return ModelRequest(model=finetuning.base_model, weights=weights, options=options)


def restored(layout: Layout, card: ModelCard, loaded: Original) -> Original:
    """The network of a fine-tuned model.

    Args:
        layout: The store.
        card: The model's card.
        loaded: The network of its origin, which is changed in place.

    Raises:
        IntegrityError: The weights are damaged, or do not make the model that the card describes.
    """
    assert card.finetuning is not None
    path = layout.model(card.space_id, card.finetuning.weights.file)
    weights = verified.read(layout.storage, path, card.finetuning.weights)
    fill(loaded, weights, str(layout.storage.local(path)))
    found = replace(
        loaded,
        model=card.model,
        slug=card.space_id.removesuffix(f"-{card.digest[:8]}"),
        source=card.weights.source,
        weights_sha256=card.weights.sha256,
        training_data=card.weights.training_data,
        joint_id=card.joint_id,
    )
    if making.sketch(found).digest != card.digest:
        raise IntegrityError(
            f"{card.finetuning.base_model} with the weights that were kept of {card.space_id} is another function.",
            hint=f"It was fine-tuned from {card.finetuning.base}; name that model's own files.",
        )
    return found


def _kinds(state: Mapping[str, torch.Tensor]) -> dict[str, tuple[str, tuple[int, ...]]]:
    return {name: (str(tensor.dtype), tuple(tensor.shape)) for name, tensor in state.items()}
