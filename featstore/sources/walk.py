"""Listing a folder to any depth without ever leaving it, and naming what is found.

An item's id is its path below the root, with ``/`` between the parts. A path that is not UTF-8
gets an id that starts with ``./`` (no other id does), in which a backslash is doubled and each
undecodable byte stands as ``\\xNN``: stable, readable, and no two paths share an id.
"""

from __future__ import annotations

import os
import re
from array import array
from collections import Counter
from dataclasses import dataclass, field
from stat import S_ISREG
from typing import TYPE_CHECKING

import numpy as np

from featstore.records import Reject

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Listing", "beginnings", "escape", "list_folder", "unescape"]

_NO_FILE = "it is a pipe, socket or device, not a regular file."
_ESCAPE = re.compile(r"\\(?:\\|x([0-9a-f]{2}))")


@dataclass(slots=True)
class Listing:
    """Files of the wanted kind, and everything else that was met.

    Of a file's status only what tells a changed one is kept, in columns: as objects, those of a million would fill
    700 MB and cost as much time as asking the system for them.
    """

    paths: list[bytes] = field(default_factory=list)
    sizes: array[int] = field(default_factory=lambda: array("q"))
    times: array[int] = field(default_factory=lambda: array("q"))
    inodes: array[int] = field(default_factory=lambda: array("Q"))
    rejects: list[Reject] = field(default_factory=list)
    ignored: Counter[str] = field(default_factory=Counter)
    unreachable: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def add(self, path: bytes, stats: os.stat_result) -> None:
        """Takes a file."""
        self.paths.append(path)
        self.sizes.append(stats.st_size)
        self.times.append(stats.st_mtime_ns)
        self.inodes.append(stats.st_ino)

    def marks(self) -> NDArray[np.int64]:
        """Size, mtime_ns and inode of each file: (files, 3) int64, an inode's upper half as negative numbers."""
        columns = (np.array(self.sizes), np.array(self.times), np.array(self.inodes).view(np.int64))
        return np.stack(columns, axis=1)

    def sort(self) -> None:
        """Puts the files into the order of their paths' bytes."""
        order = sorted(range(len(self.paths)), key=self.paths.__getitem__)
        self.paths = [self.paths[at] for at in order]
        self.sizes, self.times, self.inodes = (
            array(column.typecode, np.array(column)[order].tobytes())
            for column in (self.sizes, self.times, self.inodes)
        )


def escape(path: bytes) -> str:
    """The id of a path."""
    try:
        return path.decode()
    except UnicodeDecodeError:
        return _escaped(path)


def unescape(item_id: str) -> bytes:
    """The path of an id."""
    if not item_id.startswith("./"):
        return item_id.encode()
    parts = item_id[2:].encode().decode("latin-1")
    return _ESCAPE.sub(lambda m: chr(int(m[1], 16)) if m[1] else "\\", parts).encode("latin-1")


def beginnings(folder: bytes) -> list[str]:
    """What the ids of all paths that begin with ``folder`` begin with."""
    return sorted({escape(folder), _escaped(folder)})


def list_folder(root: bytes, suffixes: frozenset[bytes]) -> Listing:
    """Lists the files below ``root`` whose suffix (lower case, no dot) is wanted, in the order of their paths' bytes.

    Symbolic links to files inside the root are taken as files; links to folders are not followed,
    so there are no loops. Devices, pipes and sockets are looked at but never opened. Names that
    start with a dot are ignored.

    Raises:
        OSError: The root itself cannot be listed.
    """
    found = Listing()
    real_root = os.path.join(os.path.realpath(root), b"")
    with os.scandir(root):
        pass  # the root's own failure is the caller's; a folder's further down becomes a reject
    pending = [b""]
    while pending:
        folder = pending.pop()
        try:
            with os.scandir(os.path.join(root, folder) if folder else root) as entries:
                for entry in entries:
                    name = entry.name
                    if name.startswith(b"."):
                        found.ignored["(hidden)"] += 1
                    elif entry.is_dir(follow_symlinks=False):
                        pending.append(folder + name + b"/")
                    elif entry.is_symlink():
                        _follow(entry, folder + name, suffixes, real_root, found)
                    elif (suffix := _suffix(name)) not in suffixes:
                        _ignore(found, suffix)
                    else:
                        _take(entry, folder + name, found)
        except OSError as error:
            item_id = escape(folder[:-1])
            message = f"the folder cannot be listed: {error.strerror or error}."
            found.rejects.append(
                Reject(item_id=item_id, content_sha256=None, stage="scan", code="unreadable_folder", message=message)
            )
            found.unreachable += beginnings(folder)
    found.sort()
    found.rejects.sort(key=lambda reject: reject.item_id)
    return found


def _suffix(name: bytes) -> bytes:
    dot = name.rfind(b".")
    return name[dot + 1 :].lower() if dot >= 0 else b""


def _take(entry: os.DirEntry[bytes], path: bytes, found: Listing) -> None:
    """Of a million entries nearly all come here, and each step of it shows."""
    try:
        stats = entry.stat(follow_symlinks=False)
    except OSError as error:
        _refuse(found, path, "unreadable", f"the file cannot be looked at: {error.strerror or error}.")
        return
    if S_ISREG(stats.st_mode):
        found.add(path, stats)
    else:
        _refuse(found, path, "not_a_file", _NO_FILE)


def _follow(
    entry: os.DirEntry[bytes], path: bytes, suffixes: frozenset[bytes], real_root: bytes, found: Listing
) -> None:
    if os.path.isdir(entry.path):  # entry.is_dir() raises where a link leads to itself
        message = "it is a symbolic link to a folder; links to folders are not followed."
        _refuse(found, path, "symlink_to_folder", message)
        return
    if (suffix := _suffix(entry.name)) not in suffixes:
        _ignore(found, suffix)
        return
    try:
        stats = os.stat(entry.path)
    except OSError as error:
        _refuse(found, path, "broken_symlink", f"the symbolic link leads nowhere: {error.strerror or error}.")
        return
    if not os.path.realpath(entry.path).startswith(real_root):
        _refuse(found, path, "outside_root", "the symbolic link leads out of the source's folder.")
    elif S_ISREG(stats.st_mode):
        found.add(path, stats)
    else:
        _refuse(found, path, "not_a_file", _NO_FILE)


def _ignore(found: Listing, suffix: bytes) -> None:
    found.ignored["." + suffix.decode("utf-8", "backslashreplace") if suffix else "(none)"] += 1


def _refuse(found: Listing, path: bytes, code: str, message: str) -> None:
    found.rejects.append(Reject(item_id=escape(path), content_sha256=None, stage="scan", code=code, message=message))


def _escaped(path: bytes) -> str:
    return "./" + path.replace(b"\\", b"\\\\").decode("utf-8", "backslashreplace")
