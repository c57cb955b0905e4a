"""One look at every file of a store: where are these ids? It finds what is to go, and proves that it has gone.

Parquet files are decoded, whatever their columns are called; documents and logs are parsed, so that no escape hides an
id; all else is searched byte for byte.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from featstore.errors import IntegrityError, NotFoundError
from featstore.records import PurgeScan
from featstore.storage import frames
from featstore.upkeep.purge import places, texts

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from featstore.layout import Layout
    from featstore.upkeep.purge.ids import Wanted

__all__ = ["Found", "Survey", "cut_from", "own_rows", "survey"]

# Where the other columns are the user's own: what they say of other items is the source's to change.
_USERS = ("table", "history", "scan", "run")

# Columns that hold sentences of featstore's own.
_SENTENCES = ("message",)

# What a Delta log says of the table as a whole; its columns are called what they are called.
_OF_THE_TABLE = ("metaData", "protocol")

# Bytes of a file looked through at once, and those on each side of a word that tell whether it is one.
_PIECE, _AROUND = 1 << 24, 4096

_SHOWN = 100


@dataclass(frozen=True)
class Found:
    """A file that holds ids: how many rows of a Parquet file, or values of another.

    ``words`` are the ids that it may hold; none for a Parquet file.
    """

    file: places.File
    hits: int
    words: frozenset[str] = frozenset()


@dataclass
class Survey:
    """What a look at a store has found.

    Attributes:
        found: The files that hold ids.
        seen: The ids that were found as items.
        contents: By table, the hashes of the contents that the ids had.
        mentions: By column, the rows of other items that name an id.
        strange: Files of no known kind.
        models: Files of models in which an id stands as a word: they were there before any item.
    """

    found: list[Found] = field(default_factory=list)
    seen: set[str] = field(default_factory=set)
    contents: dict[str, set[str]] = field(default_factory=dict)
    mentions: Counter[str] = field(default_factory=Counter)
    strange: list[str] = field(default_factory=list)
    models: list[str] = field(default_factory=list)
    files: int = 0
    bytes: int = 0

    def of(self, *kinds: str) -> list[Found]:
        """What was found in places of some kinds."""
        return [found for found in self.found if found.file.place.kind in kinds]

    def record(self) -> PurgeScan:
        """The same as it is reported."""
        return PurgeScan(
            files=self.files,
            bytes=self.bytes,
            hits=len(self.found),
            found=dict(sorted(Counter(found.file.place.kind for found in self.found).items())),
            files_found=tuple(found.file.path for found in self.found[:_SHOWN]),
            mentions=dict(sorted(self.mentions.items())),
        )


def survey(layout: Layout, wanted: Wanted, keep: Callable[[places.File], bool] = lambda _: True) -> Survey:
    """Looks at every file.

    Args:
        layout: The store.
        wanted: The ids.
        keep: Which files to look at; all by default.

    Raises:
        IntegrityError: A file is damaged, so that nobody knows what it holds.
    """
    result = Survey()
    for path in layout.storage.files():
        file = places.of(path)
        if file is None:
            result.strange.append(path)
            file = places.File(path, places.Place("unknown", "", "rows" if path.endswith(".parquet") else "bytes"))
        if not keep(file):
            continue
        try:
            result.bytes += layout.storage.stat(path).size
            found = _look(layout, wanted, file, result)
        except NotFoundError:
            continue  # a lock, or what a reader wrote for itself, has gone meanwhile
        result.files += 1
        if found is not None and file.place.kind == "model":
            result.models.append(path)
        elif found is not None:
            result.found.append(found)
    return result


def own_rows(wanted: Wanted, rows: pa.Table) -> NDArray[np.bool_]:
    """Which rows are of the ids, or were cut from their texts."""
    own = np.zeros(rows.num_rows, np.bool_)
    if "item_id" in rows.column_names and pa.types.is_string(_plain(rows["item_id"]).type):
        own |= wanted.among(_plain(rows["item_id"]))
    own[list(_cut(wanted, rows))] = True
    return own


def cut_from(layout: Layout, wanted: Wanted, keep: Callable[[places.File], bool]) -> set[str]:
    """The items that were cut from the texts of the ids."""
    cut: set[str] = set()
    for path in layout.storage.files():
        file = places.of(path)
        if file is not None and file.place.kind in _USERS and file.place.form == "rows" and keep(file):
            groups = frames.Groups(layout.storage, path)
            if {"item_id", "parent"} <= set(groups.schema.names):
                for group in range(groups.groups):
                    cut |= set(_cut(wanted, groups.read(group, ["item_id", "parent"])).values())
    return cut - wanted.ids


def _cut(wanted: Wanted, rows: pa.Table) -> dict[int, str]:
    if not {"item_id", "parent"} <= set(rows.column_names) or not pa.types.is_string(_plain(rows["parent"]).type):
        return {}
    named = np.flatnonzero(wanted.among(_plain(rows["parent"])))
    few = rows.select(["item_id", "parent"]).take(named).to_pylist()
    pairs = ((int(at), str(row["item_id"]), str(row["parent"])) for at, row in zip(named, few, strict=True))
    return {at: item for at, item, parent in pairs if item.rpartition("#")[0] == parent}


def _look(layout: Layout, wanted: Wanted, file: places.File, result: Survey) -> Found | None:
    if file.place.form == "rows":
        hits = _in_rows(layout, wanted, file, result)
        return Found(file, hits) if hits else None
    if file.place.form == "log" and file.path.endswith(".parquet"):
        rows = frames.read(layout.storage, file.path)
        rows = rows.drop_columns([name for name in _OF_THE_TABLE if name in rows.column_names])
        values = rows.to_pylist()
        hits = texts.found(wanted, values, wanted.candidates(json.dumps(values, default=str).encode()))
        return Found(file, hits) if hits else None
    if file.place.form == "bytes":
        words = frozenset(_in_bytes(layout, wanted, file.path))
        return Found(file, len(words), words) if words else None
    data = layout.storage.read(file.path)
    among = frozenset(wanted.candidates(data))
    hits = sum(texts.found(wanted, value, among) for value in _values(file, data)) if among else 0
    return Found(file, hits, among) if hits else None


def _in_bytes(layout: Layout, wanted: Wanted, path: str) -> set[str]:
    """The ids that stand in a file, of which a piece at a time is in memory; pieces overlap by more than any id."""
    layout.storage.stat(path)
    found: set[str] = set()
    before = b""
    with layout.storage.local(path).open("rb") as stream:
        while piece := stream.read(_PIECE):
            data = before + piece
            among = wanted.candidates(data)
            found |= wanted.words_in_bytes(data, among) if among else set()
            before = data[-wanted.longest - _AROUND :]
    return found


def _values(file: places.File, data: bytes) -> Iterator[Any]:
    text = data.decode("utf-8", "surrogatepass")
    parts = text.splitlines() if file.place.form == "log" and file.path.endswith(".json") else [text]
    try:
        for part in parts:
            value = json.loads(part) if part.strip() else {}
            if file.place.form == "log" and isinstance(value, dict):
                value = {key: inner for key, inner in value.items() if key not in _OF_THE_TABLE}
            yield value
    except ValueError as error:
        raise IntegrityError(f"{file.path} is damaged: it is not JSON ({error}).") from error


def _in_rows(layout: Layout, wanted: Wanted, file: places.File, result: Survey) -> int:
    groups = frames.Groups(layout.storage, file.path)
    names = [name for name in groups.schema.names if _holds_text(groups.schema.field(name).type)]
    hits = 0
    if not names:
        return 0
    for number in range(groups.groups):
        rows = groups.read(number, names)
        own = own_rows(wanted, rows)
        if own.any():
            mine = rows.filter(pa.array(own))
            result.seen |= {str(item) for item in mine["item_id"].to_pylist()}
            if "content_sha256" in names and file.name and file.place.kind not in ("run",):
                result.contents.setdefault(file.name, set()).update(
                    sha for sha in mine["content_sha256"].to_pylist() if sha is not None
                )
        others = rows.filter(pa.array(~own)) if own.any() else rows
        hits += int(own.sum())
        for name in names:
            if name == "item_id":
                continue
            if name in _SENTENCES and file.place.kind in ("rejects", "unknown"):
                hits += len(_sentences(wanted, others[name]))
                continue
            count = sum(int(pc.sum(_words(wanted, part)).as_py() or 0) for part in _leaves(others[name]))
            if file.place.kind not in _USERS:
                hits += count
            elif count and file.place.kind in ("table", "history"):  # the others follow from these
                result.mentions[f"{file.name}.{name}"] += count
    return hits


def _sentences(wanted: Wanted, column: pa.ChunkedArray[Any]) -> list[int]:
    """The rows whose sentence names an id."""
    said = column.to_pylist()
    among = wanted.candidates("\n".join(text or "" for text in said).encode())
    return [at for at, text in enumerate(said) if text and wanted.words_in(text, among)] if among else []


def _words(wanted: Wanted, values: pa.Array[Any]) -> pa.Array[Any]:
    return pc.is_in(values, value_set=wanted.column_words().cast(values.type))


def _plain(column: pa.ChunkedArray[Any]) -> pa.ChunkedArray[Any]:
    """A column of texts as such, whatever its encoding."""
    kind = column.type
    if pa.types.is_dictionary(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return column.cast(pa.string())
    return column


def _holds_text(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        return _holds_text(kind.value_type)
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return _holds_text(kind.value_type)
    if pa.types.is_struct(kind):
        return any(_holds_text(kind.field(at).type) for at in range(kind.num_fields))
    return pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)


def _leaves(column: Any) -> Iterator[pa.Array[Any]]:
    """The texts in a column, or in an array of it, however deep."""
    for chunk in getattr(column, "chunks", [column]):
        kind = chunk.type
        if pa.types.is_list(kind) or pa.types.is_large_list(kind):
            yield from _leaves(chunk.flatten())
        elif pa.types.is_struct(kind):
            for part in chunk.flatten():
                yield from _leaves(part)
        elif pa.types.is_dictionary(kind):
            yield chunk.cast(kind.value_type)
        elif _holds_text(kind):
            yield chunk
