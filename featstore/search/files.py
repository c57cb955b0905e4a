"""Queries from files: a folder of pictures or texts, lines of text, JSON lines, standard input."""

from __future__ import annotations

import json
import os
import sys
from collections import Counter
from pathlib import Path

from featstore.errors import NotFoundError, StorageError, UsageError
from featstore.records import Modality
from featstore.search.queries import Query
from featstore.sources import walk
from featstore.sources.folder import IMAGE_SUFFIXES, TEXT_SUFFIXES

__all__ = ["read"]

_JSON_SUFFIXES = (".jsonl", ".ndjson")
_SHAPE = 'A line is {"_id": "q1", "text": "…"}, or {"_id": "q1", "image": "FILE"}.'


def read(source: str | os.PathLike[str], modality: Modality) -> list[Query]:
    """Reads queries.

    Args:
        source: A folder, whose pictures or texts are the queries, each named by its path in it; a file with a text
            a line; a file of JSON lines as BEIR has them (``_id`` and ``text``, or ``image`` with a path relative to
            the file); ``-`` for such lines on standard input.
        modality: What the table holds; which files of a folder are taken.

    Raises:
        NotFoundError: There is no such file.
        UsageError: It holds no query, or a line that is none; the line is named.
        StorageError: It cannot be read.
    """
    if os.fspath(source) == "-":
        return _lines(_decoded(sys.stdin.buffer.read(), "standard input"), "standard input", Path(), json_lines=None)
    path = Path(source)
    try:
        if path.is_dir():
            return _folder(path, modality)
        content = path.read_bytes()
    except FileNotFoundError as error:
        raise NotFoundError(f"there is no file {path} to read queries from.") from error
    except OSError as error:
        raise StorageError(f"cannot read {path}: {error.strerror or error}.") from error
    json_lines = True if path.suffix.lower() in _JSON_SUFFIXES else None
    return _lines(_decoded(content, str(path)), str(path), path.parent, json_lines=json_lines)


def _folder(folder: Path, modality: Modality) -> list[Query]:
    suffixes = IMAGE_SUFFIXES if modality == "image" else TEXT_SUFFIXES
    found = walk.list_folder(os.fsencode(folder), frozenset(suffix.encode() for suffix in suffixes))
    if not found.paths:
        raise UsageError(
            f"{folder} holds no {modality} to search with.", hint=f"Looked for: {', '.join(sorted(suffixes))}."
        )
    return [Query(walk.escape(path), modality, folder / os.fsdecode(path)) for path in found.paths]


def _decoded(content: bytes, where: str) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UsageError(
            f"{where} is not UTF-8: byte 0x{content[error.start]:02x} at offset {error.start:,}.",
            hint="Convert it: iconv -f WINDOWS-1252 -t UTF-8",
        ) from error


def _lines(content: str, where: str, folder: Path, *, json_lines: bool | None) -> list[Query]:
    # Not splitlines(): U+2028 and others may stand within a text.
    lines = [(number, line.removesuffix("\r")) for number, line in enumerate(content.split("\n"), 1)]
    lines = [(number, line) for number, line in lines if line.strip()]
    if not lines:
        raise UsageError(f"{where} holds no query.", hint="Write one text a line, or JSON lines. " + _SHAPE)
    if json_lines is None:
        json_lines = lines[0][1].lstrip().startswith("{")
    if not json_lines:
        return [Query(line.strip(), "text", line.strip()) for _, line in lines]
    found = [_object(line, f"{where}, line {number}", folder, number) for number, line in lines]
    name, count = Counter(query.name for query in found).most_common(1)[0]
    if count > 1:
        raise UsageError(f"{where}: the query '{name}' stands there {count} times.", hint="An _id names one query.")
    return found


def _object(line: str, where: str, folder: Path, number: int) -> Query:
    try:
        found = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{where} is no JSON: {error}.", hint=_SHAPE) from error
    if not isinstance(found, dict):
        raise UsageError(f"{where} is no JSON object.", hint=_SHAPE)
    text, image = found.get("text"), found.get("image")
    if isinstance(text, str) == isinstance(image, str):
        raise UsageError(
            f"{where} has {'both' if text else 'neither'} a text {'and' if text else 'nor'} an image.", hint=_SHAPE
        )
    own = found.get("_id", found.get("id"))
    if own is not None and (isinstance(own, bool) or not isinstance(own, str | int)):
        raise UsageError(f"{where}: the _id is {own!r}, not a text or number.", hint=_SHAPE)
    name = str(number) if own is None else str(own)
    return Query(name, "text", text) if isinstance(text, str) else Query(name, "image", folder / str(image))
