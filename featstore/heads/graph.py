"""A head as an ONNX graph, alone or behind its backbone, in ONNX's own operators.

Alone it takes ``vector`` (batch, d) float32; behind a backbone what that takes. It gives ``probabilities`` (batch, c)
float32 with ``label`` (batch) int64, the number of the likeliest class; for several labels at once ``probabilities``
with ``labels`` (batch, c) bool, by their thresholds; for numbers ``value`` (batch) float32.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from featstore.errors import UsageError
from featstore.models import graphs
from featstore.models.export import OUTPUT as VECTOR

if TYPE_CHECKING:
    import onnx

    from featstore.heads.head import Head

__all__ = ["alone", "behind", "described", "finished"]

_OPSET, _IR = 18, 9
_LEAST_OPSET = 13
_TINY = 1e-30
_OUTPUTS = ("probabilities", "label", "labels", "value")


def alone(head: Head, *, double: bool = False) -> onnx.ModelProto:
    """The graph of a head, from vectors on.

    Args:
        head: The head.
        double: Compute in float64, which not every runtime can, where float32 would not do.
    """
    from onnx import TensorProto, helper

    nodes = _Nodes(_OPSET, "head/", double=double)
    outputs = _outputs(nodes, head)
    vector = helper.make_tensor_value_info(VECTOR, TensorProto.FLOAT, ["batch", head.dim])
    graph = helper.make_graph(nodes.nodes, "featstore", [vector], outputs, initializer=nodes.constants)
    opset = [helper.make_opsetid("", _OPSET)]
    return helper.make_model(graph, opset_imports=opset, ir_version=_IR, producer_name="featstore")


def behind(backbone: bytes, head: Head, *, name: str, double: bool = False) -> onnx.ModelProto:
    """One graph from what a backbone takes to what a head says.

    The nodes are put behind the backbone's own: onnx.compose forgets the uses of outer initializers in inner graphs.

    Args:
        backbone: The graph of the head's space.
        head: The head.
        name: How to call the backbone in messages.
        double: Compute the head in float64.

    Raises:
        IntegrityError: The backbone is no graph that featstore runs.
        UsageError: Its operators are older than a head's may be.
    """
    model = graphs.parse(backbone, name=name)
    opset = next((o.version for o in model.opset_import if o.domain in ("", "ai.onnx")), 0)
    if opset < _LEAST_OPSET:
        raise UsageError(f"{name} is written in ONNX's operator set {opset}; a head needs {_LEAST_OPSET} or newer.")
    _make_room(model)
    used = {value for graph in graphs.inside(model.graph) for node in graph.node for value in node.output}
    used |= {tensor.name for tensor in model.graph.initializer}
    prefix = "head/"
    while any(value.startswith(prefix) for value in used):
        prefix = f"_{prefix}"
    nodes = _Nodes(opset, prefix, double=double)
    outputs = _outputs(nodes, head)
    del model.graph.output[:]
    model.graph.node.extend(nodes.nodes)
    model.graph.initializer.extend(nodes.constants)
    model.graph.output.extend(outputs)
    return model


def _make_room(model: onnx.ModelProto) -> None:
    """Renames what a backbone calls as the head's outputs are called."""
    every = list(graphs.inside(model.graph))
    taken = {name for graph in every for node in graph.node for name in (*node.input, *node.output)}
    taken |= {value.name for graph in every for value in (*graph.input, *graph.initializer)}
    kept = {value.name for value in model.graph.input}
    new = {}
    for name in _OUTPUTS:
        if name in taken and name not in kept:
            new[name] = f"backbone/{name}"
            while new[name] in taken:
                new[name] = f"_{new[name]}"
    if not new:
        return
    for graph in every:
        for node in graph.node:
            node.input[:] = [new.get(name, name) for name in node.input]
            node.output[:] = [new.get(name, name) for name in node.output]
        for value in (*graph.input, *graph.output, *graph.initializer, *graph.value_info):
            value.name = new.get(value.name, value.name)


def finished(model: onnx.ModelProto, notes: Mapping[str, str]) -> bytes:
    """The checked graph as the bytes of a file, with notes in its metadata; equal graphs are equal files.

    Raises:
        IntegrityError: It is no valid graph.
        UsageError: It is larger than one ONNX file can be.
    """
    if model.ByteSize() > graphs.LARGEST - (1 << 20):
        raise UsageError(
            f"the graph would have {model.ByteSize() / 1e9:.1f} GB; an ONNX file has 2 GB at most.",
            hint="Of a knn head the vectors it knows are part of the graph; train one of another kind.",
        )
    graphs.clean(model, name="the head's graph")
    for key, value in sorted(notes.items()):
        model.metadata_props.add(key=key, value=value)
    content: bytes = model.SerializeToString(deterministic=True)
    return content


def described(content: bytes) -> tuple[dict[str, str], dict[str, str]]:
    """What a graph takes and what it gives: type and shape by name."""
    import onnx

    def shown(values: Any) -> dict[str, str]:
        found = {}
        for value in values:
            kind = onnx.helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type)
            shape = ", ".join(str(size.dim_param or size.dim_value) for size in value.type.tensor_type.shape.dim)
            found[value.name] = f"{kind} ({shape})"
        return found

    model = onnx.load_model_from_string(content)
    return shown(model.graph.input), shown(model.graph.output)


