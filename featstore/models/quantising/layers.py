"""Which nodes of a graph can compute in whole numbers: those that multiply by fixed weights."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

if TYPE_CHECKING:
    import onnx
    from numpy.typing import NDArray

__all__ = ["Layer", "Wiring", "find"]

_ACTIVATIONS = ("Relu", "Clip")
"""What the runtime computes within a convolution, where nothing else reads in between."""


@dataclass(frozen=True, slots=True)
class Layer:
    """A node with fixed weights.

    Attributes:
        name: The node's name, unique in the graph.
        kind: A convolution, or a matrix product.
        input: The tensor that is multiplied.
        weight: The initializer it is multiplied by.
        axis: The weight's axis of output channels.
        bias: The initializer that is added within the node, or None.
        output: What the layer hands on: the activation's tensor where the runtime computes it along.
        groups: Of a convolution, as are the three that follow.
    """

    name: str
    kind: Literal["conv", "matmul"]
    input: str
    weight: str
    axis: int
    bias: str | None
    output: str
    groups: int = 1
    strides: tuple[int, ...] = ()
    dilations: tuple[int, ...] = ()
    pads: tuple[int, ...] = ()


class Wiring:
    """Who makes and who reads each tensor of a graph.

    Attributes:
        initializers: The fixed tensors by name.
        maker: Each computed tensor's node.
        readers: Each tensor's nodes, in the graph's order.
        returned: The graph's outputs.
    """

    def __init__(self, graph: onnx.GraphProto) -> None:
        self.initializers = {tensor.name: tensor for tensor in graph.initializer}
        self.maker = {name: node for node in graph.node for name in node.output}
        self.readers: dict[str, list[Any]] = defaultdict(list)
        for node in graph.node:
            for name in dict.fromkeys(node.input):
                self.readers[name].append(node)
        self.returned = {output.name for output in graph.output}

    def array(self, name: str) -> NDArray[Any]:
        """An initializer's values."""
        from onnx import numpy_helper

        return np.asarray(numpy_helper.to_array(self.initializers[name]))

    def alone(self, name: str) -> Any | None:
        """The one node that reads a tensor; None where several do, or the graph returns it."""
        readers = self.readers[name]
        return readers[0] if len(readers) == 1 and name not in self.returned else None

    def floats(self, name: str, axes: tuple[int, ...]) -> bool:
        """Whether a tensor is fixed, float32 and of one of the given numbers of axes."""
        tensor = self.initializers.get(name)
        return tensor is not None and tensor.data_type == 1 and len(tensor.dims) in axes


def find(graph: onnx.GraphProto, wiring: Wiring) -> list[Layer]:
    """The layers of a graph, in its order. Products of two computed tensors (attention) are none."""
    found = []
    for node in graph.node:
        layer = _layer(node, wiring)
        if layer is not None:
            found.append(layer)
    return found


def _layer(node: Any, wiring: Wiring) -> Layer | None:
    given = list(node.input)
    if node.op_type == "Conv" and wiring.floats(given[1], (3, 4, 5)):
        bias = given[2] if len(given) > 2 and given[2] else None
        if bias is not None and not wiring.floats(bias, (1,)):
            return None
        reader = wiring.alone(node.output[0])
        fused = reader is not None and reader.op_type in _ACTIVATIONS
        output = reader.output[0] if reader is not None and fused else node.output[0]
        told: dict[str, Any] = {a.name: list(a.ints) or a.i for a in node.attribute}
        sides = len(wiring.initializers[given[1]].dims) - 2
        return Layer(
            node.name,
            "conv",
            given[0],
            given[1],
            0,
            bias,
            output,
            groups=int(told.get("group") or 1),
            strides=tuple(told.get("strides") or [1] * sides),
            dilations=tuple(told.get("dilations") or [1] * sides),
            pads=tuple(told.get("pads") or [0] * (2 * sides)),
        )
    if node.op_type == "MatMul" and wiring.floats(given[1], (2,)):
        return Layer(node.name, "matmul", given[0], given[1], 1, None, node.output[0])
    if node.op_type == "Gemm" and wiring.floats(given[1], (2,)):
        told = {a.name: a.f if a.type == 1 else a.i for a in node.attribute}
        bias = given[2] if len(given) > 2 and given[2] else None
        plain = told.get("alpha", 1.0) == 1.0 and told.get("beta", 1.0) == 1.0 and not told.get("transA", 0)
        if plain and (bias is None or wiring.floats(bias, (1,))):
            axis = 0 if told.get("transB", 0) else 1
            return Layer(node.name, "matmul", given[0], given[1], axis, bias, node.output[0])
    return None
