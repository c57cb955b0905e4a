"""Models that a store has: their cards, their graphs opened, their files copied out."""

from __future__ import annotations

from pathlib import Path

from featstore.errors import IntegrityError, NotFoundError
from featstore.layout import Layout
from featstore.models import session
from featstore.records import ModelCard
from featstore.storage import Storage, documents

__all__ = ["export_model", "has", "load_card", "open_backbone", "versions"]


def has(layout: Layout, space_id: str) -> bool:
    """Whether the store has a model under this id; any text may be asked for."""
    plain = space_id not in ("", ".", "..") and not set(space_id) & set("/\\\0")
    return plain and layout.storage.exists(layout.model_card(space_id))


def load_card(layout: Layout, space_id: str) -> ModelCard:
    """Reads a model's card.

    Raises:
        NotFoundError: The store has no such space.
        IntegrityError: The card is damaged, or is another space's.
    """
    if not has(layout, space_id):
        raise NotFoundError(f"the store has no model '{space_id}'.", hint="See: featstore models list")
    card = documents.read(layout.storage, layout.model_card(space_id), ModelCard)
    if card.space_id != space_id:
        raise IntegrityError(
            f"{layout.storage.local(layout.model_card(space_id))} is the card of {card.space_id}, not of {space_id}."
        )
    return card


def open_backbone(layout: Layout, card: ModelCard, *, device: str = "auto", threads: int = 1) -> session.Backbone:
    """Opens a model's graph after comparing it, and the tokenizer, with the card.

    Args:
        layout: The store.
        card: The model's card.
        device: ``cpu``, ``cuda``, ``cuda:1`` or ``auto`` (CUDA where it works, else the CPU).
        threads: CPU threads within one call.

    Raises:
        IntegrityError: A file is missing, damaged, or not what the card describes.
        UsageError: The device does not work here.
    """
    path = layout.model(card.space_id, card.onnx.file)
    content = session.read_verified(layout.storage, path, card.onnx)
    if card.tokenizer is not None:
        session.read_verified(layout.storage, layout.model(card.space_id, card.tokenizer.file), card.tokenizer)
    return session.open_bytes(card, content, name=str(layout.storage.local(path)), device=device, threads=threads)


def export_model(layout: Layout, card: ModelCard, target: Path) -> list[Path]:
    """Copies a model, verified, into a folder: graph, tokenizer, card, canaries and a note on its licence.

    Args:
        layout: The store.
        card: The model's card.
        target: The folder; it is made. Files of the same names are replaced.

    Returns:
        The files written.

    Raises:
        IntegrityError: A file of the model is missing or damaged; nothing is written then.
    """
    artefacts = [card.onnx, card.canaries, *([card.tokenizer] if card.tokenizer else [])]
    contents = {
        a.file: session.read_verified(layout.storage, layout.model(card.space_id, a.file), a) for a in artefacts
    }
    contents["card.json"] = layout.storage.read(layout.model_card(card.space_id))
    weights = card.weights
    contents["LICENCE.txt"] = (
        f"{card.model} ({card.space_id})\n"
        f"Weights from: {weights.source}\n"
        f"Licence of the weights, as their source states it: {weights.licence}\n"
        f"Trained on: {weights.training_data}\n" + (f"See: {weights.url}\n" if weights.url else "")
    ).encode()
    folder_storage = Storage.at(target)
    for name, content in contents.items():
        folder_storage.write(name, content)
    return [folder_storage.local(name) for name in contents]


def versions() -> dict[str, str]:
    """The installed versions of what computes vectors; absent packages are left out. Imports none of them."""
    import importlib.metadata as metadata
    import platform

    found = {"python": platform.python_version()}
    for name in (
        "featstore",
        "numpy",
        "onnx",
        "onnxruntime",
        "onnxruntime-gpu",
        "onnxscript",
        "safetensors",
        "timm",
        "tokenizers",
        "torch",
        "torchvision",
        "transformers",
    ):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found
