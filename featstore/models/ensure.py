"""From a model's name to a card in the store: found by reference, or loaded, exported, proven and kept."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import asdict, replace
from typing import TYPE_CHECKING

from featstore.errors import NotFoundError, UsageError
from featstore.layout import Layout
from featstore.models import bundle, folder, kept, own, own_card, quantised, space
from featstore.models.catalog import ModelOptions, ModelRequest, Target, check_options, in_folder, resolve
from featstore.records import Modality, ModelCard, Reference
from featstore.storage import documents, hashing

if TYPE_CHECKING:
    from featstore.models.original import Original

__all__ = ["ensure", "find", "modality_of", "original", "plain"]


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
        UsageError: The weights do not fit, the model cannot be exported, or a precision is asked for that only the
            items of a source can prove.
        HubError: The official weights cannot be downloaded.
        IntegrityError: Weights, or what the store has of the model, are damaged.
        GateError: The exported graph does not compute what the original does.
    """
    known = find(layout, request)
    if known is not None:
        return known
    if request.options.precision is not None:
        where = f" that was proven on the items of '{request.table}'" if request.table else ""
        raise UsageError(
            f"{request.model} has no {request.options.precision} version{where}.",
            hint=f"One is made of a source's own items: featstore extract SOURCE --model {request.model} "
            f"--precision {request.options.precision}",
        )
    target = resolve(request.model)
    if target.file is not None and target.file.suffix.lower() == bundle.SUFFIX:
        card = bundle.keep(layout, target.file, progress)
        key = _bundle_key(bundle.peek(target.file))
    else:
        card = _made(layout, target, request, progress)
        key = _key(target, request)
    documents.write(
        layout.storage, layout.reference(key), Reference(key=key, model=target.label, space_id=card.space_id)
    )
    return card


def find(layout: Layout, request: ModelRequest) -> ModelCard | None:
    """The card of a model that the store has already; None where ``ensure`` would have to export it.

    Raises:
        NotFoundError: There is no such model, weights file or package.
        UsageError: A space's id is given, which says all, and options beside it.
        IntegrityError: What the store has of the model is damaged.
    """
    if request.options.precision is not None:
        base = find(layout, plain(request))
        return None if base is None else quantised.find(layout, base, request.options.precision, request.table)
    if request.weights is None and kept.has(layout, request.model):
        if request.options != ModelOptions():
            raise UsageError(
                f"{request.model} is one space, with its pooling, prompts and length; options would make another.",
                hint="Name the model instead of the space, with the options that you want.",
            )
        return kept.load_card(layout, request.model)
    target = resolve(request.model)
    if request.weights is not None and not request.weights.is_file():
        raise NotFoundError(f"--weights {request.weights}: there is no such file.")
    if target.file is not None and target.file.suffix.lower() == bundle.SUFFIX:
        bundle.check_request(request)
        packed = bundle.peek(target.file)
        same = kept.equal_space(layout, packed.digest)
        if same is not None and _files(same) == _files(packed):
            return same
        key = _bundle_key(packed)
    else:
        known = _without_package(layout, target, request)
        if known is not None:
            return known
        key = _key(target, request)
    reference = documents.find(layout.storage, layout.reference(key), Reference)
    if reference is not None and layout.storage.exists(layout.model_card(reference.space_id)):
        return kept.load_card(layout, reference.space_id)
    return None


def original(layout: Layout, request: ModelRequest, *, progress: Callable[[str], None] = lambda _: None) -> Original:
    """Loads the network of a model, ready to be trained or exported; in the precision that it was trained in.

    Args:
        layout: The store.
        request: The model; of this store's spaces only a fine-tuned one tells how it is loaded.
        progress: Told about downloads and slow steps.

    Raises:
        NotFoundError: There is no such model, weights file or package.
        UsageError: It has no weights that could be trained: an ``.onnx`` file, a bundle, or a space's bare id.
        HubError: The official weights cannot be downloaded.
        IntegrityError: Weights are damaged, or do not give what the model's card says.
    """
    if request.weights is None and kept.has(layout, request.model):
        card = kept.load_card(layout, request.model)
        if card.finetuning is None:
            raise UsageError(
                f"the store has the graph of {card.space_id}, which cannot be trained, and not its weights.",
                hint=f"Name the model that it was made of, such as {card.model}, where need be with --weights.",
            )
        from featstore.models import tuned

        return tuned.restored(layout, card, original(layout, tuned.origin(card.finetuning), progress=progress))
    target = resolve(request.model)
    if target.file is not None:
        raise UsageError(
            f"{request.model} is a graph, whose weights cannot be trained.",
            hint="Name a model of torchvision, timm or transformers, where need be with --weights.",
        )
    return _load(target, plain(request), progress)


def plain(request: ModelRequest) -> ModelRequest:
    """The same model in the precision that it was trained in."""
    return replace(request, options=replace(request.options, precision=None))


