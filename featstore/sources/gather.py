"""From rows to items: each row gets its id, its content's hash and its time, or is refused."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from featstore.errors import ItemError
from featstore.records import Reject
from featstore.sources import files
from featstore.sources.columns import Columns, metadata_names
from featstore.sources.items import Scan
from featstore.sources.pictures import Pictures
from featstore.sources.rows import Chunk
from featstore.sources.values import joined, moment, plain, typed
from featstore.storage import Stat, hashing

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["Gathered"]

_Found = tuple[str, str, int, int, int]  # content_sha256, locator, size, mtime_ns, inode


class Gathered:
    """Collects the items of a table, chunk by chunk.

    Args:
        columns: The part of each column.
        pictures: Where pictures are found; None under a text modality.
        marks: The table file's own size, time and inode.
        previous: The last scan's items, or None.
    """

    def __init__(self, columns: Columns, pictures: Pictures | None, marks: Stat, previous: pa.Table | None) -> None:
        self.rows = 0
        self.items = 0
        self._columns = columns
        self._pictures = pictures
        self._marks = (marks.size, marks.mtime_ns, files.signed(marks.inode))
        self._known = _known_files(previous)
        self._seen: set[str] = set()
        self._twins = 0
        self._rejects: list[Reject] = []
        self._tables: list[pa.Table] = []
        self._metadata: list[dict[str, pa.Array[Any]]] = []

    def add(self, chunk: Chunk, limit: int | None = None) -> None:
        """Takes the rows of a chunk, up to ``limit`` items in all."""
        import pyarrow as pa

        self.rows += len(chunk.numbers) + len(chunk.bad)
        for bad in chunk.bad:
            self._refuse(None, bad.number, ItemError("read", bad.code, bad.message))
        ids = self._ids(chunk)
        times = self._times(chunk)
        contents = self._contents(chunk)
        kept: list[int] = []
        rows: list[tuple[str, *_Found]] = []
        for place, (number, content) in enumerate(zip(chunk.numbers, contents, strict=True)):
            if limit is not None and self.items >= limit:
                break
            item_id = ids[place] if ids is not None else None
            time = times[place] if isinstance(times, list) else None
            if ids is not None and not item_id:
                self._refuse(None, number, ItemError("scan", "null_id", f"the column '{self._columns.id}' is empty."))
            elif isinstance(content, ItemError):
                self._refuse(item_id, number, content)
            elif isinstance(time, ItemError):
                self._refuse(item_id, number, time)
            elif (name := item_id or content[0]) in self._seen:
                if ids is None:
                    self._twins += 1
                else:
                    self._refuse(name, number, ItemError("scan", "duplicate_id", "an earlier row has the same id."))
            else:
                self._seen.add(name)
                self.items += 1
                kept.append(place)
                rows.append((name, *content))
        table = pa.Table.from_arrays(
            [pa.array(column, field.type) for column, field in zip(zip(*rows, strict=True), _schema(), strict=True)]
            if rows
            else [pa.array([], field.type) for field in _schema()],
            schema=_schema(),
        )
        places = pa.array(kept, pa.int64())
        if times is not None:
            if isinstance(times, list):
                good = [None if isinstance(time, ItemError) else time for time in times]
                times = pa.array(good, pa.timestamp("us", "UTC"))
            table = table.append_column("event_ts", times.take(places))
        self._tables.append(table)
        used = {*self._columns.content, self._columns.id, self._columns.time} - set(self._columns.renamed)
        self._metadata.append({n: plain(c).take(places) for n, c in chunk.columns.items() if n not in used})

    def scan(self, warnings: list[str], *, infer: bool) -> Scan:
        """Everything taken so far as a scan.

        Args:
            warnings: Put in front of this part's own.
            infer: Columns of strings may hold numbers or truth values written out.
        """
        import pyarrow as pa

        table = pa.concat_tables(self._tables) if self._tables else _schema().empty_table()
        targets, renamings = metadata_names(dict.fromkeys(n for found in self._metadata for n in found), self._columns)
        for name, target in targets.items():
            pieces = [
                found.get(name, pa.nulls(part.num_rows))
                for found, part in zip(self._metadata, self._tables, strict=True)
            ]
            column = joined(pieces)
            table = table.append_column(target, typed(column) if infer else column)
        warnings = [*warnings, *renamings]
        if self._twins:
            warnings.append(
                f"{self._twins:,} rows repeat the content of an earlier row and are one item with it; "
                "name an id column to keep them apart"
            )
        return Scan(items=table, rejects=tuple(self._rejects), warnings=tuple(warnings))

    def _ids(self, chunk: Chunk) -> list[str | None] | None:
        name = self._columns.id
        if name is None:
            return None
        if name not in chunk.columns:
            return [None] * len(chunk.numbers)
        return [None if v is None else str(v) for v in plain(chunk.columns[name]).to_pylist()]

    def _times(self, chunk: Chunk) -> pa.Array[Any] | list[Any] | None:
        import pyarrow as pa

        name = self._columns.time
        if name is None:
            return None
        if name not in chunk.columns:
            return [None] * len(chunk.numbers)
        column = plain(chunk.columns[name])
        if pa.types.is_timestamp(column.type) or pa.types.is_date(column.type):
            zone = column.type.tz if pa.types.is_timestamp(column.type) else None
            return column.cast(pa.timestamp("us", zone), safe=False).cast(pa.timestamp("us", "UTC"))
        return [moment(value, name) for value in column.to_pylist()]

    def _contents(self, chunk: Chunk) -> list[_Found | ItemError]:
        missing = [None] * len(chunk.numbers)
        values = [
            chunk.columns[name].to_pylist() if name in chunk.columns else missing for name in self._columns.content
        ]
        if self._pictures is not None:
            return self._images(self._pictures, values[0], chunk)
        found: list[_Found | ItemError] = []
        for locator, row in zip(chunk.locators, zip(*values, strict=True), strict=True):
            text = self._columns.compose(row)
            if text is None:
                found.append(ItemError("read", "null_text", "the row holds no text."))
            else:
                found.append((hashing.of_text(text), locator, *self._marks))
        return found

    def _images(self, pictures: Pictures, values: Sequence[object], chunk: Chunk) -> list[_Found | ItemError]:
        found: list[Any] = []
        new: dict[int, bytes] = {}
        for locator, value in zip(chunk.locators, values, strict=True):
            content = pictures.content(value)
            if content is not None:
                found.append((hashing.of_bytes(content), locator, *self._marks))
                continue
            try:
                located = pictures.locate(value)
                if located is None:
                    raise ItemError("read", "null_image", "the row holds no picture and no path.")
                path = pictures.path(located)
                stats = os.stat(path)
            except ItemError as error:
                found.append(error)
            except (OSError, ValueError) as error:
                reason = getattr(error, "strerror", None) or error
                found.append(ItemError("read", "unreadable", f"{value!r:.200} cannot be read: {reason}."))
            else:
                marks = (stats.st_size, stats.st_mtime_ns, files.signed(stats.st_ino))
                digest = self._known.get((f"file:{located}", *marks))
                if digest is None:
                    new[len(found)] = path
                found.append((digest, f"file:{located}", *marks))
        for place, result in zip(new, files.hash_files(list(new.values())), strict=True):
            if isinstance(result, ItemError):
                found[place] = result
            else:
                found[place] = (result.sha256, found[place][1], result.size, result.mtime_ns, result.inode)
        return found

    def _refuse(self, item_id: str | None, number: int, error: ItemError) -> None:
        message = f"row {number + 1}: {error.message}"
        name = item_id or f"row {number + 1}"
        self._rejects.append(
            Reject(item_id=name, content_sha256=None, stage=error.stage, code=error.code, message=message)
        )


def _schema() -> pa.Schema:
    import pyarrow as pa

    texts: list[pa.Field[Any]] = [pa.field(name, pa.string()) for name in ("item_id", "content_sha256", "locator")]
    return pa.schema([*texts, *(pa.field(name, pa.int64()) for name in ("size", "mtime_ns", "inode"))])


def _known_files(previous: pa.Table | None) -> dict[tuple[str, int, int, int], str]:
    if previous is None:
        return {}
    columns = (previous[name].to_pylist() for name in ("locator", "size", "mtime_ns", "inode", "content_sha256"))
    return {row[:4]: row[4] for row in zip(*columns, strict=True) if row[0].startswith("file:")}
