"""The samples of one tar, by the rule of WebDataset: members whose paths are equal up to the name's first dot.

``a/7.jpg`` and ``a/7.json`` are the sample ``a/7``. Each member is read once, in the archive's
order: contents are hashed, ``.json`` and ``.cls`` members are read as metadata, all others are
counted and never looked at. Nothing is unpickled.

Source: https://github.com/webdataset/webdataset, "The WebDataset Format".
"""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from featstore.errors import ItemError
from featstore.records import Reject
from featstore.sources import files, walk
from featstore.sources.archive import Headers, Member

__all__ = ["Content", "Index", "Sample", "index"]

_JSON_LIMIT = 1 << 20
_JSON_KEYS = 200
_CLASS_LIMIT = 4096
_BUFFER = 1 << 20


@dataclass(frozen=True, slots=True)
class Content:
    """A picture or text: the part of its name behind the first dot, its place in the tar, its digest."""

    suffix: str
    offset: int
    size: int
    sha256: str


@dataclass(slots=True)
class Sample:
    """Members of one key; ``number`` counts the samples of the tar that have contents."""

    key: bytes
    contents: list[Content] = field(default_factory=list)
    metadata: dict[str, Any] = field(default_factory=dict)
    label: str | None = None
    error: ItemError | None = None
    suffixes: set[bytes] = field(default_factory=set)
    number: int = -1


@dataclass(slots=True)
class Index:
    """What one tar holds.

    Attributes:
        samples: In the order of their first members; those with contents only.
        whole: False where the tar is damaged or cut short, so that more may have been in it.
    """

    samples: list[Sample] = field(default_factory=list)
    rejects: list[Reject] = field(default_factory=list)
    ignored: Counter[str] = field(default_factory=Counter)
    warnings: list[str] = field(default_factory=list)
    whole: bool = True


def index(
    path: bytes,
    stem: bytes,
    suffixes: Collection[bytes],
    *,
    known: Mapping[tuple[int, int], str] | None = None,
    limit: int | None = None,
) -> Index:
    """Reads a tar once from its beginning to its end.

    Args:
        path: The tar.
        stem: What the ids of its items begin with.
        suffixes: Of the members that are contents: lower case, without the dot.
        known: Digests by offset and size, where the tar is as it was.
        limit: Stop reading contents after that many samples.

    Raises:
        OSError: The tar cannot be opened.
        ItemError: It is no regular file.
    """
    descriptor, stats = files.open_regular(path)
    try:
        return _Indexing(descriptor, stats.st_size, stem, frozenset(suffixes), known or {}, limit).run()
    finally:
        os.close(descriptor)


