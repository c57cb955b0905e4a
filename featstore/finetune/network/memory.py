"""Memory that runs out, and activations that are computed again instead of kept.

Source: Chen et al., Training Deep Nets with Sublinear Memory Cost (2016).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from featstore.finetune.network.parts import Part

if TYPE_CHECKING:
    import torch

__all__ = ["exhausted", "recomputed"]

_SIGNS = ("not enough memory", "DefaultCPUAllocator", "can't allocate memory", "out of memory")


def exhausted(error: BaseException) -> bool:
    """Whether an error says that memory ran out, the device's or this machine's."""
    import torch

    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(sign in str(error) for sign in _SIGNS)


@contextmanager
def recomputed(stack: Sequence[Part]) -> Iterator[None]:
    """Keeps only what goes in and out of each block of a network; the rest is computed again for the gradient.

    A block whose BatchNorm is learning its statistics is left as it is: it would see every batch twice.
    """
    replaced = []
    try:
        for part in stack:
            for module in part.modules.values():
                for unit in _units(module):
                    own = unit.forward
                    unit.forward = _again(unit, own)
                    replaced.append(unit)
        yield
    finally:
        for unit in replaced:
            del unit.forward  # the class's own comes to light again


def _again(unit: torch.nn.Module, forward: Callable[..., Any]) -> Callable[..., Any]:
    import torch
    from torch.utils.checkpoint import checkpoint

    norms = [m for m in unit.modules() if isinstance(m, torch.nn.modules.batchnorm._BatchNorm)]

    def run(*given: Any, **named: Any) -> Any:
        if not torch.is_grad_enabled() or any(norm.training for norm in norms):
            return forward(*given, **named)
        return checkpoint(forward, *given, use_reentrant=False, **named)

    return run


def _units(module: torch.nn.Module) -> list[torch.nn.Module]:
    """The blocks of a stage, or a part as it is."""
    from torch import nn

    return list(module) if isinstance(module, nn.Sequential) else [module]
