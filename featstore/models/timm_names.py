"""timm's models by name: found, described and understood. Imports torch, as timm does."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from featstore.errors import NotFoundError, UsageError
from featstore.models import quiet
from featstore.models.catalog import CatalogEntry

if TYPE_CHECKING:
    import torch

__all__ = ["create", "describe", "features", "licence", "search", "training_data", "understand"]

_BUILT = 64
_SHOWN = 8

_TRAINED_ON = {
    "in1k": "ImageNet-1k",
    "in12k": "ImageNet-12k",
    "in21k": "ImageNet-21k",
    "in22k": "ImageNet-22k",
    "lvd142m": "LVD-142M",
    "lvd1689m": "LVD-1689M",
    "webli": "WebLI",
    "laion2b": "LAION-2B",
    "laion400m": "LAION-400M",
    "laiona": "LAION-Aesthetics",
    "openai": "OpenAI's image and text pairs (WIT-400M)",
    "datacompxl": "DataComp-XL",
    "metaclip": "MetaCLIP",
    "ig1b": "Instagram hashtags",
    "jft300m": "JFT-300M",
    "yfcc100m": "YFCC-100M",
}
"""What the parts of a weights tag mean, in timm's naming."""


def understand(name: str) -> tuple[str, Any]:
    """The architecture and timm's configuration of its weights; the default ones where no tag is named.

    Args:
        name: ``ARCHITECTURE`` or ``ARCHITECTURE.TAG``.

    Raises:
        NotFoundError: timm has no such model, or the model no such weights; the nearest are named.
    """
    with quiet.libraries():
        import timm
        from timm.models import get_pretrained_cfg

    architecture, _, tag = name.partition(".")
    if not timm.is_model(architecture):
        near = difflib.get_close_matches(architecture, timm.list_models(), n=3, cutoff=0.6)
        nearest = f" Nearest: {', '.join(near)}." if near else ""
        raise NotFoundError(
            f"timm has no model '{architecture}'.{nearest}", hint="See: featstore models list timm:WORD"
        )
    try:
        found = get_pretrained_cfg(name)
    except RuntimeError:  # an unknown tag
        found = None
    if found is None:
        tags = _tags(architecture)
        raise NotFoundError(
            f"timm's {architecture} has no weights '{tag}'; it has {', '.join(tags[:_SHOWN]) or 'none'}.",
            hint=f"Write for instance --model timm:{architecture}{'.' + tags[0] if tags else ''}",
        )
    return architecture, found


def create(architecture: str, configuration: Any) -> torch.nn.Module:
    """An untrained network without its head: it gives the head's input.

    Raises:
        UsageError: timm cannot make one without a head.
    """
    with quiet.libraries():
        import timm

        try:
            network: torch.nn.Module = timm.create_model(
                architecture, pretrained=False, pretrained_cfg=configuration, num_classes=0
            )
        except (RuntimeError, TypeError, ValueError, AssertionError) as error:
            first = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise UsageError(f"timm cannot make {architecture} without its head: {first[:200]}") from error
    return network.eval()


def features(network: torch.nn.Module) -> tuple[str, torch.nn.Module] | None:
    """The map or tokens that a timm network pools: a name and a module; None where it has no such step."""
    import torch

    if not hasattr(network, "forward_features"):
        return None

    class Features(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = network

        def forward(self, pixels: torch.Tensor) -> torch.Tensor:
            found: torch.Tensor = self.network.forward_features(pixels)  # type: ignore[operator]
            return found

    return "features", Features().eval()


def search(words: Sequence[str]) -> list[CatalogEntry]:
    """The models of timm whose names have all the words; dim and parameters are filled in where they are few."""
    with quiet.libraries():
        import timm

    names = [name for name in timm.list_models() if all(word.partition(".")[0] in name for word in words)]
    return [_entry(name, built=len(names) <= _BUILT) for name in names]


def describe(name: str) -> CatalogEntry:
    """One model of timm's, measured on a network without memory.

    Raises:
        NotFoundError: There is no such model or weights.
    """
    understand(name)
    return _entry(name, built=True)


def licence(configuration: Any) -> str:
    """The licence of the weights as timm states it."""
    return str(configuration.license or "unknown")


def training_data(tag: str) -> str:
    """What weights were trained on, as far as their tag says it."""
    parts = [_TRAINED_ON[part] for part in tag.replace("-", "_").split("_") if part in _TRAINED_ON]
    return ", then ".join(dict.fromkeys(parts)) or "unknown"


def _entry(name: str, *, built: bool) -> CatalogEntry:
    architecture, configuration = understand(name)
    dim, parameters = _measured(architecture, configuration) if built else (0, None)
    tag = name.partition(".")[2]
    return CatalogEntry(
        name=f"timm:{architecture}",
        family="timm",
        modality="image",
        dim=dim,
        input_side=int(configuration.input_size[1]),
        weights=(tag,) if tag else _tags(architecture),
        origin="timm",
        licence=licence(configuration),
        parameters=parameters,
    )


def _measured(architecture: str, configuration: Any) -> tuple[int, int | None]:
    import torch

    try:
        with torch.device("meta"), torch.inference_mode():
            network = create(architecture, configuration)
            dim = network(torch.zeros(1, *configuration.input_size)).flatten(1).shape[1]
    except (AttributeError, NotImplementedError, RuntimeError, TypeError, ValueError, UsageError):
        return 0, None  # a network that cannot be made without memory: only this line lacks its numbers
    return int(dim), sum(p.numel() for p in network.parameters())


def _tags(architecture: str) -> tuple[str, ...]:
    """The tags of an architecture's weights, the default first."""
    with quiet.libraries():
        import timm
        from timm.models import get_pretrained_cfg

    default = getattr(get_pretrained_cfg(architecture), "tag", None) or ""
    found = [name.partition(".")[2] for name in timm.list_pretrained(f"{architecture}.*")]
    return tuple(sorted((tag for tag in found if tag), key=lambda tag: (tag != default, tag)))
