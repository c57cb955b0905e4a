"""CSV and TSV tables."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from featstore.errors import UsageError
from featstore.sources.files import CONTENT_LIMIT
from featstore.sources.lines import CHUNK_BYTES, CHUNK_ROWS, Lines, LineTable, append
from featstore.sources.rows import BadRow, Chunk

if TYPE_CHECKING:
    pass

__all__ = ["Delimited"]


class Delimited(LineTable):
    """CSV or TSV with a header line. Every cell is text; empty ones are null; types are found at the end."""

    kind = "csv"

    def __init__(self, path: Path, delimiter: str) -> None:
        super().__init__(path)
        # The library's own limit of 131,072 characters is process-wide; it is only ever raised.
        csv.field_size_limit(max(csv.field_size_limit(), CONTENT_LIMIT))
        header = next(csv.reader(Lines(path).text(), delimiter=delimiter), [])
        if delimiter == "," and len(header) == 1 and ";" in header[0]:
            delimiter = ";"
            header = header[0].split(";")
        self._delimiter = delimiter
        self._names = [name.strip() or f"column_{number}" for number, name in enumerate(header, 1)]
        if not header:
            raise UsageError(f"{path} is empty; a line with the columns' names was expected.")
        doubled = sorted({name for name in self._names if self._names.count(name) > 1})
        if doubled:
            raise UsageError(f"{path} has two columns called '{doubled[0]}'.", hint="Rename one of them.")

    def names(self) -> list[str]:
        return list(self._names)

    def chunks(self, skip: Sequence[str]) -> Iterator[Chunk]:
        lines = Lines(self._path)
        rows = csv.reader(lines.text(), delimiter=self._delimiter, strict=True)
        next(rows, None)
        keep = [(place, name) for place, name in enumerate(self._names) if name not in skip]
        number, held = -1, 0
        chunk, cells = Chunk([], [], {}), []
        while True:
            begin = lines.offset
            try:
                row = next(rows)
            except StopIteration:
                break
            except csv.Error as error:
                number += 1
                if lines.done:
                    raise UsageError(
                        f"{self._path}: a quote opened in row {number + 1} (offset {begin:,}) is never closed."
                    ) from error
                chunk.bad.append(BadRow(number, "bad_row", f"{error}."))
                continue
            if not row:
                continue
            number += 1
            if len(row) != len(self._names):
                message = f"it has {len(row)} fields; the header has {len(self._names)}."
                chunk.bad.append(BadRow(number, "ragged_row", message))
                continue
            length = lines.offset - begin
            held += length
            append(chunk, number, begin, length)
            cells.append(row)
            if len(cells) == CHUNK_ROWS or held > CHUNK_BYTES:
                yield self._filled(chunk, cells, keep)
                chunk, cells, held = Chunk([], [], {}), [], 0
        yield self._filled(chunk, cells, keep)

    def _filled(self, chunk: Chunk, cells: list[list[str]], keep: list[tuple[int, str]]) -> Chunk:
        import pyarrow as pa

        chunk.columns = {name: pa.array([row[place] or None for row in cells], pa.string()) for place, name in keep}
        return chunk

    def _parse(self, text: str, columns: Sequence[str]) -> list[object]:
        row = next(csv.reader(io.StringIO(text, newline=""), delimiter=self._delimiter, strict=True))
        return [row[self._names.index(name)] or None for name in columns]
