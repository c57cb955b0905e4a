"""``--log-format json``: every line on stderr is one JSON object, also a warning's and the last error's."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, TextIO

__all__ = ["about", "active", "begin", "line", "note"]

_LEVELS = ("warning", "error")

_lines: _Lines | None = None
_fields: dict[str, Any] = {}


def begin(arguments: Sequence[str]) -> None:
    """Decides what stderr is from now on; before the arguments are parsed, so that their errors are lines as well."""
    global _lines
    _fields.clear()
    wanted = [after for word, after in zip(arguments, [*arguments[1:], ""], strict=False) if word == "--log-format"]
    wanted += [word.partition("=")[2] for word in arguments if word.startswith("--log-format=")]
    _lines = _Lines(sys.stderr) if wanted[-1:] == ["json"] else None
    if _lines is not None:
        sys.stderr = _lines


def active() -> bool:
    """Whether stderr is JSON lines."""
    return _lines is not None


def about(**fields: object) -> None:
    """What every line says from now on, such as the job."""
    _fields.update(fields)


def note(level: str, message: str, **fields: object) -> None:
    """Writes one line; a closed stderr is no reason to fail."""
    if _lines is not None:
        with suppress(OSError, ValueError):
            _lines.inner.write(line(level, message, **fields))
            _lines.inner.flush()


def line(level: str, message: str, **fields: object) -> str:
    """One line: ``ts`` (ISO 8601, UTC), ``level``, ``message``, what all lines say, and fields that are not None."""
    said = {"ts": datetime.now(UTC).isoformat(timespec="milliseconds"), "level": level, "message": message}
    more = {key: value for key, value in {**_fields, **fields}.items() if value is not None}
    return json.dumps(said | more, default=str) + "\n"


class _Lines(io.TextIOBase):
    """What anybody prints on stderr, each line as an object: Python's own warnings, a traceback, a library's notes."""

    def __init__(self, inner: TextIO) -> None:
        self.inner = inner
        self._rest = ""

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self.inner.fileno()

    def write(self, text: str) -> int:
        *whole, self._rest = (self._rest + text).split("\n")
        for said in whole:
            self._put(said)
        return len(text)

    def flush(self) -> None:
        if self._rest:
            said, self._rest = self._rest, ""
            self._put(said)
        self.inner.flush()

    def _put(self, said: str) -> None:
        if not said.strip():
            return
        level = next((word for word in _LEVELS if said.startswith(f"{word}: ")), "info")
        note(level, said.removeprefix(f"{level}: "))
