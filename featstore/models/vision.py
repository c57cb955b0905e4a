"""Image backbones: torchvision by name, EfficientNet-lite0 from its package, heads taken off."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from featstore.errors import UsageError
from featstore.models import hub, weights
from featstore.models.catalog import ModelRequest, Target
from featstore.models.choosing import choose
from featstore.models.names import HEADS, MAPS, TORCHVISION
from featstore.models.original import Original
from featstore.records import ImagePreprocessing
from featstore.storage import hashing

if TYPE_CHECKING:
    import torch

__all__ = ["image_graph", "load", "penultimate"]

_POOLING = {"alexnet": "none", "vgg": "none", "vit": "cls"}

LITE0 = ImagePreprocessing(
    resize=(256, 256),
    resize_mode="shortest",
    interpolation="bicubic",
    crop=(224, 224),
    mean=(0.5, 0.5, 0.5),
    std=(0.5, 0.5, 0.5),
)
"""Source: timm's default_cfg of tf_efficientnet_lite0 (crop_pct 0.875, bicubic, Inception mean and std)."""


def load(target: Target, request: ModelRequest, progress: Callable[[str], None]) -> Original:
    """Loads an image backbone with its weights and takes its head off.

    Args:
        target: The model.
        request: ``--weights`` (None: the official ones) and what is changed of the model.
        progress: Told what is going on.

    Raises:
        NotFoundError: The weights file or package is missing.
        HubError: The official weights cannot be downloaded.
        UsageError: The weights, or what is changed of the model, do not fit.
        IntegrityError: The weights are damaged or hold NaN.
    """
    return _packaged(target, request) if target.package else _torchvision(target, request, progress)


def penultimate(network: torch.nn.Module, family: str) -> torch.nn.Module:
    """Takes off a torchvision network's last layer, in place: it then returns that layer's input.

    Raises:
        UsageError: The layer is not the one that torchvision puts there.
    """
    from torch import nn

    path = HEADS[family]
    parent, _, name = path.rpartition(".")
    if family == "squeezenet":
        setattr(network, name, nn.AdaptiveAvgPool2d((1, 1)))
        return network
    layer = network.get_submodule(path)
    if not isinstance(layer, nn.Linear):
        raise UsageError(f"{path} of a {family} is a {type(layer).__name__}, where its last Linear was expected.")
    setattr(network.get_submodule(parent), name, nn.Identity())
    for auxiliary in ("AuxLogits", "aux1", "aux2"):
        if hasattr(network, auxiliary):
            setattr(network, auxiliary, None)
    if hasattr(network, "aux_logits"):
        network.aux_logits = False  # type: ignore[assignment]
    return network


def image_graph(network: torch.nn.Module, how: ImagePreprocessing) -> torch.nn.Module:
    """Wraps a network so that it takes uint8 (b, h, w, 3) and normalises by itself; evaluation mode."""
    import torch

    class ImageGraph(torch.nn.Module):
        mean: torch.Tensor
        std: torch.Tensor

        def __init__(self) -> None:
            super().__init__()
            self.network = network
            self.register_buffer("mean", torch.tensor(how.mean).view(1, 3, 1, 1), persistent=False)
            self.register_buffer("std", torch.tensor(how.std).view(1, 3, 1, 1), persistent=False)

        def forward(self, image: torch.Tensor) -> torch.Tensor:
            pixels = image.permute(0, 3, 1, 2).to(torch.float32) / 255
            vector: torch.Tensor = self.network((pixels - self.mean) / self.std)
            return vector.flatten(1)

    return ImageGraph().eval()


