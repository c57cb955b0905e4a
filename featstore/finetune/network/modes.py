"""What of a network learns in an epoch, and which of its layers behave as in training."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from featstore.finetune.network.parts import Part

if TYPE_CHECKING:
    import torch

__all__ = ["awake", "restored", "statistics"]


def awake(
    graph: torch.nn.Module,
    begun: Sequence[Part],
    tensors: Iterable[torch.nn.Parameter],
    *,
    batch_norm: bool,
    dropout: float,
) -> None:
    """Puts a network into the state in which it learns; ``restored`` undoes it.

    All of it behaves as in evaluation: no dropout, no dropped paths, BatchNorm by its stored statistics. Excepted are,
    in the parts that have begun, BatchNorm where it is to follow the new data, and Dropout layers, at the given rate.

    Args:
        graph: The network.
        begun: The parts that are trained.
        tensors: What is learned; nothing else gets a gradient.
        batch_norm: Whether its statistics follow.
        dropout: The share of values left out; 0 for none.
    """
    from torch import nn

    graph.eval()
    for p in graph.parameters():
        p.requires_grad_(False)
    for p in tensors:
        p.requires_grad_(True)
    for part in begun:
        for module in part.modules.values():
            for layer in module.modules():
                if batch_norm and isinstance(layer, nn.modules.batchnorm._BatchNorm):
                    layer.train()
                elif dropout and isinstance(layer, nn.Dropout):
                    layer.p = dropout
                    layer.train()


@contextmanager
def restored(graph: torch.nn.Module) -> Iterator[None]:
    """Afterwards the network is in evaluation mode, with its own dropout rates and every parameter as it was."""
    from torch import nn

    rates = [(layer, layer.p) for layer in graph.modules() if isinstance(layer, nn.Dropout)]
    asked = [(p, p.requires_grad) for p in graph.parameters()]
    try:
        yield
    finally:
        for layer, rate in rates:
            layer.p = rate
        for p, before in asked:
            p.requires_grad_(before)
            p.grad = None
        graph.eval()


def statistics(stack: Sequence[Part]) -> dict[str, torch.Tensor]:
    """The buffers of the BatchNorm layers in some parts, by name."""
    from torch import nn

    return {
        f"{place}.{at}.{name}".replace("..", "."): buffer
        for part in stack
        for place, module in part.modules.items()
        for at, layer in module.named_modules()
        if isinstance(layer, nn.modules.batchnorm._BatchNorm)
        for name, buffer in layer.named_buffers(recurse=False)
    }
