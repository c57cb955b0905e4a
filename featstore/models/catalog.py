"""Which backbones there are, and what a model's name means. Imports neither torch nor a model."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from featstore.errors import NotFoundError, UsageError
from featstore.models import kinds
from featstore.models.names import PARAMETERS, TORCHVISION
from featstore.models.packages import PACKAGES, Package
from featstore.records import Modality

__all__ = [
    "CatalogEntry",
    "ModelOptions",
    "ModelRequest",
    "Package",
    "Pooling",
    "Repository",
    "Target",
    "catalog",
    "check_options",
    "entry",
    "in_folder",
    "resolve",
]


Pooling = Literal["mean", "cls", "last", "max"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelOptions:
    """What the user changes of a model; None is what the model itself says. Each is part of the space.

    ``dim`` cuts the vector to its first values and makes it of length 1 again (Matryoshka). ``decode`` reads large
    pictures at a fraction of their size, ``precision`` computes in 8 bits what a gate has let through.
    """

    pooling: Pooling | None = None
    layer: str | None = None
    dim: int | None = None
    prompt_document: str | None = None
    prompt_query: str | None = None
    decode: Literal["fast"] | None = None
    precision: Literal["int8"] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelRequest:
    """What the user asked for: ``--model``, ``--weights`` and what is changed of the model.

    ``table`` is the table that it is asked for, as a precision is proven on a table's items.
    """

    model: str
    weights: Path | None = None
    options: ModelOptions = ModelOptions()
    table: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CatalogEntry:
    """One line of ``featstore models list``.

    ``weights`` are the tags to write after a colon (for timm after a point), the default first.
    ``input_side`` is in pixels for images and in tokens for texts. ``parameters`` counts what makes the
    vector, without the head. ``install`` is the pip command for packaged weights, ``installed`` whether
    they are there.
    """

    name: str
    family: str
    modality: Modality
    dim: int
    input_side: int
    weights: tuple[str, ...]
    origin: Literal["torchvision", "package", "timm", "folder", "file"]
    licence: str
    parameters: int | None = None
    installed: bool = True
    install: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Repository:
    """A model on the Hugging Face Hub: ``ORG/NAME`` and, where it was named, a branch, tag or commit."""

    name: str
    revision: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A name understood; one of ``tag`` (torchvision), ``package``, ``folder``, ``timm``, ``hub`` and ``file`` is set.

    ``file`` is an own ``.onnx`` file or a ``.featstore`` bundle.
    ``tower`` is which of the two towers of a CLIP or SigLIP model is meant. ``modality`` is None for a
    model on the hub until its files are here.
    """

    name: str
    modality: Modality | None
    tag: str | None = None
    package: Package | None = None
    folder: Path | None = None
    timm: str | None = None
    hub: Repository | None = None
    tower: Modality | None = None
    file: Path | None = None

    @property
    def label(self) -> str:
        """The canonical name, free of local paths."""
        return f"{self.name}:{self.tag}" if self.tag else self.name


def catalog(words: Sequence[str] = ()) -> list[CatalogEntry]:
    """All backbones that have a name, packaged ones first, then torchvision's by name.

    Args:
        words: What is looked for. timm's models, well over a thousand, come along only where a word
            begins with ``timm:``, and only those that have all the words in their names: listing them
            imports torch. Nothing else is left out.
    """
    packaged = [
        CatalogEntry(
            name=p.name, family=p.family, modality=p.modality, dim=p.dim, input_side=p.input_side, weights=(p.tag,),
            origin="package", licence=p.licence, installed=p.version() is not None, install=p.install,
            parameters=p.parameters,
        )
        for p in PACKAGES.values()
    ]  # fmt: skip
    torchvision = [
        CatalogEntry(
            name=name, family=family, modality="image", dim=dim, input_side=side, weights=_tags(name),
            origin="torchvision", licence="BSD-3-Clause code; weights trained on ImageNet-1k",
            parameters=PARAMETERS[name],
        )
        for name, (family, dim, side, _) in sorted(TORCHVISION.items())
    ]  # fmt: skip
    found = packaged + torchvision
    if any(word.lower().startswith("timm:") for word in words):
        from featstore.models import timm_names

        found += timm_names.search([word.lower().removeprefix("timm:") for word in words])
    return found


def entry(model: str) -> CatalogEntry | None:
    """What is known of a model by its name alone; None for folders, hub models and names that nobody has.

    A ``timm:`` name imports torch.

    Raises:
        NotFoundError: timm has no such model.
    """
    if model.startswith("timm:"):
        from featstore.models import timm_names

        return timm_names.describe(model.removeprefix("timm:"))
    return next((line for line in catalog() if line.name == model.partition(":")[0]), None)


