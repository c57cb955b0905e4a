"""From rows to items: each gets its id, its content's hash and its time, or is refused."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, cast

from featstore.errors import ItemError, SettingsError
from featstore.records import Reject
from featstore.sources import files
from featstore.sources.columns import Columns, metadata_names
from featstore.sources.items import Scan
from featstore.sources.pictures import Pictures
from featstore.sources.rows import Chunk
from featstore.sources.values import joined, moment, plain, typed
from featstore.storage import Stat, frames, hashing

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["Gathered"]

_Found = tuple[str, str, int, int, int]  # content_sha256, locator, size, mtime_ns, inode


@dataclass(slots=True)
class _Part:
    """What one item is made of: a row, or one picture of a row that holds several."""

    place: int
    number: int | None
    content: _Found | ItemError


class Gathered:
    """Collects the items of a table, chunk by chunk.

    Args:
        columns: The part of each column.
        pictures: Where pictures are found; None under a text modality.
        marks: The table file's own size, time and inode.
        previous: The last scan's items, or None.

    Attributes:
        rows: Rows taken so far.
        items: Items made of them.
        paths: Whether a row names a file.
    """

    def __init__(self, columns: Columns, pictures: Pictures | None, marks: Stat, previous: pa.Table | None) -> None:
        self.rows = 0
        self.items = 0
        self.paths = False
        self._columns = columns
        self._pictures = pictures
        self._marks = (marks.mtime_ns, files.signed(marks.inode))
        self._known = _known_files(previous if pictures is not None else None)
        self._ids_at = _ids_at(previous) if columns.id is None else {}
        self._unreachable: list[str] = []
        self._seen: set[str] = set()
        self._group = next((n for n, target in columns.renamed.items() if target == "group"), None)
        self._groups_of: dict[str, set[object]] = {}
        self._bases: list[str] = []
        self._several = False
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
        if limit is None and ids is not None and not isinstance(times, list) and self._add_plain(chunk, ids, times):
            return
        groups = self._groups(chunk) if ids is None else None
        kept: list[int] = []
        rows: list[tuple[str, *_Found]] = []
        for part in self._parts(chunk):
            if limit is not None and self.items >= limit:
                break
            number, content = chunk.numbers[part.place], part.content
            base = ids[part.place] if ids is not None else None
            time = times[part.place] if isinstance(times, list) else None
            item_id = base if part.number is None or not base else f"{base}#{part.number}"
            if ids is not None and not item_id:
                if not part.number:
                    self._refuse(
                        None, number, ItemError("scan", "null_id", f"the column '{self._columns.id}' is empty.")
                    )
                continue
            if isinstance(content, ItemError):
                self._refuse(item_id, number, content)
                continue
            if isinstance(time, ItemError):
                self._refuse(item_id, number, time)
                continue
            name = item_id or self._own_name(content, part, groups)
            if name is None or name in self._seen:
                if ids is None and (name is None or groups is None):
                    self._twins += 1
                else:
                    self._refuse(name, number, ItemError("scan", "duplicate_id", "an earlier row has the same id."))
                continue
            self._seen.add(name)
            self.items += 1
            self._bases.append(base or name)
            kept.append(part.place)
            rows.append((name, *content))
        if isinstance(times, list):
            good = [None if isinstance(time, ItemError) else time for time in times]
            times = pa.array(good, pa.timestamp("us", "UTC"))
        columns = list(zip(*rows, strict=True)) or [()] * len(_schema())
        self._take(chunk, columns, times, pa.array(kept, pa.int64()))

    def _add_plain(self, chunk: Chunk, ids: Sequence[str | None], times: pa.Array[Any] | None) -> bool:
        """Takes a chunk of texts of which none is refused, column by column; a fraction of the time of row by row."""
        import pyarrow as pa

        if self._pictures is not None or not self._columns.alone:
            return False
        name = self._columns.content[0]
        if name not in chunk.columns:
            return False
        values, new = chunk.columns[name].to_pylist(), set(ids)
        if None in values or None in new or "" in new or len(new) < len(ids) or not self._seen.isdisjoint(new):
            return False
        contents = [hashing.as_bytes(str(value)) for value in values]
        self._seen.update(cast("set[str]", new))
        self.items += len(ids)
        self._bases += cast("list[str]", ids)
        columns = [
            ids,
            [hashing.of_bytes(content) for content in contents],
            chunk.locators,
            [len(content) for content in contents],
            *([mark] * len(ids) for mark in self._marks),
        ]
        self._take(chunk, columns, times, pa.array(range(len(ids)), pa.int64()))
        return True

    def _take(
        self, chunk: Chunk, columns: Sequence[Sequence[Any]], times: pa.Array[Any] | None, places: pa.Array[Any]
    ) -> None:
        """Keeps the items of a chunk, and the metadata of the rows that they are from."""
        import pyarrow as pa

        found = [pa.array(column, field.type) for column, field in zip(columns, _schema(), strict=True)]
        table = pa.Table.from_arrays(found, schema=_schema())
        if times is not None:
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
        columns = self._columns
        if self._several and self._group is None:
            table = table.append_column("group", pa.array(self._bases, pa.string()))
            columns = replace(columns, renamed={**columns.renamed, "\0": "group"})
        targets, renamings = metadata_names(dict.fromkeys(n for found in self._metadata for n in found), columns)
        for name, target in targets.items():
            pieces = [
                found.get(name, pa.nulls(part.num_rows))
                for found, part in zip(self._metadata, self._tables, strict=True)
            ]
            column = joined(pieces)
            table = table.append_column(target, typed(column) if infer else column)
        warnings = [*warnings, *renamings]
        if self._twins:
            what = "picture and group" if self._group is not None and self._pictures is not None else "content"
            warnings.append(
                f"{self._twins:,} rows repeat the {what} of an earlier row and are one item with it; "
                "name an id column to keep them apart"
            )
        return Scan(
            items=self._shortened(table),
            rejects=tuple(self._rejects),
            warnings=tuple(warnings),
            unreachable=tuple(self._unreachable),
        )

    def _shortened(self, table: pa.Table) -> pa.Table:
        """The items, those whose picture is in one group only named by its path alone.

        Known at the end, so that an id does not depend on the order of the rows.
        """
        import pyarrow as pa

        if not self._groups_of:
            return table
        shared = {_in_group(n, g) for n, groups in self._groups_of.items() if len(groups) > 1 for g in groups}
        short = {
            _in_group(n, next(iter(groups))): n
            for n, groups in self._groups_of.items()
            if len(groups) == 1 and n not in shared
        }
        names = [short.get(name, name) for name in frames.strings(table, "item_id")]
        return table.set_column(0, table.schema.field(0), pa.array(names, pa.string()))

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

    def _groups(self, chunk: Chunk) -> list[Any] | None:
        if self._group is None or self._pictures is None:
            return None
        missing = [None] * len(chunk.numbers)
        return plain(chunk.columns[self._group]).to_pylist() if self._group in chunk.columns else missing

    def _own_name(self, content: _Found, part: _Part, groups: list[Any] | None) -> str | None:
        """The id of an item that has none: its content's hash; of a picture in a group its path and the group.

        None where the picture is in the group already.
        """
        if groups is None:
            return content[0]
        group = groups[part.place]
        name = content[1].removeprefix("file:") if content[1].startswith("file:") else content[0]
        others = self._groups_of.setdefault(name, set())
        if group in others:
            return None
        others.add(group)
        return _in_group(name, group)

    def _parts(self, chunk: Chunk) -> list[_Part]:
        missing = [None] * len(chunk.numbers)
        values = [
            chunk.columns[name].to_pylist() if name in chunk.columns else missing for name in self._columns.content
        ]
        if self._pictures is not None:
            return self._images(self._pictures, values[0], chunk)
        found = []
        compose, marks = self._columns.compose, self._marks
        for place, (locator, row) in enumerate(zip(chunk.locators, zip(*values, strict=True), strict=True)):
            text = compose(row)
            if text is None:
                found.append(_Part(place, None, ItemError("read", "null_text", "the row holds no text.")))
            else:
                data = hashing.as_bytes(text)
                found.append(_Part(place, None, (hashing.of_bytes(data), locator, len(data), *marks)))
        return found

    def _images(self, pictures: Pictures, values: Sequence[object], chunk: Chunk) -> list[_Part]:
        found: list[_Part] = []
        new: dict[int, bytes] = {}
        for place, (locator, value) in enumerate(zip(chunk.locators, values, strict=True)):
            several = pictures.several(value)
            if several is None:
                cells: list[tuple[int | None, object, str]] = [(None, value, locator)]
            else:
                self._check_named()
                cells = [(number, one, f"{locator}#{number}") for number, one in enumerate(several or [None])]
            for number, cell, where in cells:
                content, path = self._image(pictures, cell, where)
                if path is not None:
                    new[len(found)] = path
                found.append(_Part(place, number, content))
        for place, result in zip(new, files.hash_files(list(new.values())), strict=True):
            part = found[place]
            if isinstance(result, ItemError):
                if not isinstance(part.content, ItemError):
                    self._unreachable += self._ids_at.get(part.content[1], [])
                part.content = result
            elif not isinstance(part.content, ItemError):
                part.content = (result.sha256, part.content[1], result.size, result.mtime_ns, result.inode)
        return found

    def _image(self, pictures: Pictures, value: object, locator: str) -> tuple[_Found | ItemError, bytes | None]:
        """A picture, and the path of the file that must be hashed for it."""
        content = pictures.content(value)
        if content is not None:
            return (hashing.of_bytes(content), locator, len(content), *self._marks), None
        located = None
        try:
            located = pictures.locate(value)
            if located is None:
                return ItemError("read", "null_image", "the row holds no picture and no path."), None
            self.paths = True
            path = pictures.path(located)
            stats = os.stat(path)
        except ItemError as error:
            return error, None
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            self._unreachable += self._ids_at.get(f"file:{located}", [])
            return ItemError("read", "unreadable", f"{value!r:.200} cannot be read: {reason}."), None
        marks = (stats.st_size, stats.st_mtime_ns, files.signed(stats.st_ino))
        digest = self._known.get((f"file:{located}", *marks))
        return (digest or "", f"file:{located}", *marks), path if digest is None else None

    def _check_named(self) -> None:
        self._several = True
        if self._columns.id is None and self._group is None:
            raise SettingsError(
                f"the column '{self._columns.content[0]}' holds several pictures a row, which need a name.",
                hint="Name the rows' ids with --id-column, or what the pictures belong to with --group-column.",
            )

    def _refuse(self, item_id: str | None, number: int, error: ItemError) -> None:
        message = f"row {number + 1}: {error.message}"
        name = item_id or f"row {number + 1}"
        self._rejects.append(
            Reject(item_id=name, content_sha256=None, stage=error.stage, code=error.code, message=message)
        )


def _in_group(name: str, group: object) -> str:
    return name if group is None else f"{name}#{group}"


def _ids_at(previous: pa.Table | None) -> dict[str, list[str]]:
    """The ids of the last scan's items by the file that each was read from."""
    found: dict[str, list[str]] = {}
    if previous is not None:
        for where, item in zip(frames.strings(previous, "locator"), frames.strings(previous, "item_id"), strict=True):
            if where.startswith("file:"):
                found.setdefault(where, []).append(item)
    return found


def _schema() -> pa.Schema:
    import pyarrow as pa

    texts: list[pa.Field[Any]] = [pa.field(name, pa.string()) for name in ("item_id", "content_sha256", "locator")]
    return pa.schema([*texts, *(pa.field(name, pa.int64()) for name in ("size", "mtime_ns", "inode"))])


def _known_files(previous: pa.Table | None) -> dict[tuple[str, int, int, int], str]:
    if previous is None:
        return {}
    columns = (previous[name].to_pylist() for name in ("locator", "size", "mtime_ns", "inode", "content_sha256"))
    return {row[:4]: row[4] for row in zip(*columns, strict=True) if row[0].startswith("file:")}
