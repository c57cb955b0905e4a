"""Image backbones of timm: any architecture it has, prepared as its weights' configuration says."""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from featstore.errors import UsageError
from featstore.models import hf_hub, hub, timm_names, weights
from featstore.models.catalog import ModelRequest, Target
from featstore.models.choosing import choose
from featstore.models.original import Original
from featstore.models.vision import image_graph
from featstore.records import ImagePreprocessing
from featstore.storage import hashing

if TYPE_CHECKING:
    import torch

__all__ = ["load", "preprocessing"]

_POOLING = {"avg": "mean", "fast": "mean", "fastavg": "mean", "token": "cls", "max": "max", "map": "attention"}


def load(target: Target, request: ModelRequest, progress: Callable[[str], None]) -> Original:
    """Loads a timm backbone without its head.

    Args:
        target: The model.
        request: ``--weights`` (None: the official ones, from the hub) and what is changed of the model.
        progress: Told what is going on.

    Raises:
        NotFoundError: timm has no such model or weights.
        HubError: The official weights cannot be downloaded.
        UsageError: The weights, the preprocessing or what is changed of the model do not fit.
        IntegrityError: The weights are damaged or hold NaN.
    """
    architecture, configuration = timm_names.understand(target.timm or "")
    tag = str(configuration.tag or "")
    how = preprocessing(configuration, architecture)
    progress(f"loading timm's {architecture}")
    network = timm_names.create(architecture, configuration)
    heads = _heads(configuration)
    vector = choose(
        network,
        how,
        request,
        layer=f"input of {heads[0]}" if heads else "output",
        own=_own_pooling(network),
        features=timm_names.features(network),
        prefix=int(getattr(network, "num_prefix_tokens", 0) or 0),
    )
    path, recognised, source = request.weights, False, ""
    if path is None:
        path, source = _official(architecture, tag, configuration, progress)
        recognised = True
    elif digits := _hash_in(configuration.url):
        recognised = hashing.of_file(path).startswith(digits)
        source = f"timm {architecture}.{tag}"
    _fill(network, weights.read(path), path, heads)
    label = f"{architecture}.{tag}" if tag else architecture
    return Original(
        graph=image_graph(vector.body, how),
        state=dict(network.state_dict()),
        model=f"timm:{label if recognised else architecture}",
        slug=f"{architecture}-{(tag or 'timm') if recognised else 'custom'}{vector.suffix}",
        family="timm",
        architecture=architecture,
        modality="image",
        layer=vector.layer,
        pooling=vector.pooling,
        normalize=False,
        source=source if recognised else f"file {path.name}",
        weights_sha256=hashing.of_file(path),
        libraries=("torch", "timm"),
        licence=timm_names.licence(configuration) if recognised else "unknown",
        training_data=timm_names.training_data(tag) if recognised else "unknown",
        url=_page(configuration) if recognised else None,
        image=how,
    )


def preprocessing(configuration: Any, model: str) -> ImagePreprocessing:
    """What timm's evaluation transform does for these weights.

    Source: timm.data.transforms_factory ``transforms_imagenet_eval``: resize to the input's side over
    ``crop_pct``, rounded down, then the centre.

    Args:
        configuration: timm's ``pretrained_cfg``.
        model: How to call it in messages.

    Raises:
        UsageError: It does something that featstore has no words for.
    """
    channels, height, width = configuration.input_size
    how, crop = configuration.interpolation, configuration.crop_mode or "center"
    if how not in ("bilinear", "bicubic", "lanczos") or crop not in ("center", "squash"):
        raise UsageError(f"timm prepares images for {model} by {how} and crop '{crop}', which is not supported.")
    if channels != 3 or (crop == "center" and height != width):
        size = "x".join(str(side) for side in configuration.input_size)
        raise UsageError(f"{model} takes {size} (channels, height, width); only square RGB input is supported.")
    share = configuration.crop_pct or 1.0
    return ImagePreprocessing(
        resize=(math.floor(height / share), math.floor(width / share)),
        resize_mode="exact" if crop == "squash" else "shortest",
        interpolation=how,
        crop=(height, width),
        mean=tuple(configuration.mean),
        std=tuple(configuration.std),
    )


def _own_pooling(network: torch.nn.Module) -> str:
    if hasattr(network, "head_dist"):
        return "own"  # the mean of class and distillation token, whatever ``global_pool`` says
    found: object = getattr(network, "global_pool", None)
    if found is None:
        found = getattr(getattr(network, "head", None), "global_pool", None)
    kind = found if isinstance(found, str) else getattr(found, "pool_type", None)
    return _POOLING.get(str(kind), "own")


def _heads(configuration: Any) -> tuple[str, ...]:
    named = configuration.classifier or ()
    return (named,) if isinstance(named, str) else tuple(named)


def _fill(network: torch.nn.Module, state: Mapping[str, torch.Tensor], path: Path, heads: tuple[str, ...]) -> None:
    """Puts weights in, strictly, after timm's own filter for files of other code bases."""
    if "_conv_stem.weight" in state and "conv_stem.weight" in network.state_dict():
        # EfficientNet-PyTorch's names, in the same order.
        state = weights.in_order(network, state, source=path.name)
    convert = getattr(sys.modules[type(network).__module__], "checkpoint_filter_fn", None)
    if convert is not None:
        try:
            try:
                state = convert(dict(state), network)
            except TypeError:
                state = convert(dict(state))  # some of timm's take the weights only
        except (KeyError, ValueError, RuntimeError, IndexError, AttributeError) as error:
            raise UsageError(
                f"the weights from {path.name} do not fit the model: timm cannot convert them ({error}).",
                hint="Give the --model whose architecture these weights were trained for.",
            ) from error
    weights.fill(network, state, source=path.name, removed=tuple(f"{head}." for head in heads) or ("head.",))


def _official(architecture: str, tag: str, configuration: Any, progress: Callable[[str], None]) -> tuple[Path, str]:
    """The official weights' file and where it is from: the hub's safetensors, or a URL whose name has its hash."""
    if configuration.hf_hub_id:
        given = str(configuration.hf_hub_filename or "pytorch_model.bin")
        path, commit = hf_hub.file(configuration.hf_hub_id, _safe_names(given), progress=progress)
        return path, f"timm {architecture}.{tag}, hub {configuration.hf_hub_id} at {commit[:12]}"
    if configuration.url and _hash_in(configuration.url):
        path = hub.fetch(configuration.url, name=f"timm:{architecture}", progress=progress)
        return path, f"timm {architecture}.{tag}"
    raise UsageError(
        f"timm has no weights for {architecture}{'.' + tag if tag else ''} that can be checked or read safely.",
        hint="Give them with --weights FILE (safetensors, or a .pth of plain tensors).",
    )


def _safe_names(name: str) -> list[str]:
    """The safetensors files that stand for a pickled one on the hub, by timm's own rule."""
    if name.endswith(".safetensors"):
        return [name]
    known = {"pytorch_model.bin": "model.safetensors", "open_clip_pytorch_model.bin": "open_clip_model.safetensors"}
    return [known.get(name, f"{name.rpartition('.')[0]}.safetensors"), "model.safetensors"]


def _hash_in(url: object) -> str | None:
    match = re.search(r"-([0-9a-f]{8,64})\.(?:pth|pt|safetensors)$", url) if isinstance(url, str) else None
    return match[1] if match else None


def _page(configuration: Any) -> str | None:
    if configuration.hf_hub_id:
        return f"https://huggingface.co/{configuration.hf_hub_id}"
    return str(configuration.url) if configuration.url else None
