"""A graph apart from its large weights, which are computed with where they lie in its file.

A session that is made from bytes copies every weight two or three times before it answers anything: most of the time
and memory that opening takes. Given the weights as arrays over a mapped file it copies those alone that it rearranges.
Queries are embedded so; what is stored is computed from a copy that nobody else can write to.

Source: the numbers of the fields are those of onnx.proto, https://github.com/onnx/onnx/blob/main/onnx/onnx.proto.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from featstore.models.wire import LENGTH, Content, bytes_field, fields, number_field, varint

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["ALIGNMENT", "Parted", "aligned", "part"]

ALIGNMENT = 64
"""Bytes of a cache line, and of the widest registers."""

# Bytes of a tensor from which on it is worth it.
_LARGE = 1 << 16

_GRAPH, _INITIALIZER = 7, 5
_DIMS, _TYPE, _NAME, _RAW, _DOC, _EXTERNAL, _LOCATION, _METADATA = 1, 2, 8, 9, 12, 13, 14, 16
_KEY, _VALUE, _ELSEWHERE = 1, 2, 1
_TYPES: Final[dict[int, type[np.generic]]] = {
    1: np.float32,
    2: np.uint8,
    3: np.int8,
    6: np.int32,
    7: np.int64,
    10: np.float16,
}


@dataclass(frozen=True, slots=True)
class Parted:
    """A graph and its weights.

    Attributes:
        graph: The ONNX model without them: it says that they are in the file which they were found in.
        weights: By name, read-only; where they lie, or copies of those that are not aligned to their own size.
    """

    graph: Content
    weights: dict[str, NDArray[Any]]


def part(content: Content, file: str) -> Parted:
    """Takes the large weights out of a graph.

    Args:
        content: A model that ``graphs.inspect`` has let through.
        file: The name of the file that holds it.
    """
    where = _graph(content)
    if where is None:
        return Parted(content, {})
    pieces: list[bytes] = []
    weights: dict[str, NDArray[Any]] = {}
    for start, stop, tensor in _pieces(content, *where):
        if tensor is None or tensor.name in weights:
            pieces.append(content[start:stop])
            continue
        begin, end = tensor.raw
        values = np.frombuffer(content, tensor.dtype, (end - begin) // tensor.dtype.itemsize, begin)
        weights[tensor.name] = (values if values.flags.aligned else values.copy()).reshape(tensor.dims)
        said = (("location", file), ("offset", str(begin)), ("length", str(end - begin)))
        entries = (bytes_field(_KEY, key.encode()) + bytes_field(_VALUE, value.encode()) for key, value in said)
        external = [bytes_field(_EXTERNAL, entry) for entry in entries]
        pieces.append(bytes_field(_INITIALIZER, tensor.rest, *external, number_field(_LOCATION, _ELSEWHERE)))
    if not weights:
        return Parted(content, {})
    start, stop = where
    return Parted(b"".join([_before(content, start), bytes_field(_GRAPH, *pieces), content[stop:]]), weights)


def aligned(content: bytes) -> bytes:
    """The same model with its large weights at multiples of 64 bytes: blanks that describe a tensor stand before it."""
    where = _graph(content)
    if where is None:
        return content
    start, stop = where
    before = _before(content, start)
    every = list(_pieces(content, start, stop))
    size = stop - start
    while True:
        head = before + varint(_GRAPH << 3 | LENGTH) + varint(size)
        pieces, at = [head], len(head)
        for begin, end, tensor in every:
            pieces.append(content[begin:end] if tensor is None else tensor.aligned(content, at))
            at += len(pieces[-1])
        if at - len(head) == size:
            return b"".join([*pieces, content[stop:]])
        size = at - len(head)


@dataclass(frozen=True, slots=True)
class _Tensor:
    """A large initializer: where its values lie, and its other fields but the description, as they were written."""

    name: str
    dtype: np.dtype[Any]
    dims: tuple[int, ...]
    raw: tuple[int, int]
    rest: bytes

    def aligned(self, content: bytes, at: int) -> bytes:
        """Its field, which will begin at a place of the file, with as many blanks as it needs."""
        begin, end = self.raw
        head = varint(_RAW << 3 | LENGTH) + varint(end - begin)
        tag = len(varint(_INITIALIZER << 3 | LENGTH))
        for blanks in range(-1, 2 * ALIGNMENT):
            described = b"" if blanks < 0 else bytes_field(_DOC, b" " * blanks)
            before = len(self.rest) + len(described) + len(head)
            if (at + tag + len(varint(before + end - begin)) + before) % ALIGNMENT == 0:
                break
        return bytes_field(_INITIALIZER, self.rest, described, head, content[begin:end])


def _graph(content: Content) -> tuple[int, int] | None:
    """Where the graph lies; None where there is none, or several, which readers would merge."""
    found = [(begin, stop) for number, value, begin, stop in fields(content, 0, len(content)) if number == _GRAPH]
    return found[0] if len(found) == 1 else None


def _before(content: Content, start: int) -> bytes:
    """What stands before the graph that begins at ``start``: without its tag and its length."""
    at = 0
    for _, _, begin, stop in fields(content, 0, len(content)):
        if begin == start:
            break
        at = stop
    return content[:at]


def _pieces(content: Content, start: int, stop: int) -> Iterator[tuple[int, int, _Tensor | None]]:
    """The graph's fields, tag and all: where each begins and ends, and those that are large weights."""
    at = start
    for number, _, begin, end in fields(content, start, stop):
        large = number == _INITIALIZER and end - begin >= _LARGE
        yield at, end, _tensor(content, begin, end) if large else None
        at = end


def _tensor(content: Content, start: int, stop: int) -> _Tensor | None:
    """A tensor that has a name, a shape and as many raw values of a known type; else None."""
    once: dict[int, tuple[int | None, int, int]] = {}
    dims: list[int] = []
    rest: list[bytes] = []
    at = start
    for number, value, begin, end in fields(content, start, stop):
        if number in once or number not in (_DIMS, _TYPE, _NAME, _RAW, _DOC, _METADATA):
            return None
        if number == _DIMS:
            if value is None:
                return None
            dims.append(value)
        elif number != _METADATA:
            once[number] = value, begin, end
        if number not in (_RAW, _DOC):
            rest.append(content[at:end])
        at = end
    if not {_TYPE, _NAME, _RAW} <= once.keys():
        return None
    dtype = _TYPES.get(once[_TYPE][0] or 0)
    _, begin, end = once[_RAW]
    if dtype is None or math.prod(dims) * np.dtype(dtype).itemsize != end - begin:
        return None
    _, *named = once[_NAME]
    name = content[slice(*named)].decode("utf-8", "replace")
    return _Tensor(name, np.dtype(dtype), tuple(dims), (begin, end), b"".join(rest))
