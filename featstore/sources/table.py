"""A table whose rows are items: CSV, TSV, JSONL, Parquet, Arrow."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from featstore.errors import ItemError, SettingsError, StorageError, UsageError
from featstore.records import Modality
from featstore.sources.columnar import Columnar
from featstore.sources.columns import assign
from featstore.sources.delimited import Delimited
from featstore.sources.gather import Gathered
from featstore.sources.items import Progress, Reader, Scan, SourceOptions, no_progress
from featstore.sources.jsonlines import JsonLines
from featstore.sources.pictures import Pictures
from featstore.sources.remembering import recall, remember
from featstore.sources.roots import given_root
from featstore.sources.rows import Rows
from featstore.storage import Stat, Storage, hashing

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["TableSource", "open_table", "touched"]

_TEXTS: dict[str, Callable[[Path], Rows]] = {
    ".csv": lambda path: Delimited(path, ","),
    ".tsv": lambda path: Delimited(path, "\t"),
    ".jsonl": JsonLines,
    ".ndjson": JsonLines,
}
_PARQUET = (".parquet", ".pq")
_ARROW = (".arrow", ".feather", ".ipc")


def open_table(path: Path, modality: Modality, options: SourceOptions) -> TableSource:
    """Opens a table by its suffix, or by its first bytes.

    Raises:
        UsageError: It is no table that featstore reads, or is damaged.
        SettingsError: An option names a column that is not there.
    """
    return TableSource(path, _rows(path), modality, options)


class TableSource:
    """Rows of a table file.

    ``item_id`` is the id column, as a string, or else the content's hash; then rows of equal
    content are one item, the first. Under a group column pictures without an id column are called
    by their path, so that two groups with equal pictures keep both. A cell with a list of pictures
    becomes the items ``ID#0``, ``ID#1`` …, whose ``group`` is ``ID`` unless a column is named.

    A row's time and inode are those of the file that holds its content: the table's own, or the
    picture's; its size is the content's.
    """

    def __init__(self, path: Path, rows: Rows, modality: Modality, options: SourceOptions) -> None:
        self.uri = str(path)
        self.kind = rows.kind
        self.modality = modality
        self._path = path
        self._rows = rows
        self._columns = assign(rows.names(), rows.strings(), modality, options, path.name)
        self._pictures = _pictures(path, options) if modality == "image" else None
        for name in rows.binaries() if modality == "text" else ():
            if name in self._columns.content:
                raise SettingsError(f"the column '{name}' of {path.name} holds bytes, not text.")

    def scan(
        self,
        *,
        previous: pa.Table | None = None,
        rehash: bool = False,
        limit: int | None = None,
        progress: Progress = no_progress,
    ) -> Scan:
        """Reads the table and hashes each row's content; a table whose file is unchanged is not read."""
        marks = Storage(self._path.parent).stat(self._path.name)
        notes = recall(previous)
        if notes is not None and previous is not None and not rehash and notes["marks"] == _as_list(marks):
            return Scan(items=previous.slice(0, limit), warnings=tuple(notes["warnings"]))
        dropped = [name for name in self._rows.binaries() if name not in self._columns.content]
        found = Gathered(self._columns, self._pictures, marks, None if rehash else previous)
        for chunk in self._rows.chunks(dropped):
            found.add(chunk, limit)
            progress("read", found.rows, None)
            if limit is not None and found.items >= limit:
                break
        scan = found.scan(
            [f"the column '{name}' holds bytes and is not kept as metadata" for name in dropped],
            infer=self.kind == "csv",
        )
        if limit is not None or scan.rejects or found.paths:
            return scan  # a row that was refused must be refused again, and a file may change beside the table
        notes = {"marks": _as_list(marks), "warnings": list(scan.warnings)}
        return replace(scan, items=remember(scan.items, notes))

    def reader(self, items: pa.Table) -> Reader:
        """Opens the contents of some rows."""
        return _RowReader(self._rows, self._columns.content, self._columns.compose, self._pictures, items)


class _RowReader:
    """Reads single rows again; what comes out must have the planned hash."""

    def __init__(
        self,
        rows: Rows,
        columns: Sequence[str],
        compose: Callable[[Sequence[object]], str | None],
        pictures: Pictures | None,
        items: pa.Table,
    ) -> None:
        self._rows = rows
        self._columns = columns
        self._compose = compose
        self._locators = [str(locator) for locator in items["locator"].to_pylist()]
        self._hashes = items["content_sha256"].to_pylist()
        self._text = pictures is None
        self._files = pictures.reader(items) if pictures else None

    def read(self, row: int) -> bytes | str:
        """Content of the row-th item."""
        locator = self._locators[row]
        if self._files is not None and locator.startswith("file:"):
            return self._files.read(row)
        try:
            locator, several, number = locator.partition("#")
            values = self._rows.fetch(locator, self._columns)
            if several:
                values = [(Pictures.several(values[0]) or [])[int(number)]]
        except (ValueError, IndexError, OSError, StopIteration, KeyError, UsageError, ArithmeticError) as error:
            raise ItemError("read", "changed_during_run", f"the table's row cannot be found again: {error}.") from error
        content: Any = self._compose(values) if self._text else Pictures.content(values[0])
        digest = hashing.of_text(content) if isinstance(content, str) else hashing.of_bytes(content or b"")
        if content is None or digest != self._hashes[row]:
            raise ItemError("read", "changed_during_run", "the row's content changed after it was listed.")
        return content  # type: ignore[no-any-return]


def touched(uri: str, previous: pa.Table) -> bool:
    """Whether a table's file is not the one that the last scan has read; nothing of it is read for that.

    Args:
        uri: The source's.
        previous: Columns of that scan's items, at least one.

    Returns:
        False also for sources that are no table files, and where their items are files of their own.
    """
    notes, path = recall(previous), Path(uri)
    if notes is None or "marks" not in notes or not path.is_file():
        return False
    return bool(notes["marks"] != _as_list(Storage(path.parent).stat(path.name)))


def _pictures(path: Path, options: SourceOptions) -> Pictures:
    if options.source_root is None:
        return Pictures(path.parent, "the table's folder")
    return Pictures(given_root(options.source_root), f"--source-root {options.source_root}")


def _as_list(marks: Stat) -> list[int]:
    return [marks.size, marks.mtime_ns, marks.inode]


def _rows(path: Path) -> Rows:
    suffix = path.suffix.lower()
    if suffix in _TEXTS:
        return _TEXTS[suffix](path)
    try:
        with open(path, "rb") as file:
            magic = file.read(6)
    except OSError as error:
        raise StorageError(f"cannot read {path}: {error.strerror or error}.") from error
    if magic.startswith(b"PAR1") or suffix in _PARQUET:
        return Columnar(path, "parquet")
    if magic == b"ARROW1" or suffix in _ARROW:
        return Columnar(path, "arrow")
    raise UsageError(
        f"{path.name} is not a table featstore reads: its suffix is '{path.suffix}' and it begins with {magic!r}.",
        hint=f"Use a folder, or a table ending in {', '.join((*_TEXTS, *_PARQUET, *_ARROW))}.",
    )
