"""On which line of a TOML file a key stands, for messages; the reader of the standard library does not say."""

from __future__ import annotations

import re
from collections.abc import Iterator

__all__ = ["lines_of", "nearest"]

_PART = r"(?:[A-Za-z0-9_-]+|\"[^\"\n]*\"|'[^'\n]*')"
_PATH = rf"{_PART}(?:\s*\.\s*{_PART})*"
_HEADER = re.compile(rf"\s*(?P<open>\[\[?)\s*(?P<path>{_PATH})\s*\]\]?\s*(?:#.*)?")
_KEY = re.compile(rf"\s*(?P<path>{_PATH})\s*=")
_PARTS = re.compile(_PART)
_LONG = re.compile(r"\"\"\"|'''")


def lines_of(text: str) -> dict[str, int]:
    """The line, from 1, of each section and key of a TOML text, by its path: ``head[1].refit``.

    The text need not be right; what is not understood is passed over.
    """
    found: dict[str, int] = {}
    several: dict[str, int] = {}
    section = ""
    for number, line in _plain(text):
        header = _HEADER.fullmatch(line)
        if header is not None:
            section = _joined(header["path"])
            if header["open"] == "[[":
                at = several.get(section, -1) + 1
                several[section] = at
                section = f"{section}[{at}]"
            found.setdefault(section, number)
        elif (key := _KEY.match(line)) is not None:
            inner = _joined(key["path"])
            found.setdefault(f"{section}.{inner}" if section else inner, number)
    return found


def nearest(lines: dict[str, int], path: str) -> int | None:
    """The line of a key, or of what it is within."""
    while path:
        for there in (path, f"{path}[0]"):
            if there in lines:
                return lines[there]
        path = path.rpartition(".")[0] or (path.rpartition("[")[0] if path.endswith("]") else "")
    return None


def _plain(text: str) -> Iterator[tuple[int, str]]:
    """The lines that do not begin within a text of several lines."""
    within: str | None = None
    for number, line in enumerate(text.splitlines(), 1):
        if within is None:
            yield number, line
        for mark in _LONG.findall(line):
            within = None if within == mark else within or mark


def _joined(path: str) -> str:
    return ".".join(part.strip("\"'") for part in _PARTS.findall(path))
