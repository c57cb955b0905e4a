"""Which tars a source is made of: one file, a folder that holds only tars, or ``name-{000..009}.tar``."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path

from featstore.errors import NotFoundError, StorageError, UsageError
from featstore.records import Reject
from featstore.sources import walk
from featstore.sources.archive import compression

__all__ = ["Shards", "find_shards"]

_RANGE = re.compile(r"\{(\d+)\.\.(\d+)\}")
_SHARDS_LIMIT = 100_000
_COMPRESSED = re.compile(rb"\.(tgz|tbz2?|txz|tzst|tar\.(gz|bz2|xz|zst|lz4|z))$", re.IGNORECASE)
_UNPACK = {"gzip": "gunzip", "bzip2": "bunzip2", "xz": "unxz", "zstd": "unzstd", "lz4": "unlz4"}


@dataclass(slots=True)
class Shards:
    """The tars, as paths relative to ``root``, in their order, and what else was met while listing a folder."""

    root: bytes
    paths: list[bytes]
    rejects: list[Reject] = field(default_factory=list)
    ignored: Counter[str] = field(default_factory=Counter)
    unreachable: list[str] = field(default_factory=list)


def find_shards(path: Path, suffixes: frozenset[str]) -> Shards | None:
    """The tars that a source's path stands for; None where it is something else.

    Args:
        path: What the user named, absolute.
        suffixes: Of the files that would make a folder a folder of items: lower case, without the dot.

    Raises:
        NotFoundError: A shard that the pattern names is not there.
        UsageError: The pattern is no range of tars, or a tar is compressed.
        StorageError: The folder cannot be listed, or the only tar cannot be opened.
    """
    if path.is_dir():
        if not _only_tars(os.fsencode(path), frozenset(suffix.encode() for suffix in suffixes)):
            return None
        found = _in_folder(os.fsencode(path))
    elif os.path.lexists(path):
        if not path.is_file() or not (path.suffix.lower() == ".tar" or _COMPRESSED.search(os.fsencode(path.name))):
            return None
        found = Shards(os.fsencode(path.parent), [os.fsencode(path.name)])
    elif "{" in str(path):
        found = _expanded(path)
    else:
        return None
    for shard in found.paths:
        try:
            _check(os.path.join(found.root, shard))
        except StorageError:
            if len(found.paths) == 1:
                raise  # one of several becomes a reject of the scan
    return found


def _only_tars(root: bytes, suffixes: frozenset[bytes]) -> bool:
    """Whether there are tars below a folder, and no file that would be an item itself; ends at the first of those."""
    pending, tars = [root], False
    while pending:
        try:
            with os.scandir(pending.pop()) as entries:
                for entry in entries:
                    if entry.name.startswith(b"."):
                        continue
                    if entry.is_dir(follow_symlinks=False):
                        pending.append(entry.path)
                    elif _suffix(entry.name) in suffixes:
                        return False
                    elif _suffix(entry.name) == b"tar" or _COMPRESSED.search(entry.name):
                        tars = True
        except OSError:
            continue  # told when the folder is listed
    return tars


def _in_folder(root: bytes) -> Shards:
    compressed = frozenset((b"tgz", b"tbz", b"tbz2", b"txz", b"tzst", b"gz", b"bz2", b"xz", b"zst", b"lz4", b"z"))
    try:
        listing = walk.list_folder(root, compressed | {b"tar"})
    except OSError as error:
        raise StorageError(f"cannot list the folder {os.fsdecode(root)}: {error.strerror or error}.") from error
    paths = [path for path in listing.paths if _suffix(path) == b"tar" or _COMPRESSED.search(path)]
    return Shards(root, paths, listing.rejects, listing.ignored, listing.unreachable)


def _expanded(path: Path) -> Shards:
    pattern = str(path)
    hint = "Write the shards' range as name-{000..009}.tar, in quotes so that the shell leaves it alone."
    parts = _RANGE.split(pattern)
    if len(parts) == 1 or "{" in _RANGE.sub("", pattern):
        raise NotFoundError(f"{pattern} does not exist and is no range of tars.", hint=hint)
    if not pattern.lower().endswith(".tar"):
        raise UsageError(f"{pattern}: a range is for tars; the name does not end in .tar.", hint=hint)
    ranges = [range(int(first), int(last) + 1) for first, last in zip(parts[1::3], parts[2::3], strict=True)]
    for first, last, numbers in zip(parts[1::3], parts[2::3], ranges, strict=True):
        if not len(numbers):
            raise UsageError(f"{pattern}: the range {{{first}..{last}}} runs backwards.", hint=hint)
    count = 1
    for numbers in ranges:
        count *= len(numbers)
    if count > _SHARDS_LIMIT:
        raise UsageError(f"{pattern} names {count:,} tars; at most {_SHARDS_LIMIT:,} are read.")
    names = list(_names(parts, ranges))
    missing = [name for name in names if not os.path.isfile(name)]
    if missing:
        raise NotFoundError(
            f"{len(missing):,} of the {count:,} tars that {pattern} names are missing: {', '.join(missing[:3])}"
            f"{', …' if len(missing) > 3 else ''}.",
            hint="Bring them back, or name the range that is there.",
        )
    root = os.path.dirname(parts[0])
    return Shards(os.fsencode(root), [os.fsencode(os.path.relpath(name, root)) for name in names])


def _names(parts: list[str], ranges: list[range]) -> Iterator[str]:
    for numbers in product(*ranges):
        name = parts[0]
        for place, number in enumerate(numbers):
            name += f"{number:0{len(parts[3 * place + 1])}}{parts[3 * place + 3]}"
        yield name


def _check(path: bytes) -> None:
    shown = os.fsdecode(path)
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            head = os.read(descriptor, 8)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise StorageError(f"cannot read {shown}: {error.strerror or error}.") from error
    how = compression(head)
    if how is not None:
        raise UsageError(
            f"{shown} is compressed ({how}); a member of it cannot be read again without all before it.",
            hint=f"Unpack the outer layer once: {_UNPACK[how]} {os.path.basename(shown)}",
        )
    if _COMPRESSED.search(path):
        raise UsageError(f"{shown} is called a compressed tar and is none: it begins with {head!r}.")


def _suffix(path: bytes) -> bytes:
    name = path.rpartition(b"/")[2]
    return name.rpartition(b".")[2].lower() if b"." in name else b""