def check_options(modality: Modality, model: str, options: ModelOptions) -> None:
    """Refuses options that a kind of model cannot have, before anything is loaded.

    Raises:
        UsageError: Prompts or ``--pooling last`` for an image model, ``--decode`` for one of texts.
    """
    if modality == "text" and options.decode is not None:
        raise UsageError(
            f"--decode {options.decode}: {model} takes texts; only pictures are decoded.", hint="Leave --decode out."
        )
    prompts = [f"--{n.replace('_', '-')}" for n in ("prompt_document", "prompt_query") if getattr(options, n)]
    if modality == "image" and prompts:
        raise UsageError(f"{' and '.join(prompts)}: {model} takes images; prompts are for texts.")
    if modality == "image" and options.pooling == "last":
        raise UsageError(f"--pooling last: {model} takes images.", hint="For images: mean, max or cls.")


def resolve(model: str) -> Target:
    """Understands a model's name.

    ``resnet50``, ``resnet50:IMAGENET1K_V2`` (torchvision), ``minilm`` (a package), ``timm:NAME.TAG``,
    ``hf:ORG/NAME`` or ``hf:ORG/NAME@REVISION`` (the hub), a folder or ``hf:FOLDER``; the last three with
    ``:image`` or ``:text`` behind for a tower of a CLIP or SigLIP model. An ``.onnx`` file has a card beside
    it; a ``.featstore`` file is a bundle.

    Raises:
        NotFoundError: There is no such model, weights tag, folder or file.
        UsageError: The folder holds no model that featstore supports.
    """
    if not re.sub(r"^(hf:|timm:)?|(:image|:text)?$", "", model).strip():
        raise UsageError(f"'{model}' names no model.", hint="See: featstore models list")
    if model in PACKAGES:
        return Target(name=model, modality=PACKAGES[model].modality, package=PACKAGES[model])
    name, _, tag = model.partition(":")
    if name in TORCHVISION:
        tags = _tags(name)
        if tag and tag not in tags:
            raise NotFoundError(
                f"model '{name}' has no weights '{tag}'; it has {', '.join(tags)}.",
                hint=f"Write for instance --model {name}:{tags[-1]}",
            )
        return Target(name=name, modality="image", tag=tag or tags[0])
    if name == "timm" and tag:
        return Target(name=model, modality="image", timm=tag)
    plain = model.removeprefix("hf:")
    tower: Modality | None = None
    kind: Modality
    for kind in ("image", "text"):
        if plain.endswith(f":{kind}") and not Path(plain).expanduser().is_dir():
            plain, tower = plain.removesuffix(f":{kind}"), kind
    folder = Path(plain).expanduser()
    if folder.suffix.lower() in (".onnx", ".featstore") and not folder.is_dir():
        return _file(folder)
    if folder.is_dir():
        return _folder(folder, tower)
    if model.startswith("hf:") and (known := _REPOSITORY.fullmatch(plain)):
        hub = Repository(name=known["name"], revision=known["revision"])
        return Target(name=model, modality=tower, hub=hub, tower=tower)
    if model.startswith("hf:") or "/" in model or "\\" in model:
        hint = f"From the hub: --model hf:{plain}" if _REPOSITORY.fullmatch(plain) else _FOLDER_HINT
        raise NotFoundError(f"model '{model}': there is no folder {folder}.", hint=hint)
    names = [*PACKAGES, *TORCHVISION]
    near = difflib.get_close_matches(name.lower().replace("-", "_"), names, n=3, cutoff=0.6)
    nearest = f" Nearest: {', '.join(near)}." if near else ""
    raise NotFoundError(f"there is no model '{model}'.{nearest}", hint="See: featstore models list")


def _tags(name: str) -> tuple[str, ...]:
    return tuple(f"IMAGENET1K_{tag}" for tag in TORCHVISION[name][3].split())


def in_folder(folder: Path, name: str, tower: Modality | None) -> Target:
    """The target that a folder's files make it; ``name`` is the model's, without a tower.

    Raises:
        NotFoundError: The folder is no model's.
        UsageError: The model is of a kind that featstore does not support, or a tower is named where there are none.
    """
    kind = kinds.of_folder(folder)
    if kind == "towers":
        tower = tower or "image"
        return Target(name=f"{name}:{tower}", modality=tower, folder=folder, tower=tower)
    if tower is not None:
        raise UsageError(f"{name}:{tower}: the model has no towers, it takes {kind}s.", hint=f"Leave :{tower} out.")
    return Target(name=name, modality=kind, folder=folder)


def _folder(folder: Path, tower: Modality | None) -> Target:
    return in_folder(folder, f"hf:{folder.resolve().name}", tower)


def _file(path: Path) -> Target:
    if path.suffix.lower() == ".onnx":
        from featstore.models import own_card

        own = own_card.read(path)
        return Target(name=own_card.name_of(path, own), modality=own.modality, file=path)
    from featstore.models import bundle

    card = bundle.peek(path)
    return Target(name=card.model, modality=card.modality, file=path)


_REPOSITORY = re.compile(
    r"(?P<name>[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*)(@(?P<revision>[A-Za-z0-9][\w./-]*))?", re.ASCII
)
_FOLDER_HINT = "Give the folder that save_pretrained() wrote, or a model on the hub as hf:ORG/NAME."
