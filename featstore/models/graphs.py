"""ONNX graphs as data: cleaned before they are kept, looked through before they are opened."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from featstore.errors import IntegrityError

if TYPE_CHECKING:
    import onnx

__all__ = ["LARGEST", "clean", "inside", "inspect", "parse", "parts"]

LARGEST = (1 << 31) - 1
"""The most bytes of one ONNX file; more does not fit into one protobuf message."""

_DOMAINS = frozenset({"", "ai.onnx", "ai.onnx.ml"})
_EXTERNAL = 1  # TensorProto.EXTERNAL


def clean(model: onnx.ModelProto, *, name: str = "the exported graph") -> bytes:
    """Serialises a graph without doc strings and metadata, which hold this machine's paths; checks it.

    Args:
        model: The graph; it is stripped in place.
        name: How to call it in messages.

    Raises:
        IntegrityError: It is no valid graph.
    """
    import onnx

    model.ClearField("metadata_props")
    model.ClearField("doc_string")
    for graph in parts(model):
        _strip(graph)
        for part in (*graph.node, *_field(graph, "input"), *_field(graph, "output"), *graph.value_info):
            _strip(part)
        for tensor in _field(graph, "initializer"):
            _strip(tensor)
    try:
        onnx.checker.check_model(model, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError, ValueError) as error:
        raise IntegrityError(f"{name} is not valid ONNX: {_short(error)}.") from error
    content: bytes = model.SerializeToString(deterministic=True)
    return content


def parse(content: bytes, *, name: str) -> onnx.ModelProto:
    """Reads a graph and refuses one that reaches out of its file or beyond ONNX's own operators.

    Looked for, in subgraphs, functions, sparse initializers and attributes alike: tensors with
    external data, operators of other domains than ONNX's own.

    Raises:
        IntegrityError: Naming what was found.
    """
    import onnx

    try:
        model = onnx.load_model_from_string(content)
    except Exception as error:  # protobuf's DecodeError, by whatever name this version has it
        raise IntegrityError(f"{name} is no ONNX model: {_short(error)}.") from error
    if not content or not model.graph.node:
        raise IntegrityError(f"{name} is no ONNX model: it has no graph.")
    for tensor in _tensors(model):
        if tensor.data_location == _EXTERNAL or tensor.external_data:
            raise IntegrityError(
                f"{name} keeps the tensor '{tensor.name}' in another file, which featstore never opens.",
                hint="Export the model as one file (external_data=False).",
            )
    local = {(f.domain, f.name, f.overload) for f in model.functions}
    for domain, function, _ in sorted(local):
        if domain in _DOMAINS:
            raise IntegrityError(f"{name} redefines ONNX's own operator {function} by a function.")
    for graph in parts(model):
        for node in graph.node:
            if node.domain not in _DOMAINS and (node.domain, node.op_type, node.overload) not in local:
                raise IntegrityError(
                    f"{name} uses the operator {node.domain}::{node.op_type}, which is not one of ONNX's own.",
                    hint="Export the model with standard operators only.",
                )
    return model


def inspect(content: bytes, *, name: str, inputs: tuple[str, ...], output: str, dim: int) -> None:
    """Refuses a graph that a card does not describe or that ``parse`` refuses.

    Raises:
        IntegrityError: Naming what was found.
    """
    model = parse(content, name=name)
    given = tuple(value.name for value in model.graph.input)
    returned = tuple(value.name for value in model.graph.output)
    if given != inputs or returned != (output,):
        raise IntegrityError(
            f"{name} maps {', '.join(given)} to {', '.join(returned)}; its card says {', '.join(inputs)} to {output}."
        )
    shape = model.graph.output[0].type.tensor_type.shape.dim
    if len(shape) != 2 or (shape[1].HasField("dim_value") and shape[1].dim_value != dim):
        sizes = "x".join(str(d.dim_value or d.dim_param or "?") for d in shape)
        raise IntegrityError(f"{name} gives vectors of shape {sizes}; its card says {dim} values each.")


def parts(model: onnx.ModelProto) -> Iterator[Any]:
    """The main graph, every function, those for training, and every graph inside an attribute, at any depth."""
    roots: list[Any] = [model.graph, *model.functions]
    for training in model.training_info:
        roots += [training.initialization, training.algorithm]
    return inside(*roots)


def inside(*roots: Any) -> Iterator[Any]:
    """Graphs or functions, and every graph inside an attribute of theirs, at any depth."""
    waiting = list(roots)
    while waiting:
        graph = waiting.pop()
        yield graph
        for node in graph.node:
            for attribute in node.attribute:
                if attribute.HasField("g"):
                    waiting.append(attribute.g)
                waiting.extend(attribute.graphs)


def _tensors(model: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    for graph in parts(model):
        yield from _field(graph, "initializer")
        for sparse in _field(graph, "sparse_initializer"):
            yield from (sparse.values, sparse.indices)
        for node in graph.node:
            for attribute in node.attribute:
                yield from attribute.tensors
                if attribute.HasField("t"):
                    yield attribute.t
                for sparse in (
                    *attribute.sparse_tensors,
                    *([attribute.sparse_tensor] if attribute.HasField("sparse_tensor") else []),
                ):
                    yield from (sparse.values, sparse.indices)


def _field(graph: Any, name: str) -> Any:
    """A function's inputs are plain names, and it has no initializers."""
    found = getattr(graph, name, ())
    return () if name in ("input", "output") and found and isinstance(found[0], str) else found


def _strip(part: Any) -> None:
    part.ClearField("doc_string")
    part.ClearField("metadata_props")


def _short(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300].rstrip(".")
