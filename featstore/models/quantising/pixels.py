"""Letting the first layer read the picture's own bytes: its preprocessing goes into the weights."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from featstore.models.quantising.layers import Layer, Wiring, find

if TYPE_CHECKING:
    import onnx
    from numpy.typing import NDArray

__all__ = ["read_bytes"]

_UINT8 = 2
_BOUNDARY = 1.0
"""The most that the padding may differ from black, in the layer's normalised units (1 is about 60 of 255)."""


def read_bytes(model: onnx.ModelProto) -> bool:
    """Rewrites ``Transpose → Cast → (− mean) / std → layer`` to ``Transpose → DequantizeLinear → layer``.

    The bytes then reach the integer kernel unrounded, and nothing computes in float before it. The result is
    the same within rounding; only where a convolution pads, zero becomes the nearest whole byte that stands
    for it in all three channels.

    Args:
        model: The graph, rewritten in place.

    Returns:
        Whether it was rewritten: only where one layer reads the normalised picture.
    """
    from onnx import helper, numpy_helper

    graph = model.graph
    wiring = Wiring(graph)
    images = {given.name for given in graph.input if given.type.tensor_type.elem_type == _UINT8}
    for layer in find(graph, wiring):
        chain = _chain(layer, wiring, images)
        if chain is None:
            continue
        source, nodes, factor, offset = chain
        values = wiring.array(layer.weight).astype(np.float64)
        if layer.kind != "conv" or values.ndim != 4 or values.shape[1] != len(factor):
            return False
        zero = np.clip(np.rint(np.mean(-offset / factor)), 0, 255)
        rest = offset + factor * zero
        if any(layer.pads) and np.abs(rest).max() > _BOUNDARY:
            return False
        bias = np.zeros(len(values)) if layer.bias is None else wiring.array(layer.bias).astype(np.float64)
        bias = bias + np.einsum("ocyx,c->o", values, rest)
        weight = (values * factor[None, :, None, None]).astype(np.float32)
        names = [f"{layer.name}_{part}" for part in ("step", "zero", "weight", "bias", "bytes")]
        constants = (np.float32(1.0), np.uint8(zero), weight, bias.astype(np.float32))
        graph.initializer.extend(
            numpy_helper.from_array(np.asarray(array), name) for name, array in zip(names, constants, strict=False)
        )
        reader = helper.make_node("DequantizeLinear", [source, *names[:2]], [names[4]], f"{names[4]}_dequantise")
        node = next(node for node in graph.node if node.name == layer.name)
        attributes = list(node.attribute)
        fresh = helper.make_node(node.op_type, [names[4], *names[2:4]], list(node.output), node.name)
        fresh.attribute.extend(attributes)
        kept = []
        for other in graph.node:
            if other.name == layer.name:
                kept += [reader, fresh]
            elif other.name not in nodes:
                kept.append(other)
        kept = [type(other).FromString(other.SerializeToString()) for other in kept]
        graph.ClearField("node")
        graph.node.extend(kept)
        return True
    return False


def _chain(
    layer: Layer, wiring: Wiring, images: set[str]
) -> tuple[str, set[str], NDArray[np.float64], NDArray[np.float64]] | None:
    """The uint8 tensor a layer reads through steps of one factor and offset for each channel, and those steps."""
    steps: list[tuple[str, NDArray[np.float64], bool]] = []
    nodes: set[str] = set()
    name = layer.input
    while True:
        node = wiring.maker.get(name)
        if node is None or wiring.alone(name) is None:
            return None
        if node.op_type == "Cast":
            nodes.add(node.name)
            source = node.input[0]
            break
        if node.op_type not in ("Add", "Sub", "Mul", "Div"):
            return None
        fixed = [i for i, given in enumerate(node.input) if given in wiring.initializers]
        if len(fixed) != 1 or (fixed[0] == 0 and node.op_type in ("Sub", "Div")):
            return None
        constant = wiring.array(node.input[fixed[0]]).astype(np.float64)
        if constant.size not in (1, 3) or (constant.size == 3 and constant.shape[-3:] != (3, 1, 1)):
            return None
        steps.append((node.op_type, constant.reshape(-1), bool(fixed[0])))
        nodes.add(node.name)
        name = node.input[1 - fixed[0]]
    maker: Any = wiring.maker.get(source)
    arranged = maker is not None and maker.op_type == "Transpose" and maker.input[0] in images
    if not arranged or [list(a.ints) for a in maker.attribute] != [[0, 3, 1, 2]]:
        return None
    factor, offset = np.ones(3), np.zeros(3)
    for kind, constant, _ in reversed(steps):
        if kind in ("Add", "Sub"):
            offset = offset + (constant if kind == "Add" else -constant)
        else:
            by = constant if kind == "Mul" else 1.0 / constant
            factor, offset = factor * by, offset * by
    return source, nodes, factor, offset
