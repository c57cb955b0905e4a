"""What a serialised ONNX graph holds and reaches for, read from its bytes alone.

Every file is looked through before a session is made of it, also by a search that is to answer at once. The library
would be imported for that and copy all weights (0.17 s for 90 MB); here tensors are stepped over.

Source: the numbers of the fields are those of onnx.proto, https://github.com/onnx/onnx/blob/main/onnx/onnx.proto.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from featstore.errors import IntegrityError
from featstore.models.wire import Content, MalformedError, fields

__all__ = ["DOMAINS", "Outline", "outline"]

DOMAINS = frozenset({"", "ai.onnx", "ai.onnx.ml"})
"""Those of ONNX's own operators."""

# The messages in which tensors, operators or further graphs can be, by message and number of the field.
_INSIDE: Final[dict[str, dict[int, str]]] = {
    "model": {7: "main", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "main": {1: "node", 5: "tensor", 15: "sparse"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "function": {7: "node", 11: "attribute"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "tensor": {},
}
# Those of them that say what a message is.
_OP_TYPE, _OP_DOMAIN, _OP_OVERLOAD = 4, 7, 8
_FUNCTION_NAME, _FUNCTION_DOMAIN, _FUNCTION_OVERLOAD = 1, 10, 13
_INPUT, _OUTPUT = 11, 12
_TENSOR_NAME, _EXTERNAL_DATA, _DATA_LOCATION = 8, 13, 14
_VALUE_NAME, _VALUE_TYPE, _TENSOR_TYPE, _SHAPE, _DIM, _DIM_VALUE = 1, 2, 1, 2, 1, 1

Operator = tuple[str, str, str]
"""Domain, name and overload."""


@dataclass(slots=True)
class Outline:
    """What a file says of itself.

    Attributes:
        inputs: Names of the graph's inputs.
        outputs: Names of its outputs with their sizes, None for a size that is left open.
        nodes: How many nodes the graph itself has; those of graphs within it are not counted.
        operators: What the nodes of all graphs and functions call.
        functions: What the file defines itself.
        elsewhere: Names of the tensors whose values lie in another file.
    """

    inputs: list[str] = field(default_factory=list)
    outputs: list[tuple[str, list[int | None]]] = field(default_factory=list)
    nodes: int = 0
    operators: set[Operator] = field(default_factory=set)
    functions: set[Operator] = field(default_factory=set)
    elsewhere: list[str] = field(default_factory=list)


def outline(content: Content, *, name: str) -> Outline:
    """Walks through a serialised ``ModelProto``: all graphs, functions, attributes and tensors, at any depth.

    Where the format lets a later field replace or complete an earlier one, each of them is walked through: what one
    of them reaches for is found, whichever another reader goes by.

    Args:
        content: The ONNX file.
        name: How to call it in messages.

    Raises:
        IntegrityError: It is no message of that format.
    """
    found = Outline()
    waiting = [("model", 0, len(content))]
    try:
        while waiting:
            kind, start, end = waiting.pop()
            waiting += _LOOK[kind](found, content, start, end) if kind in _LOOK else _within(kind, content, start, end)
    except MalformedError as error:
        raise IntegrityError(f"{name} is no ONNX model: {error}.") from error
    return found


_Part = tuple[str, int, int]
"""A message's kind, and where it begins and ends."""


def _within(kind: str, content: Content, start: int, end: int) -> Iterator[_Part]:
    inside = _INSIDE[kind]
    for number, _, begin, stop in fields(content, start, end):
        if number in inside:
            yield inside[number], begin, stop


def _main(found: Outline, content: Content, start: int, end: int) -> Iterator[_Part]:
    inside = _INSIDE["main"]
    for number, _, begin, stop in fields(content, start, end):
        if number in inside:
            found.nodes += inside[number] == "node"
            yield inside[number], begin, stop
        elif number == _INPUT:
            found.inputs.append(_text(content, *_last(content, begin, stop, _VALUE_NAME)))
        elif number == _OUTPUT:
            found.outputs.append(
                (_text(content, *_last(content, begin, stop, _VALUE_NAME)), _sizes(content, begin, stop))
            )


def _node(found: Outline, content: Content, start: int, end: int) -> Iterator[_Part]:
    said = {_OP_DOMAIN: "", _OP_TYPE: "", _OP_OVERLOAD: ""}
    yield from _named("node", said, content, start, end)
    found.operators.add((said[_OP_DOMAIN], said[_OP_TYPE], said[_OP_OVERLOAD]))


def _function(found: Outline, content: Content, start: int, end: int) -> Iterator[_Part]:
    said = {_FUNCTION_DOMAIN: "", _FUNCTION_NAME: "", _FUNCTION_OVERLOAD: ""}
    yield from _named("function", said, content, start, end)
    found.functions.add((said[_FUNCTION_DOMAIN], said[_FUNCTION_NAME], said[_FUNCTION_OVERLOAD]))


def _named(kind: str, said: dict[int, str], content: Content, start: int, end: int) -> Iterator[_Part]:
    """Fills in what a message calls itself. No writer says that twice or as a number; readers may differ over it."""
    seen: set[int] = set()
    for number, value, begin, stop in fields(content, start, end):
        if number in said:
            if number in seen or value is not None:
                raise MalformedError(f"a {kind} is named ambiguously")
            seen.add(number)
            said[number] = _text(content, begin, stop)
        elif number in _INSIDE[kind]:
            yield _INSIDE[kind][number], begin, stop


def _tensor(found: Outline, content: Content, start: int, end: int) -> Iterator[_Part]:
    name, elsewhere = "", False
    for number, value, begin, stop in fields(content, start, end):
        if number == _TENSOR_NAME:
            name = _text(content, begin, stop)
        elif number == _EXTERNAL_DATA or (number == _DATA_LOCATION and value):
            elsewhere = True
    if elsewhere:
        found.elsewhere.append(name)
    return iter(())


# What is noted of a message while those within it are found; the others are only passed through.
_LOOK = {"main": _main, "node": _node, "function": _function, "tensor": _tensor}


def _sizes(content: Content, start: int, end: int) -> list[int | None]:
    """The sizes of a ``ValueInfoProto``, which lie four messages deep."""
    for number in (_VALUE_TYPE, _TENSOR_TYPE, _SHAPE):
        start, end = _last(content, start, end, number)
    sizes: list[int | None] = []
    for number, _, begin, stop in fields(content, start, end):
        if number == _DIM:
            said = [value for size, value, *_ in fields(content, begin, stop) if size == _DIM_VALUE]
            sizes.append(said[-1] if said else None)
    return sizes


def _last(content: Content, start: int, end: int, number: int) -> tuple[int, int]:
    """Where the last field of a number lies; nowhere, if there is none."""
    found = (end, end)
    for other, _, begin, stop in fields(content, start, end):
        if other == number:
            found = begin, stop
    return found


def _text(content: Content, start: int, end: int) -> str:
    return content[start:end].decode("utf-8", "replace")
