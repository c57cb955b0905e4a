"""The members of a tar, from its headers alone: nothing is extracted and no link is followed.

Understood are the headers of POSIX (ustar, pax) and GNU tar. They are read here and not by the
standard library's ``tarfile``, which ends without a word at a damaged header and reads an extended
header of any size into memory.

Source: POSIX.1-2017, pax, "ustar Interchange Format"; GNU tar manual, "Basic Tar Format".
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from featstore.errors import ItemError

__all__ = ["Headers", "Kind", "Member", "compression"]

_BLOCK = 512
_ZEROS = bytes(_BLOCK)
# An extended header holds a path; GNU tar pads an archive to 20 blocks, so that a second one may begin after them.
_EXTENDED_LIMIT = 1 << 20
_PADDING = 64 << 10

Kind = Literal["file", "folder", "link", "device", "other"]
"""``other`` are sparse files and kinds that only some programs know."""

_KINDS: dict[bytes, Kind] = {
    **dict.fromkeys((b"0", b"\0", b"7"), "file"),
    **dict.fromkeys((b"1", b"2"), "link"),
    **dict.fromkeys((b"3", b"4", b"6"), "device"),
    b"5": "folder",
}
_OCTAL = re.compile(rb"[0-7]*")
_MAGICS = {
    b"\x1f\x8b": "gzip",
    b"BZh": "bzip2",
    b"\xfd7zXZ\0": "xz",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"\x04\x22\x4d\x18": "lz4",
}


@dataclass(frozen=True, slots=True)
class Member:
    """One entry: its name as it stands in the archive, and where its bytes lie."""

    name: bytes
    kind: Kind
    offset: int
    size: int


def compression(head: bytes) -> str | None:
    """What a file that begins with ``head`` is compressed with, if it is."""
    return next((name for magic, name in _MAGICS.items() if head.startswith(magic)), None)


class Headers:
    """Goes through an open tar from one header to the next.

    Args:
        descriptor: The open file.
        size: Its bytes.

    Attributes:
        ended: After the last member: whether the archive's end is marked, so that nothing can be missing.
        trailing: Whether bytes that belong to no archive follow the end.
    """

    def __init__(self, descriptor: int, size: int) -> None:
        self.ended = False
        self.trailing = False
        self._descriptor = descriptor
        self._size = size

    def __iter__(self) -> Iterator[Member]:
        """The members in the archive's order.

        Raises:
            ItemError: ``truncated_tar`` or ``bad_tar``, with the offset; the members before it are whole.
            OSError: The file cannot be read.
        """
        at = 0
        shared: dict[bytes, bytes] = {}
        own: dict[bytes, bytes] = {}
        while (begun := self._header(at)) is not None:
            start, header = begun
            kind, size, at = header[156:157], self._number(header[124:136], start), start + _BLOCK
            if kind in (b"x", b"X", b"g", b"L", b"K"):
                content = self._extended(at, size, start)
                at += _padded(size)
                if kind == b"g":
                    shared |= self._records(content, start)
                elif kind in (b"x", b"X"):
                    own |= self._records(content, start)
                else:
                    own[b"path" if kind == b"L" else b"linkpath"] = content.partition(b"\0")[0]
                if sum(len(k) + len(v) for records in (shared, own) for k, v in records.items()) > _EXTENDED_LIMIT:
                    raise _bad(start, f"extended headers of more than {_EXTENDED_LIMIT:,} bytes before one member")
                continue
            known = {**shared, **own}
            own = {}
            if b"size" in known:
                if not known[b"size"].isdigit() or len(known[b"size"]) > 18:
                    raise _bad(start, "an extended header gives a size that is no number")
                size = int(known[b"size"])
            name = known.get(b"path", _name(header))
            if kind == b"S":
                at = self._past_sparse_map(header, at)
            found: Kind = _KINDS.get(kind, "other")
            if found == "file" and name.endswith(b"/"):
                found = "folder"
            if any(key.startswith(b"GNU.sparse.") for key in known):
                found = "other"
            if found in ("folder", "link", "device"):
                size = 0
            if at + size > self._size:
                raise ItemError(
                    "scan",
                    "truncated_tar",
                    f"the file ends at byte {self._size:,}, within the member {name[:200]!r}, "
                    f"which would end at byte {at + size:,}.",
                )
            yield Member(name, found, at, size)
            at += _padded(size)

    def _header(self, at: int) -> tuple[int, bytes] | None:
        """The next header and its offset; None at the end."""
        block = os.pread(self._descriptor, _BLOCK, at)
        if not block and at:
            return None
        if len(block) < _BLOCK:
            raise ItemError("scan", "truncated_tar", f"the file ends at byte {self._size:,}, within a header.")
        if block == _ZEROS:
            self.ended = True
            return self._another(at + _BLOCK)
        if not _checks(block):
            raise _bad(at, "what should be a header has a wrong checksum")
        self.ended = False
        return at, block

    def _another(self, at: int) -> tuple[int, bytes] | None:
        """The first header of an archive that was put behind this one (cat a.tar b.tar), if there is one."""
        padding = os.pread(self._descriptor, _PADDING, at)
        for place in range(0, len(padding) - _BLOCK + 1, _BLOCK):
            block = padding[place : place + _BLOCK]
            if block != _ZEROS:
                if _checks(block):
                    self.ended = False
                    return at + place, block
                self.trailing = True
                return None
        return None

    def _extended(self, at: int, size: int, start: int) -> bytes:
        if size > _EXTENDED_LIMIT:
            raise _bad(start, f"an extended header of {size:,} bytes; at most {_EXTENDED_LIMIT:,} are read")
        content = os.pread(self._descriptor, size, at)
        if len(content) < size:
            raise ItemError("scan", "truncated_tar", f"the file ends at byte {self._size:,}, within a header.")
        return content

    def _records(self, content: bytes, start: int) -> dict[bytes, bytes]:
        """The ``LENGTH KEY=VALUE`` lines of a pax header."""
        found = {}
        at = 0
        while at < len(content) and content[at]:
            digits, space, _ = content[at : at + 21].partition(b" ")
            end = at + int(digits) if space and digits.isdigit() else 0
            key, equals, value = content[at + len(digits) + 1 : end].partition(b"=")
            if not equals or end > len(content) or not value.endswith(b"\n"):
                raise _bad(start, "an extended header that cannot be read")
            found[key] = value[:-1]
            at = end
        return found

    def _past_sparse_map(self, header: bytes, at: int) -> int:
        more = header[482]
        while more:
            block = os.pread(self._descriptor, _BLOCK, at)
            at += _BLOCK
            more = block[504] if len(block) == _BLOCK else 0
        return at

    @staticmethod
    def _number(field: bytes, start: int) -> int:
        """A number as octal digits, or in base 256 where the first bit is set."""
        if field[0] == 0x80:
            return int.from_bytes(field[1:], "big")
        digits = field.partition(b"\0")[0].strip()
        if field[0] & 0x80 or not _OCTAL.fullmatch(digits):
            raise _bad(start, "a member's size is no number")
        return int(digits or b"0", 8)


def _name(header: bytes) -> bytes:
    name = header[:100].partition(b"\0")[0]
    # GNU tar uses the prefix's place for other things, and says so by another magic.
    prefix = header[345:500].partition(b"\0")[0] if header[257:263] == b"ustar\0" else b""
    return prefix + b"/" + name if prefix else name


def _checks(block: bytes) -> bool:
    digits = block[148:156].strip(b" \0")
    if not digits or not _OCTAL.fullmatch(digits):
        return False
    rest = block[:148] + b" " * 8 + block[156:]
    unsigned = sum(rest)
    # Some old programs added the bytes as signed numbers.
    return int(digits, 8) in (unsigned, unsigned - 256 * sum(byte > 127 for byte in rest))


def _padded(size: int) -> int:
    return -(-size // _BLOCK) * _BLOCK


def _bad(at: int, what: str) -> ItemError:
    return ItemError("scan", "bad_tar", f"at byte {at:,}: {what}.")
