"""Writing a graph with some layers in int8: quantise and dequantise nodes around them, weights in whole numbers.

The graph stays one of ONNX's own operators, exact in what it rounds; the runtime that opens it fuses
``DequantizeLinear → Conv → QuantizeLinear`` into one integer convolution, and so on.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from featstore.models.quantising.layers import Layer, Wiring
from featstore.models.quantising.ranges import Range

if TYPE_CHECKING:
    import onnx
    from numpy.typing import NDArray

__all__ = ["LARGEST", "Whole", "activation", "nearest", "observed", "quantised", "scales"]

LARGEST = 64
"""The largest weight in whole numbers. A processor without VNNI adds two products of uint8 and int8 in 16 bits, which
saturate from 2 × 255 × 65 on: with larger weights a graph would give other vectors there, and poor ones.

Source: ONNX Runtime's documentation, "Quantize ONNX models", section "When and why do I need to try U8U8?".
"""
_TAKEN_ALONG = ("Conv", "Gemm")
_KEEPS_VALUES = ("MaxPool", "Transpose", "Reshape", "Flatten", "Squeeze", "Unsqueeze")


def observed(layers: Collection[Layer]) -> list[str]:
    """The tensors whose ranges must be known to quantise some layers, each once."""
    names: dict[str, None] = {}
    for layer in layers:
        names[layer.input] = None
        if layer.kind == "conv":
            names[layer.output] = None
    return list(names)


def activation(span: Range) -> tuple[np.float32, np.uint8]:
    """Scale and zero point of uint8 values that cover a range.

    Source: B. Jacob et al., "Quantization and Training of Neural Networks for Efficient
    Integer-Arithmetic-Only Inference", CVPR 2018, section 3.1.
    """
    low, high = min(span[0], 0.0), max(span[1], 0.0)
    scale = np.float32((high - low) / 255) or np.float32(1.0)
    return scale, np.uint8(np.clip(np.rint(-low / scale), 0, 255))


def scales(values: NDArray[np.float32], axis: int) -> NDArray[np.float32]:
    """The step of symmetric weights in whole numbers for each output channel: float32 (outputs,)."""
    others = tuple(i for i in range(values.ndim) if i != axis)
    steps: NDArray[np.float32] = (np.abs(values).max(axis=others) / LARGEST).astype(np.float32)
    steps[steps < np.finfo(np.float32).tiny] = 1.0
    return steps


def nearest(values: NDArray[np.float32], axis: int, steps: NDArray[np.float32]) -> NDArray[np.int8]:
    """Weights in whole steps, each rounded by itself."""
    shape = [1] * values.ndim
    shape[axis] = -1
    whole: NDArray[np.int8] = np.clip(np.rint(values / steps.reshape(shape)), -LARGEST, LARGEST).astype(np.int8)
    return whole


Whole = Mapping[str, tuple["NDArray[np.int8]", "NDArray[np.float32]", "NDArray[np.float64]"]]
"""Weights in whole numbers, their scales and what to add to the bias, by the layer's name."""


def quantised(
    model: onnx.ModelProto, layers: Collection[Layer], spans: Mapping[str, Range], whole: Whole | None = None
) -> onnx.ModelProto:
    """A copy of a graph in which some layers compute in int8.

    Args:
        model: The fp32 graph; it is left as it is.
        layers: Those to quantise.
        spans: The range of every tensor that ``observed`` names.
        whole: Weights that are rounded already; the others are rounded to the nearest.
    """
    import onnx

    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    writer = _Writer(copy.graph, whole or {}, {layer.name for layer in layers})
    for name in observed(layers):
        writer.tensor(name, spans)
    for layer in layers:
        writer.layer(layer)
    writer.finish()
    return copy


