"""What a graph computes, as one digest: equal for two files that say the same in other words."""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from featstore.errors import IntegrityError
from featstore.storage import hashing

if TYPE_CHECKING:
    import onnx

__all__ = ["of_graph"]

_DEEPEST = 64


def of_graph(model: onnx.ModelProto, *, inputs: Mapping[str, str], output: str, name: str) -> str:
    """SHA-256 of the function from a graph's inputs to one of its outputs.

    Each value is named by a hash over the operator that makes it, its attributes and the hashes of what
    goes in. So neither names, doc strings, metadata, the order of initializers and of independent nodes,
    other outputs, nor the bytes of the file matter. The versions of the operator sets do.

    Args:
        model: A graph that ``graphs.parse`` has let through.
        inputs: The graph's input names, and what each stands for (``image``, ``input_ids``).
        output: The output's name.
        name: How to call the file in messages.

    Raises:
        IntegrityError: The graph uses a value that nothing makes, or functions that call themselves.
    """
    walk = _Walk(model, name)
    scope = {given: hashing.of_json(["input", role]) for given, role in inputs.items()}
    walk.graph(model.graph, scope, _versions(model), 0)
    if output not in scope:
        raise IntegrityError(f"{name} has no value '{output}'.")
    return scope[output]


@dataclass
class _Walk:
    model: onnx.ModelProto
    name: str
    depth: int = 0
    functions: dict[tuple[str, str, str], Any] = field(init=False)
    known: dict[tuple[str, str, str], str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.functions = {(f.domain, f.name, f.overload): f for f in self.model.functions}

    def graph(self, graph: Any, scope: dict[str, str], versions: Mapping[str, int], level: int) -> None:
        """Names every value of a graph in ``scope``, which holds its inputs and what stands around it."""
        own = {value.name for value in graph.input}
        for tensor in graph.initializer:
            # An input that is given beats its own default; a value of the same name outside is hidden.
            if tensor.name not in own or tensor.name not in scope:
                scope[tensor.name] = _tensor(tensor, self.name)
        for sparse in graph.sparse_initializer:
            scope[sparse.values.name] = _sparse(sparse, self.name)
        self.nodes(graph.node, scope, versions, level)

    def nodes(self, nodes: Any, scope: dict[str, str], versions: Mapping[str, int], level: int) -> None:
        """Names what a list of nodes makes."""
        self.depth += 1
        if self.depth > _DEEPEST:
            raise IntegrityError(f"{self.name}: its graphs or functions lie more than {_DEEPEST} deep in each other.")
        for node in nodes:
            values = [node.attribute[0].t] if node.op_type == "Constant" and len(node.attribute) == 1 else []
            if values and node.attribute[0].name == "value":
                scope[node.output[0]] = _tensor(values[0], self.name)
                continue
            try:
                given = [scope[value] if value else "" for value in node.input]
            except KeyError as error:
                raise IntegrityError(f"{self.name}: {node.op_type} uses {error}, which nothing made.") from error
            attributes = sorted([a.name, self.attribute(a, scope, versions, level)] for a in node.attribute)
            made = hashing.of_json([self.operator(node, versions), given, attributes])
            for at, value in enumerate(node.output):
                if value:
                    scope[value] = hashing.of_json([made, at])
        self.depth -= 1

    def operator(self, node: Any, versions: Mapping[str, int]) -> list[Any]:
        """An operator with the version of its set, or a function by what it does."""
        key = (node.domain, node.op_type, node.overload)
        domain = "" if node.domain == "ai.onnx" else node.domain
        if key not in self.functions:
            return [domain, node.op_type, versions.get(domain, 0)]
        if key not in self.known:
            function = self.functions[key]
            inner = {value: hashing.of_json(["parameter", at]) for at, value in enumerate(function.input)}
            own = _versions(function)
            self.nodes(function.node, inner, own, 0)
            defaults = sorted([a.name, self.attribute(a, inner, own, 0)] for a in function.attribute_proto)
            try:
                outputs = [inner[value] for value in function.output]
            except KeyError as error:
                raise IntegrityError(f"{self.name}: the function {node.op_type} never makes {error}.") from error
            self.known[key] = hashing.of_json([outputs, defaults, list(function.attribute)])
        return ["function", self.known[key]]

    def attribute(self, attribute: Any, scope: dict[str, str], versions: Mapping[str, int], level: int) -> list[Any]:
        """An attribute's type and value."""

        def inner(graph: Any) -> list[str]:
            own = dict(scope)
            own.update((value.name, hashing.of_json(["inner", level, at])) for at, value in enumerate(graph.input))
            self.graph(graph, own, versions, level + 1)
            return [own.get(value.name, "") for value in graph.output]

        readers: dict[int, Callable[[], object]] = {
            1: lambda: struct.pack("<f", attribute.f).hex(),
            2: lambda: attribute.i,
            3: lambda: attribute.s.hex(),
            4: lambda: _tensor(attribute.t, self.name),
            5: lambda: inner(attribute.g),
            6: lambda: [struct.pack("<f", value).hex() for value in attribute.floats],
            7: lambda: list(attribute.ints),
            8: lambda: [value.hex() for value in attribute.strings],
            9: lambda: [_tensor(tensor, self.name) for tensor in attribute.tensors],
            10: lambda: [inner(graph) for graph in attribute.graphs],
            11: lambda: _sparse(attribute.sparse_tensor, self.name),
            12: lambda: [_sparse(sparse, self.name) for sparse in attribute.sparse_tensors],
            13: lambda: attribute.tp.SerializeToString(deterministic=True).hex(),
            14: lambda: [t.SerializeToString(deterministic=True).hex() for t in attribute.type_protos],
        }
        if attribute.ref_attr_name:
            return ["from", attribute.ref_attr_name]
        if attribute.type not in readers:
            raise IntegrityError(f"{self.name}: the attribute '{attribute.name}' has no type.")
        return [attribute.type, readers[attribute.type]()]


def _versions(part: Any) -> dict[str, int]:
    return {("" if o.domain == "ai.onnx" else o.domain): int(o.version) for o in part.opset_import}


def _tensor(tensor: onnx.TensorProto, name: str) -> str:
    """Type, shape and values, whichever of protobuf's fields holds them."""
    from onnx import numpy_helper

    shape = [int(d) for d in tensor.dims]
    if tensor.string_data:
        return hashing.of_json(["strings", shape, [value.hex() for value in tensor.string_data]])
    try:
        values = numpy_helper.to_array(tensor)
        content = values.astype(values.dtype.newbyteorder("<"), copy=False).tobytes()
    except (ValueError, TypeError, KeyError, NotImplementedError) as error:
        raise IntegrityError(f"{name}: the tensor '{tensor.name}' cannot be read: {error}.") from error
    return hashing.of_json(["tensor", int(tensor.data_type), shape, hashing.of_bytes(content)])


def _sparse(sparse: onnx.SparseTensorProto, name: str) -> str:
    parts = [_tensor(sparse.values, name), _tensor(sparse.indices, name), [int(d) for d in sparse.dims]]
    return hashing.of_json(["sparse", parts])
