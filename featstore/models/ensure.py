"""From a model's name to a card in the store: found by reference, or loaded, exported, proven and kept."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from featstore.errors import NotFoundError
from featstore.layout import Layout
from featstore.models import folder, kept, space
from featstore.models.catalog import ModelRequest, Target, resolve
from featstore.records import ModelCard, Reference
from featstore.storage import documents, hashing

if TYPE_CHECKING:
    from featstore.models.original import Original

__all__ = ["ensure", "find"]


def ensure(layout: Layout, request: ModelRequest, *, progress: Callable[[str], None] = lambda _: None) -> ModelCard:
    """The card of a model, exported into the store at its first use.

    A reference in the store leads straight to the card, without torch and without a network. Otherwise
    the model is loaded; if a space of equal digest is there, it is that one, else the graph is exported,
    passes the parity gate and is kept, the card last.

    Args:
        layout: The store.
        request: ``--model`` (a name, a folder, or the id of a space in this store) and ``--weights``.
        progress: Told about downloads and slow steps.

    Raises:
        NotFoundError: There is no such model, weights file or package.
        UsageError: The weights do not fit, or the model cannot be exported.
        HubError: The official weights cannot be downloaded.
        IntegrityError: Weights, or what the store has of the model, are damaged.
        GateError: The exported graph does not compute what the original does.
    """
    known = find(layout, request)
    if known is not None:
        return known
    target = resolve(request.model)
    from featstore.models import making

    original = _load(target, request.weights, progress)
    card = making.keep(layout, original, progress)
    key = _key(target, request)
    documents.write(
        layout.storage, layout.reference(key), Reference(key=key, model=target.label, space_id=card.space_id)
    )
    return card


def find(layout: Layout, request: ModelRequest) -> ModelCard | None:
    """The card of a model that the store has already; None where ``ensure`` would have to export it.

    Raises:
        NotFoundError: There is no such model, weights file or package.
        IntegrityError: What the store has of the model is damaged.
    """
    if request.weights is None and kept.has(layout, request.model):
        return kept.load_card(layout, request.model)
    target = resolve(request.model)
    if request.weights is not None and not request.weights.is_file():
        raise NotFoundError(f"--weights {request.weights}: there is no such file.")
    known = _without_package(layout, target, request)
    if known is not None:
        return known
    reference = documents.find(layout.storage, layout.reference(_key(target, request)), Reference)
    if reference is not None and layout.storage.exists(layout.model_card(reference.space_id)):
        return kept.load_card(layout, reference.space_id)
    return None


def _without_package(layout: Layout, target: Target, request: ModelRequest) -> ModelCard | None:
    """A packaged model that was exported here works on although its package is gone."""
    package = target.package
    if package is None or request.weights is not None or package.version() is not None:
        return None
    for path in layout.storage.files("models/refs"):
        reference = documents.read(layout.storage, path, Reference)
        if reference.key.startswith(f"{space.slug(target.name)}-packaged-") and layout.storage.exists(
            layout.model_card(reference.space_id)
        ):
            return kept.load_card(layout, reference.space_id)
    return None


def _key(target: Target, request: ModelRequest) -> str:
    """Names what a request stands for: weights by their content, packages by version, never by path."""
    package = target.package
    parts = {
        "model": target.label,
        "folder": None if target.folder is None else folder.digest(target.folder),
        "package": None if package is None else package.version(),
        "weights": None if request.weights is None else hashing.of_file(request.weights),
    }
    if package is not None and request.weights is None:
        package.locate()  # the error that names the pip command, before anything heavy
    kind = "weights" if request.weights else "packaged" if package else "folder" if target.folder else "official"
    return f"{space.slug(target.label)}-{kind}-{hashing.of_json(parts)[:16]}"


def _load(target: Target, file: Path | None, progress: Callable[[str], None]) -> Original:
    if target.modality == "text":
        from featstore.models import words

        return words.load(target, file, progress)
    from featstore.models import vision

    return vision.load(target, file, progress)
