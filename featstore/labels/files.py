"""Labels from a file: CSV, TSV, JSON lines, Parquet or Arrow, joined by ``item_id`` or path."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa

from featstore.errors import NotFoundError, StorageError, UsageError
from featstore.labels.given import NAMED, Labels, known
from featstore.sources.columnar import Columnar
from featstore.sources.delimited import Delimited
from featstore.sources.jsonlines import JsonLines
from featstore.sources.rows import Rows
from featstore.sources.values import typed
from featstore.storage import frames
from featstore.tables import FeatureTable
from featstore.tables.where import nearest_column

__all__ = ["from_file"]

_IDS = ("item_id", "id")
_PATHS = ("path", "file", "filename", "image", "image_path")
_HINT = f"The file needs a column with the items ({', '.join((*_IDS, *_PATHS))}) and one with their labels."
_PARENT = "parent"


def from_file(
    path: str | os.PathLike[str], features: FeatureTable, column: str = "label", *, root: str | None = None
) -> Labels:
    """Reads labels and joins them to a table's rows.

    Every cell of a CSV stays the text that it is, formulas too; columns that hold nothing but numbers are read as
    numbers. A text that was cut into chunks is labelled by its own id. Lines that say the same of an item count once.

    Args:
        path: The file. Its first column of ``item_id``, ``id``, ``path``, ``file`` … names the items.
        features: The table.
        column: The file's column with the labels.
        root: Where the table's source lies, for absolute paths.

    Returns:
        The labels in the order of ``rows()``; an item of which the file says several things has none.

    Raises:
        NotFoundError: There is no such file or column.
        UsageError: It is no such table, a line of it cannot be read, or none of its items is in the table.
        IntegrityError: A file of the table is damaged.
    """
    file = Path(os.path.abspath(os.path.expanduser(path)))
    names, values = _pairs(file, column)
    places = _Places(features, [folder for folder in (root, str(file.parent)) if folder])
    said: dict[str, Any] = {}
    conflicts: set[str] = set()
    unknown: dict[str, None] = {}
    repeated = 0
    for name, value in zip(names, values, strict=True):
        if name is None or value is None:
            continue
        item = places.find(name)
        if item is None:
            unknown[name] = None
        elif item not in said:
            said[item] = value
        elif said[item] == value:
            repeated += 1
        else:
            conflicts.add(item)
    if unknown and not said:
        first = ", ".join(repr(name[:80]) for name in list(unknown)[:NAMED])
        raise UsageError(
            f"--labels {file}: none of its {len(unknown):,} ids is in the table '{features.name}'; the first: {first}.",
            hint=f"The table's ids look like {', '.join(repr(i[:80]) for i in places.ids[:3])}.",
        )
    found = [None if item in conflicts else said.get(item) for item in places.keys]
    for at, item in enumerate(places.ids):  # what is said of a chunk itself goes before what is said of its text
        if item in said and item not in conflicts:
            found[at] = said[item]
    ordered = sorted(conflicts)
    return Labels(
        values=found,
        source=file.name,
        conflicts=len(conflicts),
        conflicting=tuple(ordered[:NAMED]),
        unknown=len(unknown),
        unknown_ids=tuple(list(unknown)[:NAMED]),
        repeated=repeated,
    )


class _Places:
    """Finds the item that a file means."""

    def __init__(self, features: FeatureTable, roots: list[str]) -> None:
        chunked = _PARENT in features.column_names
        rows = features.rows(["item_id", _PARENT] if chunked else ["item_id"])
        self.ids = frames.strings(rows, "item_id")
        # What a row is labelled by: its text where it is a chunk, else itself.
        self.keys = (
            [parent or item for item, parent in zip(self.ids, rows[_PARENT].to_pylist(), strict=True)]
            if chunked
            else self.ids
        )
        self._known = {*self.ids, *self.keys}
        self._roots = list(dict.fromkeys(form(root) for root in roots for form in (os.path.realpath, os.path.abspath)))

    def find(self, name: str) -> str | None:
        if name in self._known:
            return name
        plain = os.path.normpath(name).replace(os.sep, "/")
        if plain in self._known:
            return plain
        for root in self._roots:
            # A relative path of the file may begin in the file's own folder, an absolute one anywhere.
            whole = os.path.normpath(os.path.join(self._roots[-1], name))
            inside = os.path.relpath(whole, root).replace(os.sep, "/")
            if inside in self._known:
                return inside
        return None


def _pairs(file: Path, column: str) -> tuple[list[str | None], list[Any]]:
    rows = _opened(file)
    names = rows.names()
    key = next((name for name in (*_IDS, *_PATHS) if name in names), None)
    if key is None:
        raise UsageError(f"--labels {file}: no column names the items; it has {', '.join(names[:20])}.", hint=_HINT)
    if column not in names:
        error = nearest_column(column, names, asked=f"--labels {file}")
        raise NotFoundError(error.message, hint=f"{error.hint} Name the one with the labels with --label.")
    if column == key:
        raise UsageError(f"--labels {file}: '{column}' names the items and cannot be their label as well.", hint=_HINT)
    found_names: list[str | None] = []
    pieces: list[pa.Array[Any]] = []
    try:
        for chunk in rows.chunks([name for name in names if name not in (key, column)]):
            if chunk.bad:
                raise UsageError(f"--labels {file}: row {chunk.bad[0].number + 1}: {chunk.bad[0].message}")
            count = len(chunk.numbers)
            named = chunk.columns[key] if key in chunk.columns else pa.nulls(count, pa.string())
            found_names += [None if name is None else str(name) for name in named.to_pylist()]
            pieces.append(chunk.columns[column] if column in chunk.columns else pa.nulls(count))
    except OSError as error:
        raise StorageError(f"--labels {file} cannot be read: {error.strerror or error}.") from error
    return found_names, list(_values(pieces, isinstance(rows, Delimited)))


def _values(pieces: list[pa.Array[Any]], infer: bool) -> Iterator[Any]:
    if infer:
        cells = [known(cell) for piece in pieces for cell in piece.to_pylist()]
        numbers = [None if cell is None or cell.strip().lower() == "nan" else cell for cell in cells]
        found = typed(pa.chunked_array([pa.array(numbers, pa.string())]))
        # Among numbers NaN is none; among words it may be one.
        yield from cells if pa.types.is_string(found.type) else found.to_pylist()
        return
    for piece in pieces:
        for value in piece.to_pylist():
            # A list is kept as JSON text, as a table's column would hold it.
            yield json.dumps(value, ensure_ascii=False) if isinstance(value, list | dict) else known(value)


def _opened(file: Path) -> Rows:
    if not file.is_file():
        raise NotFoundError(f"--labels {file}: there is no such file.", hint=_HINT)
    suffix = file.suffix.lower()
    try:
        if suffix in (".csv", ".tsv"):
            return Delimited(file, "\t" if suffix == ".tsv" else ",")
        if suffix in (".jsonl", ".ndjson"):
            return JsonLines(file)
        if suffix in (".parquet", ".pq", ".arrow", ".feather"):
            return Columnar(file, "parquet" if suffix in (".parquet", ".pq") else "arrow")
    except OSError as error:
        raise StorageError(f"--labels {file} cannot be read: {error.strerror or error}.") from error
    raise UsageError(
        f"--labels {file}: '{suffix}' is no kind of table that labels are read from.",
        hint="Use .csv, .tsv, .jsonl, .parquet or .arrow.",
    )
