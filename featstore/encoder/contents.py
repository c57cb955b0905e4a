"""The items of an ``X``: paths, bytes, pixels or texts, each with the hash that a table would give it."""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featstore.errors import ItemError, UsageError
from featstore.records import Modality
from featstore.sources.files import FileReader, Hashed, hash_files
from featstore.storage import hashing

__all__ = ["Contents", "gather"]


@dataclass(frozen=True)
class Contents:
    """The contents of an ``X``, some of them still in their files.

    Attributes:
        names: What to call each in messages.
        hashes: SHA-256 of each content, or why there is none.
    """

    names: tuple[str, ...]
    hashes: tuple[str | ItemError, ...]
    held: dict[int, bytes | str]
    files: dict[int, tuple[bytes, Hashed]]

    def read(self, row: int) -> bytes | str:
        """The row-th content.

        Raises:
            ItemError: Its file has changed since it was hashed, or has gone.
        """
        if row in self.held:
            return self.held[row]
        path, hashed = self.files[row]
        return FileReader([path], [hashed]).read(0)


def gather(x: object, modality: Modality) -> Contents:
    """Takes an ``X`` apart and hashes what is in it.

    For images an item is a path (``str`` or ``os.PathLike``), a file's bytes, or pixels as uint8 (h, w), (h, w, 3) or
    (h, w, 4); for texts a ``str``, UTF-8 bytes, or the ``os.PathLike`` of a text file. ``X`` is a sequence of them, a
    Series, or a frame or array of one column.

    Raises:
        UsageError: ``X`` is no such sequence, or holds something else.
    """
    items = _sequence(x)
    names: list[str] = []
    hashes: list[str | ItemError] = []
    held: dict[int, bytes | str] = {}
    paths: dict[int, bytes] = {}
    for row, item in enumerate(items):
        found = _content(item, modality, row)
        if isinstance(found, _Path):
            names.append(str(item))
            paths[row] = found.path
            hashes.append("")
            continue
        names.append(repr(found[:40]) if isinstance(found, str) else f"item {row}")
        held[row] = found
        hashes.append(_hash(found))
    files: dict[int, tuple[bytes, Hashed]] = {}
    for (row, path), hashed in zip(paths.items(), hash_files(list(paths.values())), strict=True):
        if isinstance(hashed, ItemError):
            gone = ItemError("read", "not_found", "there is no such file.")
            hashes[row] = gone if hashed.code == "vanished" else hashed
        else:
            hashes[row] = hashed.sha256
            files[row] = (path, hashed)
    return Contents(tuple(names), tuple(hashes), held, files)


@dataclass(frozen=True)
class _Path:
    path: bytes


def _sequence(x: object) -> Sequence[Any]:
    if isinstance(x, str | bytes | os.PathLike):
        raise UsageError("X is one item; give a list of them.", hint="For example: encoder.transform([path])")
    if hasattr(x, "columns"):  # a frame of pandas, Polars or pyarrow
        frame: Any = x
        if frame.shape[1] != 1:
            raise UsageError(f"X has {frame.shape[1]} columns; give the one with the paths or texts.")
        if hasattr(frame, "iloc"):
            x = frame.iloc[:, 0]
        else:
            x = frame.column(0) if hasattr(frame, "column_names") else frame[frame.columns[0]]
    if hasattr(x, "to_pylist"):
        return list(x.to_pylist())
    if isinstance(x, np.ndarray):
        if x.ndim == 2 and x.shape[1] == 1:
            x = x[:, 0]
        if x.ndim == 0 or (x.ndim != 1 and x.dtype != np.uint8) or x.ndim == 2:
            raise UsageError(f"X is an array of {x.dtype} {x.shape}; give (n,) or (n, 1) items, or uint8 (n, h, w, 3).")
        return list(x)
    try:
        return list(x)  # type: ignore[call-overload, no-any-return]
    except TypeError as error:
        raise UsageError(f"X is a {type(x).__name__}; give a list of paths, bytes, pixels or texts.") from error


def _content(item: object, modality: Modality, row: int) -> bytes | str | _Path:
    if isinstance(item, bytes | bytearray | memoryview):
        return bytes(item)
    if isinstance(item, np.ndarray) and item.ndim == 0:
        return _content(item.item(), modality, row)
    if isinstance(item, list | tuple | np.ndarray) and len(item) == 1 and not isinstance(item[0], np.ndarray | list):
        return _content(item[0], modality, row)  # a row of one column
    if isinstance(item, os.PathLike) or (isinstance(item, str) and modality == "image"):
        return _path(item, row)
    if isinstance(item, str):
        return str(item)  # not numpy's own kind
    if isinstance(item, np.ndarray) and modality == "image":
        return _png(item, row)
    wanted = "a path, bytes or pixels" if modality == "image" else "a text"
    raise UsageError(f"X[{row}] is a {type(item).__name__}; the model takes {modality}s: {wanted}.")


def _path(item: str | os.PathLike[str], row: int) -> _Path:
    try:
        path = os.fsencode(item)
    except UnicodeEncodeError as error:
        raise UsageError(f"X[{row}] is no path: {error}.") from error
    if b"\0" in path:
        raise UsageError(f"X[{row}] is no path: it holds a NUL.")
    return _Path(path)


def _hash(content: bytes | str) -> str:
    return hashing.of_text(content) if isinstance(content, str) else hashing.of_bytes(content)


def _png(pixels: NDArray[Any], row: int) -> bytes:
    """Pixels as an uncompressed PNG, so that they go the same way as every other picture.

    Source: PNG specification, third edition, sections 5 and 11.2.
    """
    channels = 1 if pixels.ndim == 2 else pixels.shape[-1]
    if pixels.dtype != np.uint8 or pixels.ndim not in (2, 3) or channels not in (1, 3, 4) or not pixels.size:
        raise UsageError(f"X[{row}] is {pixels.dtype} {pixels.shape}; pixels are uint8 (h, w), (h, w, 3) or (h, w, 4).")
    height, width = pixels.shape[:2]
    lines = np.zeros((height, 1 + width * channels), np.uint8)  # each line begins with its filter: none
    lines[:, 1:] = pixels.reshape(height, -1)
    kind = {1: 0, 3: 2, 4: 6}[channels]
    parts = (
        (b"IHDR", struct.pack(">IIBBBBB", width, height, 8, kind, 0, 0, 0)),
        (b"IDAT", zlib.compress(lines.tobytes(), 0)),
        (b"IEND", b""),
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body)) for name, body in parts
    )
