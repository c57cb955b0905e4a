"""The output of a named layer inside a network, and the nearest name where there is none."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING, Any

from featstore.errors import UsageError

if TYPE_CHECKING:
    import torch

__all__ = ["capture", "check"]

_SHOWN = 5


def capture(network: torch.nn.Module, name: str) -> torch.nn.Module:
    """Makes a module that is called as the network is and returns what one of its layers gives.

    A layer that gives several tensors counts with its first; one that runs several times in a pass (a
    shared activation) counts with its last run. What comes after the layer does not reach the exported
    graph.

    Args:
        network: The network; a hook is put on the layer, nothing else changes.
        name: The layer's name, as ``network.named_modules()`` lists it (``layer3.0.conv1``, ``blocks.11``).

    Returns:
        A module: the network's own arguments → the layer's output, of whatever shape.

    Raises:
        UsageError: There is no such layer (at once), or it takes no part in the pass (when called).
    """
    import torch

    check(network, name)
    seen: list[torch.Tensor] = []

    def keep(_: torch.nn.Module, __: object, output: object) -> None:
        # A closure's list, not an attribute: torch.export refuses modules that change while it looks.
        seen[:] = _tensors(output)[:1]

    network.get_submodule(name).register_forward_hook(keep)

    class Captured(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = network

        def forward(self, *given: Any, **named: Any) -> torch.Tensor:
            seen.clear()
            self.network(*given, **named)
            if not seen:
                raise UsageError(
                    f"--layer {name}: the network never runs this layer for a vector.",
                    hint="Name a layer that other layers' results go through, such as a block.",
                )
            return seen.pop()

    return Captured().eval()


def check(network: torch.nn.Module, name: str) -> None:
    """Refuses a layer's name that the network does not have.

    Raises:
        UsageError: Naming the nearest ones.
    """
    names = [known for known, _ in network.named_modules() if known]
    if name in names:
        return
    near = difflib.get_close_matches(name, names, n=_SHOWN, cutoff=0.5)
    # Where nothing is alike, the outermost layers show how the names are made.
    outer = [known for known in names if known.count(".") == 0][:_SHOWN]
    listed = f"nearest: {', '.join(near)}" if near else f"its outermost layers: {', '.join(outer)}"
    raise UsageError(
        f"--layer {name}: {type(network).__name__} has no such layer; {listed}.",
        hint="Layers are named as PyTorch's named_modules() lists them.",
    )


def _tensors(output: object) -> list[torch.Tensor]:
    """The tensors in a layer's output, which may be a tuple or a dictionary of them."""
    import torch

    if isinstance(output, torch.Tensor):
        return [output]
    if isinstance(output, dict):
        return [value for value in output.values() if isinstance(value, torch.Tensor)]
    if isinstance(output, (tuple, list)):
        return [value for value in output if isinstance(value, torch.Tensor)]
    return []