def modality_of(request: ModelRequest, layout: Layout | None = None) -> Modality:
    """Whether a model takes images or texts.

    Args:
        request: The model.
        layout: A store that may have the model already: then neither its files nor a hub are needed.

    Raises:
        NotFoundError: There is no such model.
        UsageError: The folder holds something else.
        HubError: Only the hub knows, and it cannot be asked.
    """
    card = None if layout is None else find(layout, plain(request))
    if card is not None:
        return card.modality
    target = resolve(request.model)
    if target.hub is not None and target.modality is None:
        from featstore.models import hf_hub

        target = in_folder(hf_hub.config(target.hub.name, target.hub.revision), target.name, None)
    assert target.modality is not None
    return target.modality


def _without_package(layout: Layout, target: Target, request: ModelRequest) -> ModelCard | None:
    """A packaged model that was exported here works on although its package is gone."""
    package = target.package
    plain = request.weights is None and request.options == ModelOptions()
    if package is None or not plain or package.version() is not None:
        return None
    for path in layout.storage.files("models/refs"):
        reference = documents.read(layout.storage, path, Reference)
        same = re.fullmatch(rf"{re.escape(space.slug(target.label))}-packaged-[0-9a-f]{{16}}", reference.key)
        if same and layout.storage.exists(layout.model_card(reference.space_id)):
            return kept.load_card(layout, reference.space_id)
    return None


def _key(target: Target, request: ModelRequest) -> str:
    """Names what a request stands for: weights by their content, packages by version, never by path."""
    package = target.package
    parts: dict[str, object] = {
        "model": target.label,
        "folder": None if target.folder is None else folder.digest(target.folder),
        "package": None if package is None else package.version(),
        "weights": None if request.weights is None else hashing.of_given(request.weights),
    }
    if target.file is not None:
        parts["file"] = own_card.digest(target.file)
    changed = {name: value for name, value in asdict(request.options).items() if value is not None}
    if changed:
        parts["options"] = changed
    if package is not None and request.weights is None:
        package.locate()  # the error that names the pip command, before anything heavy
    kind = (
        "weights"
        if request.weights
        else "packaged"
        if package and not changed
        else "packaged-changed"
        if package
        else "folder"
        if target.folder
        else "hub"
        if target.hub
        else "own"
        if target.file
        else "official"
    )
    return f"{space.slug(target.label)}-{kind}-{hashing.of_json(parts)[:16]}"


def _bundle_key(card: ModelCard) -> str:
    """Names a bundle by its digest and by the files that were compared with a space of that digest."""
    return f"{space.slug(card.model)}-bundle-{hashing.of_json([card.digest, _files(card)])[:16]}"


def _files(card: ModelCard) -> list[str]:
    return [a.sha256 for a in (card.onnx, card.canaries, card.tokenizer) if a is not None]


def _made(layout: Layout, target: Target, request: ModelRequest, progress: Callable[[str], None]) -> ModelCard:
    if target.file is not None:
        return own.keep(layout, target.file, request, progress)
    from featstore.models import making

    return making.keep(layout, _load(target, request, progress), progress)


def _load(target: Target, request: ModelRequest, progress: Callable[[str], None]) -> Original:
    if target.modality is not None:
        check_options(target.modality, target.name, request.options)
    if target.hub is not None:
        return _from_hub(target, request, progress)
    from featstore.models import decoding, matryoshka

    whole = _loader(target)(target, request, progress)
    return decoding.chosen(matryoshka.cut(whole, request.options.dim), request.options)


def _loader(target: Target) -> Callable[[Target, ModelRequest, Callable[[str], None]], Original]:
    if target.tower is not None:
        from featstore.models import towers

        return towers.load
    if target.modality == "text":
        from featstore.models import words

        return words.load
    if target.timm is not None:
        from featstore.models import timm_vision

        return timm_vision.load
    if target.folder is not None:
        from featstore.models import hf_vision

        return hf_vision.load
    from featstore.models import vision

    return vision.load


def _from_hub(target: Target, request: ModelRequest, progress: Callable[[str], None]) -> Original:
    """The model of a repository, as that of a local folder, with where it came from."""
    from featstore.models import hf_hub

    assert target.hub is not None
    name = target.hub.name
    here = hf_hub.snapshot(name, target.hub.revision, progress=progress)
    local = in_folder(here.folder, f"hf:{name.rpartition('/')[2]}", target.tower)
    original = _load(local, request, progress)
    tower = f":{local.tower}" if local.tower else ""
    if request.weights is not None:
        return replace(original, model=f"hf:{name}{tower}")
    source, url = f"hub {name} at {here.commit[:12]}", f"https://huggingface.co/{name}"
    return replace(original, model=f"hf:{name}{tower}", source=source, url=url)
