"""JSON lines tables."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from typing import Any

from featstore.sources.lines import CHUNK_BYTES, CHUNK_ROWS, Lines, LineTable, append
from featstore.sources.rows import BadRow, Chunk
from featstore.sources.values import from_json

__all__ = ["JsonLines"]

_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")


class JsonLines(LineTable):
    """One JSON object a line; a nested value is kept as JSON text."""

    kind = "jsonl"

    def chunks(self, skip: Sequence[str]) -> Iterator[Chunk]:
        lines = Lines(self._path)
        number, held = -1, 0
        chunk, objects = Chunk([], [], {}), []
        for line in lines.text():
            if not line.strip():
                continue
            number += 1
            length = len(line.encode())
            found = _object(line, number)
            if isinstance(found, BadRow):
                chunk.bad.append(found)
                continue
            append(chunk, number, lines.offset - length, length)
            objects.append(found)
            held += length
            if len(objects) == CHUNK_ROWS or held > CHUNK_BYTES:
                yield self._filled(chunk, objects, skip)
                chunk, objects, held = Chunk([], [], {}), [], 0
        yield self._filled(chunk, objects, skip)

    def _filled(self, chunk: Chunk, objects: list[dict[str, Any]], skip: Sequence[str]) -> Chunk:
        names = dict.fromkeys(name for found in objects for name in found)
        chunk.columns = {name: from_json([found.get(name) for found in objects]) for name in names if name not in skip}
        return chunk

    def _parse(self, text: str, columns: Sequence[str]) -> list[object]:
        found = _object(text, 0)
        if isinstance(found, BadRow):
            raise ValueError(found.message)
        # The way through Arrow that the scan took, so that the same value comes out.
        return [from_json([found.get(name)])[0].as_py() for name in columns]


def _object(line: str, number: int) -> dict[str, Any] | BadRow:
    try:
        found = json.loads(line)
    except (ValueError, RecursionError) as error:
        return BadRow(number, "bad_json", f"it is not JSON: {error}.")
    if not isinstance(found, dict):
        return BadRow(number, "bad_json", f"it is a {type(found).__name__}; an object was expected.")
    if _SURROGATE.search(line):
        try:
            json.dumps(found, ensure_ascii=False).encode()
        except UnicodeEncodeError:
            return BadRow(number, "lone_surrogate", "a string holds half of a surrogate pair.")
    return found
