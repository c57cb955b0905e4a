"""The file that lists the items to remove: an id a line, or a table with a column of them."""

from __future__ import annotations

import os
from pathlib import Path

from featstore.errors import NotFoundError, StorageError, UsageError
from featstore.sources.columnar import Columnar
from featstore.sources.delimited import Delimited
from featstore.sources.jsonlines import JsonLines
from featstore.sources.rows import Rows

__all__ = ["listed"]

_COLUMN = "item_id"


def listed(path: str | os.PathLike[str]) -> list[str]:
    """Reads the ids, each once.

    Args:
        path: CSV, TSV, JSON lines, Parquet or Arrow by the name's ending, with a column ``item_id``; any other file has
            one id a line, byte for byte, empty lines left out; a carriage return that ends every line is no part of it.

    Raises:
        NotFoundError: There is no such file.
        UsageError: It cannot be read, or names no item.
    """
    file = Path(os.path.abspath(os.path.expanduser(path)))
    if not file.is_file():
        raise NotFoundError(f"--purge-ids {file}: there is no such file.", hint="Write one item_id a line.")
    try:
        rows = _opened(file)
        found = _lines(file) if rows is None else _column(file, rows)
    except OSError as error:
        raise StorageError(f"--purge-ids {file} cannot be read: {error.strerror or error}.") from error
    if not found:
        raise UsageError(f"--purge-ids {file} names no item.", hint="Write one item_id a line.")
    return list(dict.fromkeys(found))


def _opened(file: Path) -> Rows | None:
    suffix = file.suffix.lower()
    if suffix in (".csv", ".tsv"):
        return Delimited(file, "\t" if suffix == ".tsv" else ",")
    if suffix in (".jsonl", ".ndjson"):
        return JsonLines(file)
    if suffix in (".parquet", ".pq", ".arrow", ".feather"):
        return Columnar(file, "parquet" if suffix in (".parquet", ".pq") else "arrow")
    return None


def _lines(file: Path) -> list[str]:
    try:
        text = file.read_text("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UsageError(f"--purge-ids {file}: byte {error.start} is not UTF-8.") from error
    lines = [line for line in text.split("\n") if line]
    ended = [line for line in text.split("\n")[:-1] if line]
    if ended and all(line.endswith("\r") for line in ended):  # the file's line ends, not a part of every id
        lines = [line.removesuffix("\r") for line in lines]
    return [line for line in lines if line]


def _column(file: Path, rows: Rows) -> list[str]:
    names = rows.names()
    if _COLUMN not in names:
        raise UsageError(
            f"--purge-ids {file}: there is no column '{_COLUMN}'; it has {', '.join(names[:20])}.",
            hint=f"Call the column with the items {_COLUMN}, or write one id a line.",
        )
    found: list[str] = []
    for chunk in rows.chunks([name for name in names if name != _COLUMN]):
        if chunk.bad:
            raise UsageError(f"--purge-ids {file}: row {chunk.bad[0].number + 1}: {chunk.bad[0].message}")
        if _COLUMN in chunk.columns:
            found += [str(value) for value in chunk.columns[_COLUMN].to_pylist() if value not in (None, "")]
    return found
