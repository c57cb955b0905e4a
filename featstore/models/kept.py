"""Models that a store has: put there, their cards, their graphs opened, their files copied out."""

from __future__ import annotations

import time
from pathlib import Path

from featstore.errors import IntegrityError, LockedError, NotFoundError
from featstore.layout import Layout
from featstore.models import session, verified
from featstore.records import Artefact, ModelCard
from featstore.storage import Storage, documents, hashing, locks

__all__ = [
    "LICENCE",
    "WEIGHTS",
    "artefact",
    "artefacts",
    "contents",
    "equal_space",
    "export_model",
    "has",
    "is_plain",
    "load_card",
    "open_backbone",
    "publish",
    "versions",
]

LICENCE = "LICENCE.txt"
"""The note on the licence in what is exported."""

WEIGHTS = "weights.safetensors"
"""The tensors of a fine-tuned model."""

_LOCK_SECONDS = 60.0


def has(layout: Layout, space_id: str) -> bool:
    """Whether the store has a model under this id; any text may be asked for."""
    return is_plain(space_id) and layout.storage.exists(layout.model_card(space_id))


def is_plain(space_id: str) -> bool:
    """Whether a text can be the name of a model's folder."""
    return space_id not in ("", ".", "..", "refs") and not set(space_id) & set("/\\\0") and len(space_id) <= 128


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


def open_backbone(
    layout: Layout,
    card: ModelCard,
    *,
    device: str = "auto",
    threads: int = 1,
    backend: str | None = None,
    callers: int = 1,
    mapped: bool = False,
) -> session.Backbone:
    """Opens a model's graph after comparing it, and the tokenizer, with the card.

    Args:
        layout: The store.
        card: The model's card.
        device: ``cpu``, ``cuda``, ``cuda:1`` or ``auto`` (CUDA where it works, else the CPU).
        threads: CPU threads within one call.
        backend: ``onnxruntime`` (the default) or ``openvino``.
        callers: How many threads will call at once.
        mapped: Use the weights where they lie in the file: it opens sooner and takes less memory. For answers that
            are not kept: a file that is written over in its place, which featstore never does, would change them.

    Raises:
        IntegrityError: A file is missing, damaged, or not what the card describes.
        UsageError: The device or the backend does not work here.
    """
    path = layout.model(card.space_id, card.onnx.file)
    content = (verified.mapped if mapped else verified.read)(layout.storage, path, card.onnx)
    if card.tokenizer is not None:
        verified.read(layout.storage, layout.model(card.space_id, card.tokenizer.file), card.tokenizer)
    return session.open_bytes(
        card,
        content,
        name=str(layout.storage.local(path)),
        file=layout.storage.local(path) if mapped else None,
        device=device,
        threads=threads,
        backend=backend,
        callers=callers,
    )


def publish(layout: Layout, card: ModelCard, files: dict[str, bytes]) -> ModelCard:
    """Writes a model's files and its card under a lock, the card last.

    Of two that made the same model at once, the second takes the first's.

    Raises:
        IntegrityError: The store has another model under the same id.
        LockedError: Another process has been at it for a minute.
    """
    deadline = time.monotonic() + _LOCK_SECONDS
    while True:
        try:
            with locks.hold(layout.storage, layout.lock(f"model-{card.space_id}"), purpose=f"keeping {card.space_id}"):
                if layout.storage.exists(layout.model_card(card.space_id)):
                    existing = load_card(layout, card.space_id)
                    if existing.digest != card.digest:
                        raise IntegrityError(
                            f"the store has another model under the id {card.space_id} (digest "
                            f"{existing.digest[:16]}…, not {card.digest[:16]}…).",
                            hint="Use another store for this model.",
                        )
                    return existing
                for name, content in files.items():
                    layout.storage.write(layout.model(card.space_id, name), content)
                documents.write(layout.storage, layout.model_card(card.space_id), card)
                return card
        except LockedError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)


def equal_space(layout: Layout, digest: str) -> ModelCard | None:
    """A space already in the store that is this very function, under whatever name."""
    for name in layout.storage.folders("models"):
        if name.endswith(digest[:8]) and layout.storage.exists(layout.model_card(name)):
            card = load_card(layout, name)
            if card.digest == digest:
                return card
    return None


def artefact(name: str, content: bytes) -> Artefact:
    """A file of a model, bound to its bytes."""
    return Artefact(file=name, sha256=hashing.of_bytes(content), bytes=len(content))


def artefacts(card: ModelCard) -> tuple[Artefact, ...]:
    """The files of a model beside its card: graph, tokenizer, canaries, and the weights of a fine-tuned one."""
    weights = None if card.finetuning is None else card.finetuning.weights
    return tuple(one for one in (card.onnx, card.tokenizer, card.canaries, weights) if one is not None)


def contents(layout: Layout, card: ModelCard) -> dict[str, bytes]:
    """All files of a model for another place, verified: those of ``artefacts``, the card, a note on its licence.

    Raises:
        IntegrityError: A file is missing or damaged.
    """
    found = {a.file: verified.read(layout.storage, layout.model(card.space_id, a.file), a) for a in artefacts(card)}
    found["card.json"] = layout.storage.read(layout.model_card(card.space_id))
    weights = card.weights
    found[LICENCE] = (
        f"{card.model} ({card.space_id})\n"
        f"Weights from: {weights.source}\n"
        f"Licence of the weights, as their source states it: {weights.licence}\n"
        f"Trained on: {weights.training_data}\n" + (f"See: {weights.url}\n" if weights.url else "")
    ).encode()
    return found


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
    found = contents(layout, card)
    folder_storage = Storage.at(target)
    for name, content in found.items():
        folder_storage.write(name, content)
    return [folder_storage.local(name) for name in found]


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
        "openvino",
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
