"""Table files made of lines (CSV, TSV, JSONL): a row is found again by its offset, without reading the rest."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from featstore.errors import StorageError, UsageError
from featstore.sources.files import CONTENT_LIMIT
from featstore.sources.rows import Chunk
from featstore.sources.values import typed

__all__ = ["CHUNK_BYTES", "CHUNK_ROWS", "LineTable", "Lines", "append"]

_BLOCK = 1 << 20
_LINE_LIMIT = 128 << 20  # bytes without a line end: more is no table of texts, and would fill the memory
CHUNK_ROWS = 4096
"""Rows that are turned into Arrow at once; fewer where they are long."""
CHUNK_BYTES = 16 << 20
_BOM = b"\xef\xbb\xbf"


class Lines:
    """The lines of a UTF-8 file with their ends, whatever those are, counting bytes."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.offset = 0
        self.done = False

    def raw(self) -> Iterator[bytes]:
        """The lines as bytes."""
        try:
            with open(self._path, "rb") as file:
                rest = b""
                while block := file.read(_BLOCK):
                    if self.offset == 0 and not rest:
                        block = self._start(block)
                    # A carriage return at the end of the block may be half of a line end.
                    held = b"\r" if block.endswith(b"\r") else b""
                    lines = (rest + block.removesuffix(b"\r")).splitlines(keepends=True)
                    rest = lines.pop() if lines and not lines[-1].endswith((b"\n", b"\r")) else b""
                    rest += held
                    if len(rest) > _LINE_LIMIT:
                        raise UsageError(
                            f"{self._path} has a line of more than {_LINE_LIMIT:,} bytes at offset {self.offset:,}."
                        )
                    for line in lines:
                        self.offset += len(line)
                        yield line
                for line in rest.splitlines(keepends=True):
                    self.offset += len(line)
                    yield line
        except OSError as error:
            raise StorageError(f"cannot read {self._path}: {error.strerror or error}.") from error
        self.done = True

    def text(self) -> Iterator[str]:
        """The lines as strings; raises ``UsageError`` with the offset of a byte that is not UTF-8."""
        for line in self.raw():
            try:
                yield line.decode()
            except UnicodeDecodeError as error:
                at = self.offset - len(line) + error.start
                raise UsageError(
                    f"{self._path} is not UTF-8: byte 0x{line[error.start]:02x} at offset {at:,}.",
                    hint=f"Convert it: iconv -f WINDOWS-1252 -t UTF-8 {self._path.name}",
                ) from error

    def _start(self, block: bytes) -> bytes:
        if block.startswith((b"\xff\xfe", b"\xfe\xff")):
            raise UsageError(
                f"{self._path} is UTF-16, not UTF-8 (byte 0x{block[0]:02x} at offset 0).",
                hint=f"Convert it: iconv -f UTF-16 -t UTF-8 {self._path.name}",
            )
        if block.startswith(_BOM):
            self.offset = len(_BOM)
            return block[len(_BOM) :]
        return block


class LineTable:
    """What CSV and JSONL have in common."""

    kind = ""

    def __init__(self, path: Path) -> None:
        self._path = path

    def names(self) -> list[str]:
        return list(self._first().columns)

    def strings(self) -> list[str]:
        import pyarrow as pa

        return [
            name
            for name, column in self._first().columns.items()
            if pa.types.is_string(typed(pa.chunked_array([column])).type)
        ]

    def binaries(self) -> list[str]:
        return []

    def chunks(self, skip: Sequence[str]) -> Iterator[Chunk]:
        raise NotImplementedError

    def fetch(self, locator: str, columns: Sequence[str]) -> list[object]:
        _, offset, length = (int(part) for part in locator.split(":"))
        if length > CONTENT_LIMIT:
            raise ValueError("the row is too long")
        descriptor = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            text = os.pread(descriptor, length, offset).decode()
        finally:
            os.close(descriptor)
        return self._parse(text, columns)

    def _first(self) -> Chunk:
        return next(self.chunks(()), Chunk([], [], {}))

    def _parse(self, text: str, columns: Sequence[str]) -> list[object]:
        raise NotImplementedError


def append(chunk: Chunk, number: int, offset: int, length: int) -> None:
    """Adds a row's number and place to a chunk."""
    assert isinstance(chunk.numbers, list)
    assert isinstance(chunk.locators, list)
    chunk.numbers.append(number)
    chunk.locators.append(f"{number}:{offset}:{length}")