class _Writer:
    def __init__(self, graph: onnx.GraphProto, whole: Whole, layers: Collection[str]) -> None:
        self._graph = graph
        self._wiring = Wiring(graph)
        self._nodes = {node.name: node for node in graph.node}
        self._whole = whole
        self._layers = layers
        self._params: dict[str, tuple[np.float32, np.uint8]] = {}
        self._before: list[Any] = []
        self._after: dict[str, list[Any]] = {}

    def tensor(self, name: str, spans: Mapping[str, Range]) -> None:
        """Rounds a tensor to uint8 for all who read it."""
        from onnx import helper

        scale, zero = self._params[name] = self._settled(name, spans)
        maker = self._wiring.maker.get(name)
        whole = maker.input[0] if maker is not None and maker.op_type == "DequantizeLinear" else f"{name}_q"
        self._constant(f"{name}_scale", np.asarray(scale))
        self._constant(f"{name}_zero", np.asarray(zero))
        given = [f"{name}_scale", f"{name}_zero"]
        pair = [helper.make_node("DequantizeLinear", [whole, *given], [f"{name}_dq"], f"{name}_dequantise")]
        if whole == f"{name}_q":
            pair.insert(0, helper.make_node("QuantizeLinear", [name, *given], [whole], f"{name}_quantise"))
        guarded = False
        for reader in self._wiring.readers[name]:
            in_fp32 = reader.op_type in _TAKEN_ALONG and reader.name not in self._layers
            guarded = guarded or in_fp32
            for at, given_name in enumerate(reader.input):
                if given_name == name:
                    reader.input[at] = f"{name}_fp32" if in_fp32 else f"{name}_dq"
        if guarded:
            pair.append(self._guarded(name, whole, scale, zero))
        self._after[name] = pair

    def layer(self, layer: Layer) -> None:
        """Puts a layer's weights and bias into whole numbers."""
        node = self._nodes[layer.name]
        values = self._wiring.array(layer.weight)
        if layer.name in self._whole:
            whole, scale, shift = self._whole[layer.name]
        else:
            scale, shift = scales(values, layer.axis), np.zeros(1)
            whole = nearest(values, layer.axis, scale)
        node.input[1] = self._dequantised(f"{layer.name}_weight", whole, scale, layer.axis)
        bias = np.zeros(len(scale)) if layer.bias is None else self._wiring.array(layer.bias)
        bias = bias.astype(np.float64) + shift
        if layer.bias is not None or bias.any():
            steps = self._params[layer.input][0] * scale
            limit = 2.0**31 - 1
            rounded = np.clip(np.rint(bias / steps), -limit, limit).astype(np.int32)
            del node.input[2:]
            node.input.append(self._dequantised(f"{layer.name}_bias", rounded, steps, 0))

    def finish(self) -> None:
        """Orders the nodes and drops the weights that nobody reads any more."""
        nodes = list(self._before)
        for node in self._graph.node:
            nodes.append(node)
            for name in node.output:
                nodes.extend(self._after.pop(name, ()))
        nodes = [*(node for pair in self._after.values() for node in pair), *nodes]
        copied = [type(node).FromString(node.SerializeToString()) for node in nodes]
        read = {name for node in copied for name in node.input} | self._wiring.returned
        copied = [node for node in copied if any(name in read for name in node.output)]
        self._graph.ClearField("node")
        self._graph.node.extend(copied)
        read = {name for node in copied for name in node.input} | self._wiring.returned
        kept = [tensor for tensor in self._graph.initializer if tensor.name in read]
        kept = [type(tensor).FromString(tensor.SerializeToString()) for tensor in kept]
        self._graph.ClearField("initializer")
        self._graph.initializer.extend(kept)

    def _settled(self, name: str, spans: Mapping[str, Range]) -> tuple[np.float32, np.uint8]:
        """The tensor's own scale, or that of the tensor it only rearranges."""
        maker = self._wiring.maker.get(name)
        if maker is not None and maker.op_type in _KEEPS_VALUES and maker.input[0].removesuffix("_dq") in self._params:
            return self._params[maker.input[0].removesuffix("_dq")]
        if maker is not None and maker.op_type == "DequantizeLinear":
            scale, zero = (self._wiring.array(given) for given in maker.input[1:])
            return np.float32(scale), np.uint8(zero)
        return activation(spans[name])

    def _guarded(self, name: str, whole: str, scale: np.float32, zero: np.uint8) -> Any:
        """A dequantisation for layers that stay in fp32, with a scale for each channel, all equal.

        Between a plain one and the next ``QuantizeLinear`` the runtime would take a layer's fp32 weights for
        forgotten and put them into int8 with one scale for all (its WeightBiasQuantization).
        """
        from onnx import helper

        reader = next(r for r in self._wiring.readers[name] if r.op_type in _TAKEN_ALONG and r.name not in self._layers)
        shape = self._wiring.initializers[reader.input[1]].dims
        told = {a.name: a.i for a in reader.attribute}
        if reader.op_type == "Conv":
            channels = shape[1] * (told.get("group") or 1)
        else:
            channels = shape[1 if told.get("transB") else 0]
        self._constant(f"{name}_scales", np.full(channels, scale, np.float32))
        self._constant(f"{name}_zeros", np.full(channels, zero, np.uint8))
        given = [whole, f"{name}_scales", f"{name}_zeros"]
        return helper.make_node("DequantizeLinear", given, [f"{name}_fp32"], f"{name}_fp32_dequantise", axis=1)

    def _dequantised(self, name: str, whole: NDArray[Any], scale: NDArray[np.float32], axis: int) -> str:
        from onnx import helper

        self._constant(f"{name}_q", whole)
        self._constant(f"{name}_scale", scale)
        self._constant(f"{name}_zero", np.zeros(scale.shape, whole.dtype))
        given = [f"{name}_q", f"{name}_scale", f"{name}_zero"]
        node = helper.make_node("DequantizeLinear", given, [f"{name}_dq"], f"{name}_dequantise", axis=axis)
        self._before.append(node)
        return f"{name}_dq"

    def _constant(self, name: str, values: NDArray[Any]) -> None:
        from onnx import numpy_helper

        self._graph.initializer.append(numpy_helper.from_array(values, name))
