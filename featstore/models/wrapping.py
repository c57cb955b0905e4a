"""A foreign ONNX graph becomes one of ours: uint8 pictures or token ids in, one vector for each out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from featstore.models import graphs
from featstore.models.export import OUTPUT

if TYPE_CHECKING:
    import onnx

__all__ = ["LEAST_OPSET", "Layout", "Shape", "Wrapping", "wrap"]

LEAST_OPSET = 13
"""The oldest operator set that our own nodes are written in: from 13 on ReduceSum takes its axes as an input."""

Layout = Literal["uint8 NHWC", "float NCHW", "float NHWC"]
Shape = Literal["vectors", "tokens"]

_OWN = "own/"
_SMALLEST = 1e-12
"""Source: torch.nn.functional.normalize's ``eps``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wrapping:
    """What is put around a graph.

    Attributes:
        inputs: The graph's inputs by role: ``image``, or ``input_ids``, ``attention_mask``, ``token_type_ids``.
        output: The output that is used, float32.
        shape: Whether it is (batch, values) or (batch, tokens, values).
        pooling: ``mean``, ``cls``, ``last`` or ``max`` over tokens.
        layout: For images: type and order of the graph's input.
        size: For images: (height, width).
        mean: For float inputs: subtracted from pixels on the 0–1 scale, by channel.
        std: For float inputs: what they are divided by then.
        values: How many values the graph gives.
        dim: How many of them are kept.
        cut: Whether the first ``dim`` values are taken and made of length 1.
    """

    inputs: Mapping[str, str]
    output: str
    shape: Shape
    pooling: str
    values: int
    dim: int
    cut: bool
    layout: Layout | None = None
    size: tuple[int, int] = (0, 0)
    mean: tuple[float, float, float] | None = None
    std: tuple[float, float, float] | None = None


def wrap(model: onnx.ModelProto, how: Wrapping) -> onnx.ModelProto:
    """Puts the preparing in front of a graph and the pooling behind it, in ONNX's own operators.

    The graph's names get a prefix; what was an output besides ``how.output`` and what is for training only is left
    out. Token ids are int64; segments, where the graph asks for them, are zeros.

    Args:
        model: The graph; it is changed.
        how: What is put around it.
    """
    from onnx import TensorProto, helper

    graph = model.graph
    opset = next(o.version for o in model.opset_import if o.domain in ("", "ai.onnx"))
    before = _Nodes(opset, "in/")
    after = _Nodes(opset, "out/")
    types = {value.name: value.type.tensor_type.elem_type for value in graph.input}
    names: dict[str, str] = {}
    given: list[Any]
    if how.layout is not None:
        given = [helper.make_tensor_value_info("image", TensorProto.UINT8, ["batch", *how.size, 3])]
        names[how.inputs["image"]] = "image" if how.layout == "uint8 NHWC" else _pixels(before, how)
    else:
        roles = ["input_ids"]
        if "attention_mask" in how.inputs or how.shape == "tokens":
            roles.append("attention_mask")
        given = [helper.make_tensor_value_info(role, TensorProto.INT64, ["batch", "length"]) for role in roles]
        for role, name in how.inputs.items():
            value = role if role in roles else before.zeros("input_ids")
            small = types[name] == TensorProto.INT32
            names[name] = before.add("Cast", value, to=TensorProto.INT32) if small else value
    made = names.get(how.output, _OWN + how.output)
    pooled = made if how.shape == "vectors" else _pooled(after, made, how)
    if how.cut:
        pooled = _cut(after, pooled, how.dim)
    after.add("Identity", pooled, output=OUTPUT)
    model.ClearField("training_info")
    _rename(model, names)
    own = list(graph.node)
    del graph.node[:], graph.input[:], graph.output[:]
    graph.node.extend([*before.nodes, *own, *after.nodes])
    graph.input.extend(given)
    graph.output.append(helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, ["batch", how.dim]))
    graph.initializer.extend([*before.constants, *after.constants])
    graph.name = "featstore"
    for part in ("value_info", "quantization_annotation"):
        graph.ClearField(part)
    return model


