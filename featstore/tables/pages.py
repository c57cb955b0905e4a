"""The pages of a vector column, as they lie in the file: headers, levels and checksums.

Source: the Parquet format, https://github.com/apache/parquet-format (parquet.thrift, Encodings.md).
"""

from __future__ import annotations

import threading
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Levels", "PageHeader", "UnreadableError", "parse_header"]

_DATA_PAGE, _PLAIN, _RLE = 0, 0, 3
_KEPT_PATTERNS = 256


class UnreadableError(ValueError):
    """These bytes are not a page that can be read directly; the message says why."""


@dataclass(frozen=True, slots=True)
class PageHeader:
    """What a data page's header says; ``length`` is the header's own. ``crc`` is None where there is none."""

    length: int
    body: int
    values: int
    crc: int | None


def parse_header(data: bytes) -> PageHeader:
    """Decodes the Thrift-compact header of an uncompressed PLAIN data page (v1).

    Raises:
        UnreadableError: It is another kind of page, or no header at all.
    """
    try:
        fields, length = _struct(data, 0)
    except IndexError as error:
        raise UnreadableError("a page header does not end") from error
    page = fields.get(5)
    if fields.get(1) != _DATA_PAGE or not isinstance(page, dict):
        raise UnreadableError("a page is not a data page")
    body, values, crc = fields.get(3), page.get(1), fields.get(4)
    if not isinstance(body, int) or not isinstance(values, int) or body != fields.get(2) or body < 8 or values < 1:
        raise UnreadableError("a page header's sizes do not agree")
    if (page.get(2), page.get(3), page.get(4)) != (_PLAIN, _RLE, _RLE):
        raise UnreadableError("a page has another encoding")
    return PageHeader(length, body, values, crc & 0xFFFFFFFF if isinstance(crc, int) else None)


class Levels:
    """Checks that a page's levels say: no nulls, and a new row exactly every ``dim`` values.

    Files hold few distinct level runs; those found right are kept and compared byte by byte.
    """

    def __init__(self) -> None:
        self._right: dict[tuple[int, int, int, int], bytes] = {}
        self._lock = threading.Lock()

    def check(self, levels: bytes, *, values: int, phase: int, dim: int, max_definition: int) -> None:
        """Checks the repetition and definition levels of one page.

        Args:
            levels: Both runs, each with its four bytes of length in front.
            values: The number of values in the page.
            phase: How many values of its first row came in the page before.
            dim: The length that every row must have.
            max_definition: The definition level of a value that is there.

        Raises:
            UnreadableError: A row is null, holds a null, or has another length.
        """
        key = (values, phase, dim, max_definition)
        if self._right.get(key) == levels:
            return
        cut = 4 + int.from_bytes(levels[:4], "little")
        repetition = _hybrid(levels[4:cut], 1, values)
        definition = _hybrid(levels[cut + 4 :], max_definition.bit_length(), values)
        if not (definition == max_definition).all():
            raise UnreadableError("it holds a null or empty vector")
        starts = np.flatnonzero(repetition == 0)
        if not np.array_equal(starts, np.arange(-phase % dim, values, dim)):
            raise UnreadableError(f"it holds a vector whose length is not {dim}")
        with self._lock:
            if len(self._right) >= _KEPT_PATTERNS:
                self._right.clear()
            self._right[key] = levels


def _hybrid(data: bytes, width: int, values: int) -> NDArray[np.uint8]:
    """Decodes a run of the RLE / bit-packed hybrid with values of at most 8 bits."""
    out = np.empty(values, np.uint8)
    at = done = 0
    while done < values:
        if at >= len(data):
            raise UnreadableError("its levels end too early")
        header, at = _varint(data, at)
        if header & 1:
            size = (header >> 1) * width
            packed = np.frombuffer(data[at : at + size], np.uint8)
            single = np.unpackbits(packed, bitorder="little")
            bits = single[: len(single) // width * width].reshape(-1, width)
            run = (bits << np.arange(width, dtype=np.uint8)).sum(axis=1, dtype=np.uint8)[: values - done]
            if len(run) < min(values - done, (header >> 1) * 8):
                raise UnreadableError("its levels end too early")
            out[done : done + len(run)] = run
            done += len(run)
            at += size
        else:
            count = min(header >> 1, values - done)
            if not count or at >= len(data):
                raise UnreadableError("its levels cannot be decoded")
            out[done : done + count] = data[at]
            done += count
            at += 1
    return out


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        if at >= len(data) or shift > 63:
            raise UnreadableError("a number does not end")
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7


def _struct(data: bytes, at: int, depth: int = 0) -> tuple[dict[int, object], int]:
    fields: dict[int, object] = {}
    last = 0
    if depth > 4:
        raise UnreadableError("a page header is nested too deeply")
    while True:
        head = data[at]
        at += 1
        if head == 0:
            return fields, at
        kind = head & 0x0F
        if head >> 4:
            last += head >> 4
        else:
            number, at = _varint(data, at)
            last = (number >> 1) ^ -(number & 1)
        if kind in (1, 2):
            fields[last] = kind == 1
        elif kind == 3:
            fields[last] = data[at]
            at += 1
        elif kind in (4, 5, 6):
            number, at = _varint(data, at)
            fields[last] = (number >> 1) ^ -(number & 1)
        elif kind == 7:
            at += 8
        elif kind == 8:
            size, at = _varint(data, at)
            at += size
        elif kind == 12:
            fields[last], at = _struct(data, at, depth + 1)
        else:
            raise UnreadableError("a page header has a field of an unknown kind")
