"""In which pack each preview lies: the beginnings of all content hashes in order, each with its pack.

A table of a million items has packs by the dozen, and hashes lie in them as they come. This is a cache: lost, damaged
or behind, it costs a look through the packs that it does not know. It only says where to look.
"""

from __future__ import annotations

import contextlib
import json
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from featstore.errors import NotFoundError, StorageError
from featstore.storage import frames

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from featstore.layout import Layout

__all__ = ["likely"]

# Packs that are looked through each time rather than noted.
_FEW = 8

_TYPES = (np.dtype("<u8"), np.dtype("<i4"))


@dataclass(frozen=True, slots=True)
class _Noted:
    """Of each preview the beginning of its hash, ascending, and the number of its pack: its path, size and time."""

    packs: list[tuple[str, int, int]] = field(default_factory=list)
    starts: NDArray[np.uint64] = field(default_factory=lambda: np.zeros(0, np.uint64))
    numbers: NDArray[np.int32] = field(default_factory=lambda: np.zeros(0, np.int32))


def likely(layout: Layout, name: str, packs: Sequence[str], wanted: NDArray[np.bytes_]) -> list[str]:
    """The packs to look into: those that hold a hash which begins alike, and those that are not noted yet.

    Args:
        layout: The store.
        name: The table's name.
        packs: Paths of all its packs.
        wanted: (n,) of 64 bytes, hexadecimal SHA-256s.
    """
    if len(packs) <= _FEW:
        return list(packs)
    noted = _read(layout, name)
    stats = [(path, layout.storage.stat(path)) for path in packs]
    current = {(path, stat.size, stat.mtime_ns) for path, stat in stats}
    new = sorted(current.difference(noted.packs))
    if len(new) > _FEW:
        noted, new = _with(layout, noted, current), []
        with contextlib.suppress(StorageError):  # the store may only be read
            _write(layout, name, noted)
    starts = _starts(wanted)
    ranges = zip(np.searchsorted(noted.starts, starts), np.searchsorted(noted.starts, starts, "right"), strict=True)
    numbers = {int(number) for begin, end in ranges for number in noted.numbers[begin:end]}
    found = (noted.packs[number] for number in sorted(numbers))
    return [path for path, *_ in (*(pack for pack in found if pack in current), *new)]


def _starts(hashes: NDArray[np.bytes_]) -> NDArray[np.uint64]:
    """The first eight digits as one number, in the hashes' own order."""
    return np.ascontiguousarray(hashes).view(">u8")[:: hashes.dtype.itemsize // 8].astype(np.uint64)


def _with(layout: Layout, noted: _Noted, current: set[tuple[str, int, int]]) -> _Noted:
    """The same of all packs that there are now; those that are noted are not read again."""
    kept = [number for number, pack in enumerate(noted.packs) if pack in current]
    new = sorted(current.difference(noted.packs))
    anew = np.full(len(noted.packs) + 1, -1, np.int32)
    anew[kept] = np.arange(len(kept))
    before = anew[noted.numbers]
    found = [_starts(frames.digests(layout.storage, path, "content_sha256")) for path, *_ in new]
    numbers = [np.full(len(each), len(kept) + at, np.int32) for at, each in enumerate(found)]
    starts = np.concatenate([noted.starts[before >= 0], *found])
    packs = np.concatenate([before[before >= 0], *numbers])
    order = np.argsort(starts, kind="stable")
    return _Noted([*(noted.packs[number] for number in kept), *new], starts[order], packs[order])


def _read(layout: Layout, name: str) -> _Noted:
    """What is noted; nothing where that is not there or damaged."""
    try:
        content = layout.storage.mapped(layout.preview_places(name))
        head = content[: content.find(b"\n") + 1]
        said = json.loads(head)
        count, (starts, numbers) = int(said["count"]), _TYPES
        if len(content) != len(head) + count * (starts.itemsize + numbers.itemsize):
            return _Noted()
        if zlib.crc32(memoryview(content)[len(head) :]) != said["crc32"]:
            return _Noted()
        return _Noted(
            [(str(path), int(size), int(time)) for path, size, time in said["packs"]],
            np.frombuffer(content, starts, count, len(head)),
            np.frombuffer(content, numbers, count, len(head) + count * starts.itemsize),
        )
    except (NotFoundError, StorageError, LookupError, TypeError, ValueError):
        return _Noted()


def _write(layout: Layout, name: str, noted: _Noted) -> None:
    """A line of JSON, as long as keeps the numbers aligned, and the two arrays as they are: mapped, not decoded."""
    body = noted.starts.astype(_TYPES[0]).tobytes() + noted.numbers.astype(_TYPES[1]).tobytes()
    said = json.dumps({"packs": noted.packs, "count": len(noted.starts), "crc32": zlib.crc32(body)})
    head = said.encode() + b" " * (-(len(said) + 1) % 8) + b"\n"
    layout.storage.write(layout.preview_places(name), head + body)