class _Nodes:
    """Nodes in the making; every value gets a name of its own."""

    def __init__(self, opset: int, prefix: str) -> None:
        self.opset = opset
        self.prefix = prefix
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def add(self, operator: str, *inputs: str, output: str | None = None, **attributes: Any) -> str:
        from onnx import helper

        name = output or f"{self.prefix}{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, list(inputs), [name], **attributes))
        return name

    def constant(self, values: object, kind: Any) -> str:
        from onnx import numpy_helper

        name = f"{self.prefix}c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(values, kind), name))
        return name

    def reduce(self, operator: str, value: str, axis: int, *, keep: int) -> str:
        """Reduces one axis; operators but ReduceSum took their axes as an attribute before set 18."""
        if self.opset >= 18 or operator == "ReduceSum":
            return self.add(operator, value, self.constant([axis], np.int64), keepdims=keep)
        return self.add(operator, value, axes=[axis], keepdims=keep)

    def zeros(self, like: str) -> str:
        from onnx import numpy_helper

        zero = numpy_helper.from_array(np.zeros(1, np.int64))
        return self.add("ConstantOfShape", self.add("Shape", like), value=zero)


def _pixels(nodes: _Nodes, how: Wrapping) -> str:
    """uint8 (b, h, w, 3) to normalised floats, in the order of operations that ``image_graph`` has."""
    from onnx import TensorProto

    first = how.layout == "float NCHW"
    value = nodes.add("Transpose", "image", perm=[0, 3, 1, 2]) if first else "image"
    value = nodes.add("Cast", value, to=TensorProto.FLOAT)
    value = nodes.add("Div", value, nodes.constant(255.0, np.float32))
    shape = (1, 3, 1, 1) if first else (1, 1, 1, 3)
    value = nodes.add("Sub", value, nodes.constant(np.reshape(how.mean or (0.0,) * 3, shape), np.float32))
    return nodes.add("Div", value, nodes.constant(np.reshape(how.std or (1.0,) * 3, shape), np.float32))


def _pooled(nodes: _Nodes, tokens: str, how: Wrapping) -> str:
    """(b, t, d) to (b, d); padding, which stands on the right, does not count."""
    from onnx import TensorProto

    axis = nodes.constant([-1], np.int64)
    if how.pooling == "cls":
        return nodes.add("Gather", tokens, nodes.constant(0, np.int64), axis=1)
    if how.layout is not None:
        return nodes.reduce({"mean": "ReduceMean", "max": "ReduceMax"}[how.pooling], tokens, 1, keep=0)
    if how.pooling == "last":
        length = nodes.add("ReduceSum", "attention_mask", nodes.constant([1], np.int64), keepdims=1)
        return nodes.add("GatherND", tokens, nodes.add("Sub", length, nodes.constant(1, np.int64)), batch_dims=1)
    wide = nodes.add("Unsqueeze", "attention_mask", axis)
    if how.pooling == "max":
        there = nodes.add("Cast", wide, to=TensorProto.BOOL)
        lowest = nodes.constant(-np.inf, np.float32)
        return nodes.reduce("ReduceMax", nodes.add("Where", there, tokens, lowest), 1, keep=0)
    share = nodes.add("Cast", wide, to=TensorProto.FLOAT)
    total = nodes.reduce("ReduceSum", nodes.add("Mul", tokens, share), 1, keep=0)
    count = nodes.add("Max", nodes.reduce("ReduceSum", share, 1, keep=0), nodes.constant(1e-9, np.float32))
    return nodes.add("Div", total, count)


def _cut(nodes: _Nodes, vector: str, dim: int) -> str:
    """The first values of (b, d), made of length 1 again."""
    bounds = [nodes.constant(bound, np.int64) for bound in ([0], [dim], [1])]
    short = nodes.add("Slice", vector, *bounds)
    length = nodes.reduce("ReduceL2", short, 1, keep=1)
    return nodes.add("Div", short, nodes.add("Max", length, nodes.constant(_SMALLEST, np.float32)))


def _rename(model: onnx.ModelProto, names: Mapping[str, str]) -> None:
    """Gives every value of a graph and of the graphs inside it the prefix, or its name in ``names``.

    onnx.compose.add_prefix forgets the uses of outer initializers in inner graphs (1.23).
    """

    def new(name: str) -> str:
        return names.get(name, _OWN + name) if name else ""

    for graph in graphs.inside(model.graph):
        for node in graph.node:
            node.input[:] = [new(name) for name in node.input]
            node.output[:] = [new(name) for name in node.output]
        for value in (*graph.input, *graph.output, *graph.value_info, *graph.initializer):
            value.name = new(value.name)
        for sparse in graph.sparse_initializer:
            sparse.values.name = new(sparse.values.name)
            if sparse.indices.name:
                sparse.indices.name = new(sparse.indices.name)