def _torchvision(target: Target, request: ModelRequest, progress: Callable[[str], None]) -> Original:
    from torchvision.models import get_model_weights

    name, path = target.name, request.weights
    family = TORCHVISION[name][0]
    official = get_model_weights(name)
    tag, recognised = target.tag or "", True
    if path is not None:
        sha256 = hashing.of_file(path)
        known = [w.name for w in official if sha256.startswith(hub.hash_prefix(w.url.rsplit("/", 1)[1]))]
        tag, recognised = (known[0], True) if known else (tag, False)
    chosen = official[tag]
    how = _transforms(chosen)
    progress(f"loading {name}")
    network = penultimate(_untrained(name, family, chosen), family)
    own = _POOLING.get(family, "mean")
    vector = choose(
        network,
        how,
        request,
        layer=f"input of {HEADS[family]}",
        own=own,
        features=None if own == "none" else MAPS[family],
        prefix=int(family == "vit"),
    )
    if path is None:
        path = hub.fetch(chosen.url, name=target.label, progress=progress)
        sha256 = hashing.of_file(path)
    state = weights.read(path)
    if family == "densenet":
        state = dict(weights.densenet_names(state))
    removed = (HEADS[family] + ".", "AuxLogits.", "aux1.", "aux2.")
    weights.fill(network, state, source=path.name, removed=removed)
    swag = "SWAG" in tag
    return Original(
        graph=image_graph(vector.body, how),
        state=dict(network.state_dict()),
        model=f"{name}:{tag}" if recognised else name,
        slug=f"{name}-{tag if recognised else 'custom'}{vector.suffix}",
        family=family,
        architecture=name,
        modality="image",
        layer=vector.layer,
        pooling=vector.pooling,
        normalize=False,
        source=f"torchvision {name}:{tag}" if recognised else f"file {path.name}",
        weights_sha256=sha256,
        libraries=("torch", "torchvision"),
        licence=("CC-BY-NC-4.0 (SWAG)" if swag else "BSD-3-Clause (torchvision)") if recognised else "unknown",
        training_data=("Instagram hashtags, then ImageNet-1k" if swag else "ImageNet-1k") if recognised else "unknown",
        url=chosen.url if recognised else None,
        image=how,
    )


def _untrained(name: str, family: str, chosen: Any) -> torch.nn.Module:
    from torchvision.models import get_model

    options: dict[str, Any] = {}
    if family in ("googlenet", "inception"):
        options = {"transform_input": True, "init_weights": False, "aux_logits": True}
    if family == "vit":
        options = {"image_size": chosen.meta["min_size"][0]}
    return get_model(name, weights=None, **options)  # type: ignore[no-any-return]


def _transforms(chosen: Any) -> ImagePreprocessing:
    """The preset that torchvision made for these weights."""
    preset = chosen.transforms()
    side, crop = preset.resize_size[0], preset.crop_size[0]
    return ImagePreprocessing(
        resize=(side, side),
        resize_mode="shortest",
        interpolation=preset.interpolation.value,
        crop=(crop, crop),
        mean=tuple(preset.mean),
        std=tuple(preset.std),
    )


def _packaged(target: Target, request: ModelRequest) -> Original:
    import timm

    from featstore.models import timm_names

    package = target.package
    assert package is not None
    path = request.weights or package.locate()
    network = timm.create_model("tf_efficientnet_lite0", pretrained=False, num_classes=0)
    vector = choose(
        network, LITE0, request, layer="input of classifier", own="mean", features=timm_names.features(network)
    )
    state: Any = weights.read(path)
    if "conv_stem.weight" not in state or "blocks.0.0.conv_dw.weight" not in state:
        # The package's file keeps the names of another code base, in the same order.
        state = weights.in_order(network, state, source=path.name)
    weights.fill(network, state, source=path.name, removed=("classifier.",))
    official = request.weights is None
    return Original(
        graph=image_graph(vector.body, LITE0),
        state=dict(network.state_dict()),
        model=package.name,
        slug=f"{package.name}-{package.tag if official else 'custom'}{vector.suffix}",
        family=package.family,
        architecture="tf_efficientnet_lite0",
        modality="image",
        layer=vector.layer,
        pooling=vector.pooling,
        normalize=False,
        source=f"package {package.distribution} {package.version()}" if official else f"file {path.name}",
        weights_sha256=hashing.of_file(path),
        libraries=("torch", "timm"),
        licence=package.licence if official else "unknown",
        training_data=package.training_data if official else "unknown",
        url=package.url if official else None,
        image=LITE0,
    )
