"""ONNX graphs as data: cleaned before they are kept, looked through before they are opened."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from featstore.errors import IntegrityError
from featstore.models import in_place
from featstore.models.outline import DOMAINS, Outline, outline
from featstore.models.wire import Content

if TYPE_CHECKING:
    import onnx

__all__ = ["LARGEST", "clean", "inside", "inspect", "parse", "parts"]

LARGEST = (1 << 31) - 1
"""The most bytes of one ONNX file; more does not fit into one protobuf message."""


def clean(model: onnx.ModelProto, *, name: str = "the exported graph") -> bytes:
    """Serialises a graph without doc strings and metadata, which hold this machine's paths; checks it, aligns it.

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
    return in_place.aligned(model.SerializeToString(deterministic=True))


def parse(content: Content, *, name: str) -> onnx.ModelProto:
    """Reads a graph and refuses one that reaches out of its file or beyond ONNX's own operators.

    Looked for, in subgraphs, functions, sparse initializers and attributes alike: tensors with
    external data, operators of other domains than ONNX's own.

    Raises:
        IntegrityError: Naming what was found.
    """
    import onnx

    _checked(content, name)
    try:
        return onnx.load_model_from_string(bytes(content))
    except Exception as error:  # protobuf's DecodeError, by whatever name this version has it
        raise IntegrityError(f"{name} is no ONNX model: {_short(error)}.") from error


def inspect(content: Content, *, name: str, inputs: tuple[str, ...], output: str, dim: int) -> None:
    """Refuses a graph that a card does not describe or that ``parse`` refuses; loads no library for that.

    Raises:
        IntegrityError: Naming what was found.
    """
    found = _checked(content, name)
    returned = tuple(name for name, _ in found.outputs)
    if tuple(found.inputs) != inputs or returned != (output,):
        raise IntegrityError(
            f"{name} maps {', '.join(found.inputs)} to {', '.join(returned)}; "
            f"its card says {', '.join(inputs)} to {output}."
        )
    _, sizes = found.outputs[0]
    if len(sizes) != 2 or sizes[1] not in (None, dim):
        shape = "x".join("?" if size is None else str(size) for size in sizes)
        raise IntegrityError(f"{name} gives vectors of shape {shape}; its card says {dim} values each.")


def _checked(content: Content, name: str) -> Outline:
    found = outline(content, name=name)
    if not found.nodes:
        raise IntegrityError(f"{name} is no ONNX model: it has no graph.")
    for tensor in found.elsewhere:
        raise IntegrityError(
            f"{name} keeps the tensor '{tensor}' in another file, which featstore never opens.",
            hint="Export the model as one file (external_data=False).",
        )
    for domain, function, _ in sorted(found.functions):
        if domain in DOMAINS:
            raise IntegrityError(f"{name} redefines ONNX's own operator {function} by a function.")
    for domain, operator, _ in sorted(found.operators - found.functions):
        if domain not in DOMAINS:
            raise IntegrityError(
                f"{name} uses the operator {domain}::{operator}, which is not one of ONNX's own.",
                hint="Export the model with standard operators only.",
            )
    return found


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


def _field(graph: Any, name: str) -> Any:
    """A function's inputs are plain names, and it has no initializers."""
    found = getattr(graph, name, ())
    return () if name in ("input", "output") and found and isinstance(found[0], str) else found


def _strip(part: Any) -> None:
    part.ClearField("doc_string")
    part.ClearField("metadata_props")


def _short(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300].rstrip(".")
