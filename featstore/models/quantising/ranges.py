"""What values the tensors of a graph take on calibration items: their ranges, never the values."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from featstore.models import session

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Observer", "Range", "small", "spans"]

Range = tuple[float, float]
"""The least and the greatest value that a tensor is to hold; zero lies within."""

_ROWS = 4


def small(batches: Sequence[Mapping[str, NDArray[Any]]]) -> Iterator[dict[str, NDArray[Any]]]:
    """Cuts batches so small that every tensor of a graph fits into memory at once; texts lose their padding.

    Images come four at a time. Each text comes by itself without the places that its mask leaves out: what is
    computed there reaches no vector, so it must not widen a range either.
    """
    for batch in batches:
        mask = batch.get("attention_mask")
        rows = len(next(iter(batch.values())))
        if mask is None:
            for start in range(0, rows, _ROWS):
                yield {name: values[start : start + _ROWS] for name, values in batch.items()}
        else:
            for row in range(rows):
                kept = mask[row] > 0
                yield {name: values[row : row + 1, kept] for name, values in batch.items()}


class Observer:
    """Runs a graph and hands out tensors from within it, one small batch at a time.

    Args:
        content: The graph, with the tensors wanted among its outputs.
        batches: Inputs by name.
        threads: CPU threads.
    """

    def __init__(self, content: bytes, batches: Sequence[Mapping[str, NDArray[Any]]], threads: int) -> None:
        self._graph = session.open_graph(content, name="the graph to calibrate", threads=threads)
        self._batches = batches

    def __iter__(self) -> Iterator[dict[str, NDArray[Any]]]:
        for batch in small(self._batches):
            yield self._graph.run(batch)


def spans(observer: Observer, names: Sequence[str]) -> dict[str, Range]:
    """Each tensor's least and greatest value."""
    found: dict[str, Range] = dict.fromkeys(names, (0.0, 0.0))
    for tensors in observer:
        for name in names:
            low, high = found[name]
            values = tensors[name]
            found[name] = (min(low, float(values.min())), max(high, float(values.max())))
    return found
