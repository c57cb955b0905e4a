"""SmoothQuant: outlying channels of activations are made smaller, the weights that meet them larger."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from featstore.models.quantising.layers import Layer, Wiring
from featstore.models.quantising.ranges import Observer

if TYPE_CHECKING:
    import onnx
    from numpy.typing import NDArray

__all__ = ["peaks", "smoothable", "smoothed"]

_STRENGTH = 0.5


def smoothable(layers: Sequence[Layer]) -> dict[str, list[Layer]]:
    """The matrix products by the tensor they read."""
    found: dict[str, list[Layer]] = defaultdict(list)
    for layer in layers:
        if layer.kind == "matmul" and layer.axis == 1:
            found[layer.input].append(layer)
    return dict(found)


def peaks(observer: Observer, names: Sequence[str]) -> dict[str, NDArray[np.float64]]:
    """The greatest magnitude of each channel (the last axis) of some tensors."""
    found: dict[str, NDArray[np.float64]] = {}
    for tensors in observer:
        for name in names:
            now = np.abs(tensors[name]).reshape(-1, tensors[name].shape[-1]).max(axis=0)
            found[name] = np.maximum(found.get(name, 0.0), now)
    return found


def smoothed(
    model: onnx.ModelProto, readers: dict[str, list[Layer]], seen: dict[str, NDArray[np.float64]]
) -> onnx.ModelProto:
    """A copy of a graph in which activations are divided, and weights multiplied, channel by channel.

    The division goes into the scale and bias of the ``LayerNormalization`` that makes the activations; who else
    reads them (a residual sum) gets them multiplied again. Tensors made otherwise stay as they are.

    Source: G. Xiao et al., "SmoothQuant: Accurate and Efficient Post-Training Quantization for Large
    Language Models", ICML 2023, equation 4 with α = 0.5.

    Args:
        model: The fp32 graph; it is left as it is.
        readers: The matrix products by the tensor they read.
        seen: The greatest magnitude of each channel of those tensors.
    """
    import onnx
    from onnx import helper, numpy_helper

    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    wiring = Wiring(copy.graph)
    fresh: dict[str, NDArray[np.float32]] = {}
    after = {}
    for name, layers in readers.items():
        maker = wiring.maker.get(name)
        if maker is None or maker.op_type != "LayerNormalization" or name in wiring.returned:
            continue
        fixed = list(maker.input[1:])
        alone = all(len(wiring.readers[f]) == 1 and f in wiring.initializers for f in fixed)
        if not alone or any(len(wiring.readers[layer.weight]) != 1 for layer in layers):
            continue
        strongest = np.max([np.abs(wiring.array(layer.weight)).max(axis=1) for layer in layers], axis=0)
        factor = np.maximum(seen[name], 1e-5) ** _STRENGTH / np.maximum(strongest, 1e-5) ** (1 - _STRENGTH)
        factor = (factor / np.exp(np.log(factor).mean())).astype(np.float32)
        for given in fixed:
            fresh[given] = wiring.array(given) / factor
        for layer in layers:
            fresh[layer.weight] = wiring.array(layer.weight) * factor[:, None]
        names = {layer.name for layer in layers}
        others = [reader for reader in wiring.readers[name] if reader.name not in names]
        if others:
            whole = f"{name}_whole"
            copy.graph.initializer.append(numpy_helper.from_array(factor, f"{name}_factor"))
            after[name] = helper.make_node("Mul", [name, f"{name}_factor"], [whole], f"{name}_unsmoothed")
            for reader in others:
                for at, given in enumerate(reader.input):
                    if given == name:
                        reader.input[at] = whole
    for tensor in copy.graph.initializer:
        if tensor.name in fresh:
            tensor.CopyFrom(numpy_helper.from_array(fresh[tensor.name].astype(np.float32), tensor.name))
    nodes = []
    for node in copy.graph.node:
        nodes.append(type(node).FromString(node.SerializeToString()))
        nodes.extend(after[output] for output in node.output if output in after)
    copy.graph.ClearField("node")
    copy.graph.node.extend(nodes)
    return copy
