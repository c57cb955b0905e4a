"""Which layers harm the vectors most when they alone compute in int8."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from featstore.models import session
from featstore.models.quantising import qdq
from featstore.models.quantising.layers import Layer
from featstore.models.quantising.ranges import Range, small

if TYPE_CHECKING:
    import onnx
    from numpy.typing import NDArray

__all__ = ["harm"]

_ITEMS = 24


def harm(
    model: onnx.ModelProto,
    layers: Sequence[Layer],
    spans: Mapping[str, Range],
    whole: qdq.Whole,
    batches: Sequence[Mapping[str, NDArray[Any]]],
    *,
    threads: int,
) -> dict[str, float]:
    """How far the vectors move, on average, when one layer at a time is quantised: 1 − cosine, by the layer's name."""
    items = _some(batches)

    def vectors(graph: onnx.ModelProto) -> NDArray[np.float64]:
        opened = session.open_graph(graph.SerializeToString(), name="a quantised graph", threads=threads)
        rows = np.concatenate([opened.run(item)["vector"] for item in items]).astype(np.float64)
        normed: NDArray[np.float64] = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-30)
        return normed

    before = vectors(model)
    found = {}
    for layer in layers:
        after = vectors(qdq.quantised(model, [layer], spans, whole))
        found[layer.name] = float(np.mean(1.0 - np.einsum("nd,nd->n", before, after)))
    return found


def _some(batches: Sequence[Mapping[str, NDArray[Any]]]) -> list[dict[str, NDArray[Any]]]:
    """Some items from everywhere in the batches."""
    pieces = list(small(batches))
    rows = len(next(iter(pieces[0].values())))
    wanted = min(len(pieces), -(-_ITEMS // rows))
    return [pieces[int(at)] for at in np.linspace(0, len(pieces) - 1, wanted)]
