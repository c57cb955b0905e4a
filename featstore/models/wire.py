"""The wire format of Protocol Buffers: a message's fields, found and made without a library.

Source: https://protobuf.dev/programming-guides/encoding/
"""

from __future__ import annotations

from collections.abc import Iterator
from mmap import mmap

__all__ = ["LENGTH", "VARINT", "Content", "MalformedError", "bytes_field", "fields", "number_field", "varint"]

Content = bytes | mmap
"""A serialised message, in memory or as a file that is mapped into it."""

VARINT, LENGTH = 0, 2
_FIXED = {1: 8, 5: 4}
_LONGEST_VARINT = 10


class MalformedError(Exception):
    """Bytes that are no message."""


def fields(content: Content, start: int, end: int) -> Iterator[tuple[int, int | None, int, int]]:
    """A message's fields: their number, value (None for bytes), and where those begin and end.

    Raises:
        MalformedError: It is no message.
    """
    at = start
    value: int | None
    while at < end:
        tag, at = _varint(content, at, end)
        number, wire = tag >> 3, tag & 7
        if wire == LENGTH:
            length, at = _varint(content, at, end)
            begin, value, at = at, None, at + length
        elif wire == VARINT:
            value, at = _varint(content, at, end)
            begin = at
        elif wire in _FIXED:
            at += _FIXED[wire]
            begin, value = at, 0
        else:
            raise MalformedError(f"a field of the unknown kind {wire}")
        if at > end or number == 0:
            raise MalformedError("a field reaches beyond its message" if number else "a field without a number")
        yield number, value, begin, at


def bytes_field(number: int, *parts: bytes) -> bytes:
    """A field of bytes: a text or a message."""
    return b"".join([varint(number << 3 | LENGTH), varint(sum(map(len, parts))), *parts])


def number_field(number: int, value: int) -> bytes:
    """A field of a number that is not negative."""
    return varint(number << 3 | VARINT) + varint(value)


def varint(value: int) -> bytes:
    """An integer that is not negative: seven bits a byte, the lowest first."""
    found = bytearray()
    while value >= 0x80:
        found.append(value & 0x7F | 0x80)
        value >>= 7
    found.append(value)
    return bytes(found)


def _varint(content: Content, at: int, end: int) -> tuple[int, int]:
    """An integer and where it ends."""
    value = shift = 0
    for here in range(at, min(end, at + _LONGEST_VARINT)):
        byte = content[here]
        if byte < 0x80:
            return value | byte << shift, here + 1
        value |= (byte & 0x7F) << shift
        shift += 7
    raise MalformedError("it ends within a field" if end - at < _LONGEST_VARINT else "an integer of too many bytes")
