"""Low-rank adapters: small matrices beside the frozen weights, added to them in the end.

Source: Hu et al., LoRA: Low-Rank Adaptation of Large Language Models (2021): W + (alpha / r) · B · A.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from featstore.errors import UsageError
from featstore.finetune.network.parts import Part, network_of
from featstore.models import quiet
from featstore.models.original import Original
from featstore.settings import FinetuneSettings

if TYPE_CHECKING:
    import torch

__all__ = ["Adapters", "adaptable", "adapted", "adapter_shapes"]

_NAME = "default"  # what peft calls the only adapter of a layer


@dataclass(frozen=True, eq=False)
class Adapters:
    """The adapters in a network.

    Attributes:
        network: The network that they are in.
        layers: The adapted layers, by the name of the layer that each took the place of.
    """

    network: torch.nn.Module
    layers: dict[str, Any]

    @property
    def tensors(self) -> dict[str, torch.nn.Parameter]:
        """What is trained, by the names that ``adapter_shapes`` gives."""
        found = {}
        for name, layer in self.layers.items():
            found[f"{name}.lora_A"] = layer.lora_A[_NAME].weight
            found[f"{name}.lora_B"] = layer.lora_B[_NAME].weight
        return found

    def merge(self) -> None:
        """Adds the adapters to the weights they stand beside, in place, and takes them out of the network."""
        import torch

        with torch.no_grad():
            for layer in self.layers.values():
                weight = layer.get_base_layer().weight
                weight.add_(layer.get_delta_weight(_NAME).to(weight.dtype))
        self.remove()

    def remove(self) -> None:
        """Puts the network's own layers back, with the weights that they have."""
        for name, layer in self.layers.items():
            parent, _, last = name.rpartition(".")
            self.network.get_submodule(parent)._modules[last] = layer.get_base_layer()


def adaptable(part: Part) -> bool:
    """Whether a part has a layer that an adapter fits on."""
    return bool(_targets(part))


def adapter_shapes(part: Part, rank: int) -> dict[str, tuple[int, ...]]:
    """The tensors of a part's adapters: ``NAME.lora_A`` from the input to the rank, ``NAME.lora_B`` from there on."""
    found: dict[str, tuple[int, ...]] = {}
    for name, layer in _targets(part).items():
        shape = tuple(layer.weight.shape)
        if type(layer).__name__ == "Conv1D":  # GPT-2's linear layer, which keeps its weights transposed
            shape = shape[::-1]
        found[f"{name}.lora_A"] = (rank, *shape[1:])
        found[f"{name}.lora_B"] = (shape[0], rank, *(1 for _ in shape[2:]))
    return found


def adapted(original: Original, trained: Sequence[Part], settings: FinetuneSettings) -> Adapters:
    """Puts adapters on the linear layers and convolutions of some parts; the vectors stay the same at first.

    Args:
        original: The network; ``Adapters.merge`` or ``Adapters.remove`` undoes it.
        trained: The parts.
        settings: Rank, alpha, dropout and seed.

    Raises:
        UsageError: peft is not installed.
    """
    import torch

    assert settings.lora is not None
    assert settings.lora_alpha is not None
    targets = {name: layer for part in trained for name, layer in _targets(part).items()}
    transposed = any(type(layer).__name__ == "Conv1D" for layer in targets.values())
    network = network_of(original)
    with quiet.libraries():
        try:
            from peft import LoraConfig, inject_adapter_in_model
        except ImportError as error:
            raise UsageError("lora needs peft.", hint="pip install 'featstore[finetune]'") from error
        config = LoraConfig(
            r=settings.lora,
            lora_alpha=settings.lora_alpha,  # type: ignore[arg-type]  # any number serves, it is only divided
            target_modules="|".join(re.escape(name) for name in targets),
            lora_dropout=settings.dropout,
            fan_in_fan_out=transposed,
        )
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(settings.seed)
            inject_adapter_in_model(config, network)
    network.eval()
    return Adapters(network, {name: network.get_submodule(name) for name in targets})


def _targets(part: Part) -> dict[str, Any]:
    """The layers of a part that peft knows how to adapt and to merge, by name.

    A layer counts whose weight reaches the vector and is multiplied as it is: peft makes an adapter of a layer's own
    kind, so that beside one which standardises its weights it could not be merged. The projections inside torch's own
    attention are left out: that module takes their weights without calling them; so are the layers behind the pooling,
    outside of the network.
    """
    from torch import nn

    found: dict[str, Any] = {}
    for place, module in part.modules.items():
        if place.startswith("tail."):
            continue
        inside = {f"{at}.out_proj" for at, inner in module.named_modules() if isinstance(inner, nn.MultiheadAttention)}
        for at, layer in module.named_modules():
            name = f"{place}.{at}".rstrip(".")
            if _fits(layer) and at not in inside and f"{name}.weight" in part.parameters:
                found[name] = layer
    return found


def _fits(layer: torch.nn.Module) -> bool:
    from torch import nn

    kind = type(layer)
    if isinstance(layer, nn.Conv2d):
        plain = kind.forward is nn.Conv2d.forward or kind.__name__ == "Conv2dSame"  # timm's, which only pads otherwise
        return plain and layer.groups == 1 and set(layer.dilation) == {1} and layer.padding_mode == "zeros"
    return kind.__name__ == "Conv1D" or (isinstance(layer, nn.Linear) and kind.forward is nn.Linear.forward)
