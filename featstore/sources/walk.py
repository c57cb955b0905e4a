"""Listing a folder to any depth without ever leaving it, and naming what is found.

An item's id is its path below the root, with ``/`` between the parts. A path that is not UTF-8
gets an id that starts with ``./`` (no other id does), in which a backslash is doubled and each
undecodable byte stands as ``\\xNN``: stable, readable, and no two paths share an id.
"""

from __future__ import annotations

import os
import re
import stat
from collections import Counter
from dataclasses import dataclass, field
from typing import NamedTuple

from featstore.records import Reject

__all__ = ["Listing", "Marks", "beginnings", "escape", "list_folder", "unescape"]

_ESCAPE = re.compile(r"\\(?:\\|x([0-9a-f]{2}))")


class Marks(NamedTuple):
    """What tells a changed file; all that is kept of its status, of which a million would fill 700 MB."""

    size: int
    mtime_ns: int
    inode: int

    @classmethod
    def of(cls, stats: os.stat_result) -> Marks:
        """Those of a file."""
        return cls(stats.st_size, stats.st_mtime_ns, stats.st_ino)


@dataclass(slots=True)
class Listing:
    """Files of the wanted kind, in the order of their paths' bytes, and everything else that was met."""

    paths: list[bytes] = field(default_factory=list)
    marks: list[Marks] = field(default_factory=list)
    rejects: list[Reject] = field(default_factory=list)
    ignored: Counter[str] = field(default_factory=Counter)
    unreachable: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


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
    """Lists the files below ``root`` whose suffix (lower case, no dot) is wanted.

    Symbolic links to files inside the root are taken as files; links to folders are not followed,
    so there are no loops. Devices, pipes and sockets are looked at but never opened. Names that
    start with a dot are ignored.

    Raises:
        OSError: The root itself cannot be listed.
    """
    found = Listing()
    files: list[tuple[bytes, Marks]] = []
    real_root = os.path.join(os.path.realpath(root), b"")
    with os.scandir(root):
        pass  # the root's own failure is the caller's; a folder's further down becomes a reject
    pending = [b""]
    while pending:
        folder = pending.pop()
        try:
            with os.scandir(os.path.join(root, folder) if folder else root) as entries:
                for entry in entries:
                    _sort_in(entry, folder, suffixes, real_root, files, pending, found)
        except OSError as error:
            name = escape(folder[:-1])
            message = f"the folder cannot be listed: {error.strerror or error}."
            found.rejects.append(
                Reject(item_id=name, content_sha256=None, stage="scan", code="unreadable_folder", message=message)
            )
            found.unreachable += beginnings(folder)
    files.sort(key=lambda file: file[0])
    found.paths = [path for path, _ in files]
    found.marks = [marks for _, marks in files]
    found.rejects.sort(key=lambda reject: reject.item_id)
    return found


def _sort_in(
    entry: os.DirEntry[bytes],
    folder: bytes,
    suffixes: frozenset[bytes],
    real_root: bytes,
    files: list[tuple[bytes, Marks]],
    pending: list[bytes],
    found: Listing,
) -> None:
    name = entry.name
    if name.startswith(b"."):
        found.ignored["(hidden)"] += 1
        return
    if entry.is_dir(follow_symlinks=False):
        pending.append(folder + name + b"/")
        return
    suffix = name.rpartition(b".")[2].lower() if b"." in name else b""
    path = folder + name
    if entry.is_symlink():
        if os.path.isdir(entry.path):  # entry.is_dir() raises where a link leads to itself
            _refuse(
                found,
                path,
                "symlink_to_folder",
                "it is a symbolic link to a folder; links to folders are not followed.",
            )
            return
        if suffix not in suffixes:
            _ignore(found, suffix)
            return
        try:
            stats = os.stat(entry.path)
        except OSError as error:
            _refuse(found, path, "broken_symlink", f"the symbolic link leads nowhere: {error.strerror or error}.")
            return
        if not os.path.realpath(entry.path).startswith(real_root):
            _refuse(found, path, "outside_root", "the symbolic link leads out of the source's folder.")
            return
    elif suffix not in suffixes:
        _ignore(found, suffix)
        return
    else:
        try:
            stats = entry.stat(follow_symlinks=False)
        except OSError as error:
            _refuse(found, path, "unreadable", f"the file cannot be looked at: {error.strerror or error}.")
            return
    if stat.S_ISREG(stats.st_mode):
        files.append((path, Marks.of(stats)))
    else:
        _refuse(found, path, "not_a_file", "it is a pipe, socket or device, not a regular file.")


def _ignore(found: Listing, suffix: bytes) -> None:
    found.ignored["." + suffix.decode("utf-8", "backslashreplace") if suffix else "(none)"] += 1


def _refuse(found: Listing, path: bytes, code: str, message: str) -> None:
    found.rejects.append(Reject(item_id=escape(path), content_sha256=None, stage="scan", code=code, message=message))


def _escaped(path: bytes) -> str:
    return "./" + path.replace(b"\\", b"\\\\").decode("utf-8", "backslashreplace")
