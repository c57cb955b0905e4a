"""Where a network is trained, and its way back."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from featstore.errors import UsageError
from featstore.models.original import Original

__all__ = ["chosen", "free", "placed"]


def chosen(wanted: str) -> str:
    """The device to train on: ``cpu`` or ``cuda``, with its number where one was given.

    Raises:
        UsageError: There is no such device.
    """
    import torch

    count = torch.cuda.device_count() if wanted != "cpu" and torch.cuda.is_available() else 0
    if wanted == "auto":
        return "cuda" if count else "cpu"
    if wanted != "cpu" and int(wanted.partition(":")[2] or 0) >= count:
        raise UsageError(f"torch finds no device '{wanted}'; there are {count}.", hint="Use --device cpu or auto.")
    return wanted


def free() -> None:
    """Gives back what torch keeps of a card's memory after a training: ONNX Runtime needs some in the same process."""
    import gc

    import torch

    if torch.cuda.is_available():
        gc.collect()
        torch.cuda.empty_cache()


@contextmanager
def placed(original: Original, device: str) -> Iterator[None]:
    """Moves a network to a device for a while; afterwards its values are in the memory that ``state`` shares."""
    graph = original.graph
    if device == "cpu":
        yield
        return
    home = {name: p.data for name, p in graph.named_parameters()} | dict(graph.named_buffers())
    graph.to(device)
    try:
        yield
    finally:
        for name, p in graph.named_parameters():
            p.data = home[name].copy_(p.data)
            p.grad = None
        for name, buffer in list(graph.named_buffers()):
            place, _, last = name.rpartition(".")
            graph.get_submodule(place)._buffers[last] = home[name].copy_(buffer)