def _outputs(nodes: _Nodes, head: Head) -> list[Any]:
    """Adds the head's nodes; the graph's outputs."""
    from onnx import TensorProto, helper

    logits = _logits(nodes, head)
    if head.task == "regression":
        nodes.add("Squeeze", nodes.single(logits), nodes.whole([1]), output="value")
        return [helper.make_tensor_value_info("value", TensorProto.FLOAT, ["batch"])]
    scaled = nodes.add("Div", logits, nodes.constant(head.settings.get("temperature", 1.0)))
    count = len(head.classes)
    found = [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["batch", count])]
    if head.task == "multilabel":
        shares = nodes.add("Sigmoid", scaled)
        bounds = nodes.constant(head.arrays.get("thresholds", np.full(count, 0.5)))
        nodes.add("GreaterOrEqual", shares, bounds, output="labels")
        found.append(helper.make_tensor_value_info("labels", TensorProto.BOOL, ["batch", count]))
    else:
        shares = nodes.add("Softmax", scaled, axis=1)
        nodes.add("ArgMax", logits, output="label", axis=1, keepdims=0)
        found.append(helper.make_tensor_value_info("label", TensorProto.INT64, ["batch"]))
    nodes.add("Identity", nodes.single(shares), output="probabilities")
    return found


def _logits(nodes: _Nodes, head: Head) -> str:
    """As ``Head.logits``."""
    arrays = head.arrays
    value = nodes.add("Cast", VECTOR, to=nodes.double_type) if nodes.double else VECTOR
    if head.input in ("unit", "centred"):
        value = _unit(nodes, value)
    if "mean" in arrays:
        value = nodes.add("Sub", value, nodes.constant(arrays["mean"]))
        value = nodes.add("Mul", value, nodes.constant(arrays["factor"]))
    if "known" in arrays:
        return _neighbours(nodes, _unit(nodes, value), head)
    if "hidden_weights" in arrays:
        value = _linear(nodes, value, arrays["hidden_weights"], arrays["hidden_bias"])
        value = nodes.add("Relu", value)
    return _linear(nodes, value, arrays["weights"], arrays["bias"])


def _linear(nodes: _Nodes, value: str, weights: Any, bias: Any) -> str:
    return nodes.add("Gemm", value, nodes.constant(weights), nodes.constant(bias), transB=1)


def _unit(nodes: _Nodes, value: str) -> str:
    if nodes.opset >= 18:
        length = nodes.add("ReduceL2", value, nodes.whole([1]), keepdims=1)
    else:
        length = nodes.add("ReduceL2", value, axes=[1], keepdims=1)
    return nodes.add("Div", value, nodes.add("Max", length, nodes.constant(_TINY)))


def _neighbours(nodes: _Nodes, value: str, head: Head) -> str:
    known, target = head.arrays["known"], head.arrays["known_target"]
    k = min(int(head.settings["k"]), len(known))
    near = nodes.add("MatMul", value, nodes.constant(np.ascontiguousarray(known.T)))
    scores, at = nodes.several("TopK", near, nodes.whole([k]), outputs=2, axis=1, largest=1)
    weights = nodes.add("Softmax", nodes.add("Div", scores, nodes.constant(head.settings["tau"])), axis=1)
    theirs = nodes.add("Gather", nodes.constant(target), at, axis=0)
    shares = nodes.add("MatMul", nodes.add("Unsqueeze", weights, nodes.whole([1])), theirs)
    shares = nodes.add("Squeeze", shares, nodes.whole([1]))
    if head.task == "regression":
        return shares
    floor = head.settings.get("floor", 1e-6)
    shares = nodes.add("Max", shares, nodes.constant(floor))
    if head.task != "multilabel":
        return nodes.add("Log", shares)
    shares = nodes.add("Min", shares, nodes.constant(1 - floor))
    return nodes.add("Sub", nodes.add("Log", shares), nodes.add("Log", nodes.add("Sub", nodes.constant(1.0), shares)))


class _Nodes:
    """Nodes in the making; every value gets a name of its own."""

    def __init__(self, opset: int, prefix: str, *, double: bool) -> None:
        from onnx import TensorProto

        self.opset = opset
        self.double = double
        self.double_type: int = TensorProto.DOUBLE
        self._single_type: int = TensorProto.FLOAT
        self._prefix = prefix
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def add(self, operator: str, *inputs: str, output: str | None = None, **attributes: Any) -> str:
        from onnx import helper

        name = output or f"{self._prefix}{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, list(inputs), [name], **attributes))
        return name

    def several(self, operator: str, *inputs: str, outputs: int, **attributes: Any) -> list[str]:
        """A node of several outputs."""
        from onnx import helper

        names = [f"{self._prefix}{len(self.nodes)}.{at}" for at in range(outputs)]
        self.nodes.append(helper.make_node(operator, list(inputs), names, **attributes))
        return names

    def constant(self, values: Any) -> str:
        """Numbers, of the type that is computed in."""
        return self._keep(np.asarray(values, np.float64 if self.double else np.float32))

    def whole(self, values: Any) -> str:
        """Whole numbers, such as axes."""
        return self._keep(np.asarray(values, np.int64))

    def single(self, value: str) -> str:
        """A value as float32."""
        return self.add("Cast", value, to=self._single_type) if self.double else value

    def _keep(self, values: Any) -> str:
        from onnx import numpy_helper

        name = f"{self._prefix}c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(values, name))
        return name
