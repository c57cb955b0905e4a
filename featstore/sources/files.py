"""Contents of files: hashing the new ones, and reading exactly what was hashed."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from featstore.errors import ItemError

if TYPE_CHECKING:
    import pyarrow as pa
    from numpy.typing import NDArray

__all__ = [
    "CONTENT_LIMIT",
    "FileReader",
    "Hashed",
    "failed",
    "hash_files",
    "open_regular",
    "read_range",
    "reuse",
    "signed",
]

CONTENT_LIMIT = 1 << 30
"""Bytes of one item's content; a larger file is refused before it fills the memory of a run."""

_THREADS = min(4, os.cpu_count() or 1)
_CHUNK = 4096
_BUFFER = 1 << 18


@dataclass(frozen=True, slots=True)
class Hashed:
    """The content of a file as it was read: its digest, and the file's marks at that moment."""

    sha256: str
    size: int
    mtime_ns: int
    inode: int


def hash_files(paths: Sequence[bytes]) -> Iterator[Hashed | ItemError]:
    """Hashes files in a few threads; yields in the given order, an error in place of an unreadable file."""
    with ThreadPoolExecutor(_THREADS, thread_name_prefix="featstore-hash") as pool:
        for start in range(0, len(paths), _CHUNK):
            yield from pool.map(_hash, paths[start : start + _CHUNK])


def reuse(previous: pa.Table, locators: Sequence[str], marks: NDArray[np.int64], hashes: NDArray[np.object_]) -> None:
    """Fills in the hashes of the files whose size, time and inode are those of the last scan.

    Args:
        previous: The last scan's items.
        locators: The files now.
        marks: Their size, mtime_ns and inode, shape (files, 3).
        hashes: Filled in place; None where the file is new or changed.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    known = previous["locator"]
    now = pa.table({"locator": pa.array(locators, known.type)})["locator"]  # in chunks, as more than 2 GB of them are
    old = np.stack([previous[name].to_numpy() for name in ("size", "mtime_ns", "inode")], axis=1)
    if known.equals(now):
        rows = np.arange(len(known))
    else:  # among a million this is faster than a dictionary of them
        places: Any = pc.index_in(now, value_set=known)
        rows = pc.fill_null(places, -1).to_numpy().astype(np.int64)
    seen = np.flatnonzero(rows >= 0)
    same = seen[(old[rows[seen]] == marks[seen]).all(axis=1)]
    hashes[same] = previous["content_sha256"].to_numpy(zero_copy_only=False)[rows[same]]


class FileReader:
    """Reads planned files; a file whose marks moved is hashed again and must be what was planned.

    Args:
        paths: Absolute paths.
        hashed: What was planned, one for each path.
    """

    def __init__(self, paths: Sequence[bytes], hashed: Sequence[Hashed]) -> None:
        self._paths = paths
        self._hashed = hashed

    def read(self, row: int) -> bytes:
        """Content of the row-th file."""
        planned = self._hashed[row]
        try:
            descriptor, marks = _open(self._paths[row])
            try:
                content = _read(descriptor, marks.st_size)
            finally:
                os.close(descriptor)
        except OSError as error:
            raise failed(error) from error
        same = (len(content), marks.st_mtime_ns, signed(marks.st_ino)) == (
            planned.size,
            planned.mtime_ns,
            planned.inode,
        )
        if not same and hashlib.sha256(content).hexdigest() != planned.sha256:
            raise ItemError("read", "changed_during_run", "the file's content changed after it was listed.")
        return content


def signed(inode: int) -> int:
    """An inode as int64: the upper half of the 64-bit range wraps to negative numbers."""
    return inode - (1 << 64) if inode >= 1 << 63 else inode


def _hash(path: bytes) -> Hashed | ItemError:
    try:
        descriptor, marks = _open(path)
        try:
            digest = hashlib.sha256()
            while block := os.read(descriptor, _BUFFER):
                digest.update(block)
        finally:
            os.close(descriptor)
    except OSError as error:
        return failed(error)
    except ItemError as error:
        return error
    return Hashed(digest.hexdigest(), marks.st_size, marks.st_mtime_ns, signed(marks.st_ino))


def open_regular(path: bytes) -> tuple[int, os.stat_result]:
    """Opens a file for reading; the caller closes the descriptor.

    Raises:
        ItemError: It is a pipe, socket, folder or device.
        OSError: It cannot be opened.
    """
    # Without O_NONBLOCK a pipe that took the file's place since the listing would block for ever.
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    marks = os.fstat(descriptor)
    if not stat.S_ISREG(marks.st_mode):
        os.close(descriptor)
        raise ItemError("read", "not_a_file", "it is a pipe, socket, folder or device, not a regular file.")
    return descriptor, marks


def read_range(descriptor: int, offset: int, size: int) -> bytes:
    """Reads ``size`` bytes at ``offset``; fewer where the file ends before."""
    blocks = []
    while size and (block := os.pread(descriptor, min(size, CONTENT_LIMIT), offset)):
        blocks.append(block)
        offset, size = offset + len(block), size - len(block)
    return b"".join(blocks)


def failed(error: OSError) -> ItemError:
    """What a file that cannot be read becomes."""
    if isinstance(error, FileNotFoundError):
        return ItemError("read", "vanished", "the file was listed, but was gone when it was read.")
    return ItemError("read", "unreadable", f"the file cannot be read: {error.strerror or error}.")


def _open(path: bytes) -> tuple[int, os.stat_result]:
    descriptor, marks = open_regular(path)
    if marks.st_size > CONTENT_LIMIT:
        os.close(descriptor)
        raise ItemError(
            "read", "too_large", f"the file has {marks.st_size:,} bytes; at most {CONTENT_LIMIT:,} are read."
        )
    return descriptor, marks


def _read(descriptor: int, size: int) -> bytes:
    content = os.read(descriptor, size + 1)
    if len(content) == size:
        return content
    blocks = [content]
    while block := os.read(descriptor, _BUFFER):
        blocks.append(block)
        if sum(map(len, blocks)) > CONTENT_LIMIT:
            raise ItemError("read", "too_large", f"the file grew beyond {CONTENT_LIMIT:,} bytes while it was read.")
    return b"".join(blocks)