class _Indexing:
    def __init__(
        self,
        descriptor: int,
        size: int,
        stem: bytes,
        suffixes: frozenset[bytes],
        known: Mapping[tuple[int, int], str],
        limit: int | None,
    ) -> None:
        self._descriptor = descriptor
        self._headers = Headers(descriptor, size)
        self._stem = stem
        self._suffixes = suffixes
        self._known = known
        self._limit = limit
        self._found = Index()
        self._samples: dict[bytes, Sample] = {}
        self._filled = 0

    def run(self) -> Index:
        found, last = self._found, None
        try:
            for member in self._headers:
                key = self._take(member)
                last = last if key is None else key
        except ItemError as error:
            found.whole = False
            self._refuse(None, error)
            if last is not None:  # its other members may be in what is missing
                self._samples[last].error = ItemError(
                    "scan", "incomplete_sample", "it is the last one before the place where the tar is damaged."
                )
        else:
            if not self._headers.ended:
                found.whole = False
                found.warnings.append("has no end-of-archive mark; it may have been cut short")
            if self._headers.trailing:
                found.warnings.append("has bytes behind its end that belong to no tar; they are ignored")
        for sample in self._samples.values():
            if sample.error is not None:
                several = len(sample.contents) > 1  # as their items are called in the table
                for suffix in [c.suffix for c in sample.contents] if several else [None]:
                    name = sample.key if suffix is None else sample.key + b"." + suffix.encode()
                    self._refuse(name, sample.error)
            elif self._limit is not None and sample.number >= self._limit:
                continue
            elif sample.contents:
                found.samples.append(sample)
            else:
                found.ignored.update("." + suffix.rpartition(b".")[2].decode() for suffix in sample.suffixes)
        return found

    def _take(self, member: Member) -> bytes | None:
        """Puts a member into its sample; returns the key, or None where it belongs to none."""
        if member.kind == "folder":
            return None
        name = _clean(member.name)
        if name is None:
            self._refuse(member.name, ItemError("scan", "unsafe_name", "the name is absolute, has '..' or is empty."))
            return None
        if member.kind != "file":
            what = {"link": "a link", "device": "a device or pipe"}.get(member.kind, "sparse or of an unknown kind")
            self._refuse(name, ItemError("scan", "not_a_file", f"the member is {what}, not a regular file."))
            return None
        folder, slash, base = name.rpartition(b"/")
        if any(part.startswith(b".") for part in name.split(b"/")):
            self._found.ignored["(hidden)"] += 1
            return None
        start, dot, suffix = base.partition(b".")
        suffix = suffix.lower()
        last = suffix.rpartition(b".")[2]
        is_content = last in self._suffixes
        if not dot or not (is_content or suffix in (b"json", b"cls")):
            self._found.ignored["." + last.decode("utf-8", "backslashreplace") if dot else "(none)"] += 1
            return None
        key = folder + slash + start
        sample = self._samples.setdefault(key, Sample(key))
        if suffix in sample.suffixes:
            self._refuse(name, ItemError("scan", "duplicate_member", "an earlier member of the tar has the same name."))
            return key
        sample.suffixes.add(suffix)
        try:
            if is_content:
                if sample.number < 0:
                    sample.number, self._filled = self._filled, self._filled + 1
                digest = self._hash(member, sample)
                sample.contents.append(Content(walk.escape(suffix), member.offset, member.size, digest))
            elif suffix == b"json":
                sample.metadata = _object(self._read(member, _JSON_LIMIT))
            else:
                sample.label = self._read(member, _CLASS_LIMIT).decode().strip() or None
        except UnicodeDecodeError:
            sample.error = ItemError("read", "bad_label", "its .cls member is not UTF-8.")
        except ItemError as error:
            sample.error = error
        return key

    def _hash(self, member: Member, sample: Sample) -> str:
        known = self._known.get((member.offset, member.size))
        if known is not None:
            return known
        if self._limit is not None and sample.number >= self._limit:
            return ""
        if member.size > files.CONTENT_LIMIT:
            raise ItemError(
                "read", "too_large", f"it has {member.size:,} bytes; at most {files.CONTENT_LIMIT:,} are read."
            )
        digest = hashlib.sha256()
        done = 0
        while done < member.size:
            block = os.pread(self._descriptor, min(_BUFFER, member.size - done), member.offset + done)
            if not block:
                raise ItemError("read", "changed_during_run", "the tar was cut short while it was read.")
            digest.update(block)
            done += len(block)
        return digest.hexdigest()

    def _read(self, member: Member, most: int) -> bytes:
        if member.size > most:
            raise ItemError(
                "read",
                "too_large",
                f"the member {member.name[-100:]!r} has {member.size:,} bytes; at most {most:,} are read as metadata.",
            )
        return files.read_range(self._descriptor, member.offset, member.size)

    def _refuse(self, name: bytes | None, error: ItemError) -> None:
        item_id = walk.escape(self._stem + b".tar" if name is None else self._stem + b"/" + name)
        self._found.rejects.append(
            Reject(item_id=item_id, content_sha256=None, stage=error.stage, code=error.code, message=error.message)
        )


def _clean(name: bytes) -> bytes | None:
    """A member's path without ``./``; None where it could name something outside of a folder."""
    parts = [part for part in name.split(b"/") if part != b"."]
    if name.startswith(b"/") or b".." in parts or b"\0" in name or not any(parts):
        return None
    return b"/".join(part for part in parts if part)


def _object(content: bytes) -> dict[str, Any]:
    try:
        found = json.loads(content.decode())
        if not isinstance(found, dict):
            raise ItemError(
                "read", "bad_json", f"its .json member is a {type(found).__name__}; an object was expected."
            )
        # Half of a surrogate pair, written as an escape, decodes to what is no text.
        json.dumps(found, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as error:
        raise ItemError("read", "bad_json", f"its .json member cannot be read: {error}.") from error
    if len(found) > _JSON_KEYS:
        raise ItemError("read", "bad_json", f"its .json member has {len(found):,} keys; at most {_JSON_KEYS} are read.")
    return found
