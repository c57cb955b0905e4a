"""Table files made of columns: Parquet and Arrow IPC (files, Feather version 2, and streams)."""

from __future__ import annotations

import threading
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING

from featstore.errors import UsageError
from featstore.sources.rows import Chunk

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["Columnar"]

_CHUNK_ROWS = 1024
_KEPT_GROUPS = 2


class Columnar:
    """A Parquet file (``kind="parquet"``) or an Arrow IPC file or stream (``kind="arrow"``)."""

    def __init__(self, path: Path, kind: str) -> None:
        self._path = path
        self.kind = kind
        self._lock = threading.Lock()
        self._cache: OrderedDict[tuple[int, tuple[str, ...]], pa.Table] = OrderedDict()
        self._ends: list[int] | None = None
        self._walk: tuple[int, Iterator[pa.RecordBatch]] | None = None
        self._schema = self._read_schema()
        if len(set(self._schema.names)) < len(self._schema.names):
            raise UsageError(f"{path} has two columns of one name.", hint="Rename one of them.")

    def names(self) -> list[str]:
        return list(self._schema.names)

    def strings(self) -> list[str]:
        return [field.name for field in self._schema if _is_text(field.type)]

    def binaries(self) -> list[str]:
        return [field.name for field in self._schema if _has_bytes(field.type)]

    def chunks(self, skip: Sequence[str]) -> Iterator[Chunk]:
        names = [name for name in self._schema.names if name not in skip]
        first = 0
        with self._wrapped():
            for batch in self._batches(names):
                numbers = range(first, first + batch.num_rows)
                columns = {name: batch.column(name) for name in names}
                yield Chunk(numbers, [str(number) for number in numbers], columns)
                first += batch.num_rows

    def fetch(self, locator: str, columns: Sequence[str]) -> list[object]:
        row = int(locator)
        with self._lock, self._wrapped():
            ends = self._group_ends()
            group = bisect_right(ends, row)
            if group == len(ends):
                raise ValueError(f"row {row} is not there any more")
            table = self._group(group, tuple(columns))
        at = row - (ends[group - 1] if group else 0)
        return [table.column(name)[at].as_py() for name in columns]

    def _group(self, group: int, columns: tuple[str, ...]) -> pa.Table:
        key = (group, columns)
        if key not in self._cache:
            while len(self._cache) >= _KEPT_GROUPS:
                self._cache.popitem(last=False)
            self._cache[key] = self._load(group, list(columns))
        self._cache.move_to_end(key)
        return self._cache[key]

    def _read_schema(self) -> pa.Schema:
        import pyarrow.parquet as pq

        with self._wrapped():
            if self.kind == "parquet":
                return pq.read_schema(self._path)
            with self._arrow() as reader:
                return reader.schema

    def _batches(self, names: list[str]) -> Iterator[pa.RecordBatch]:
        import pyarrow.parquet as pq

        if self.kind == "parquet":
            with pq.ParquetFile(self._path) as file:
                yield from file.iter_batches(batch_size=_CHUNK_ROWS, columns=names)
            return
        for whole in self._arrow_batches():
            narrow = whole.select(names)
            for start in range(0, narrow.num_rows, _CHUNK_ROWS):
                yield narrow.slice(start, _CHUNK_ROWS)

    def _group_ends(self) -> list[int]:
        """After which row each row group or record batch ends."""
        import pyarrow.parquet as pq

        if self._ends is None:
            if self.kind == "parquet":
                found = pq.read_metadata(self._path)
                sizes = [found.row_group(group).num_rows for group in range(found.num_row_groups)]
            else:
                sizes = [batch.num_rows for batch in self._arrow_batches()]
            self._ends = list(accumulate(sizes))
        return self._ends

    def _load(self, group: int, columns: list[str]) -> pa.Table:
        import pyarrow as pa
        import pyarrow.parquet as pq

        if self.kind == "parquet":
            with pq.ParquetFile(self._path) as file:
                return file.read_row_group(group, columns=columns, use_threads=False)
        # A stream has no index: go on from where the last group was found.
        if self._walk is None or self._walk[0] > group:
            self._walk = (0, self._arrow_batches())
        number, batches = self._walk
        for batch in batches:
            number += 1
            if number > group:
                self._walk = (number, batches)
                return pa.Table.from_batches([batch.select(columns)])
        raise ValueError(f"record batch {group} is not there any more")

    def _arrow_batches(self) -> Iterator[pa.RecordBatch]:
        import pyarrow as pa

        with self._arrow() as reader:
            if isinstance(reader, pa.ipc.RecordBatchFileReader):
                for number in range(reader.num_record_batches):
                    yield reader.get_batch(number)
            else:
                yield from reader

    @contextmanager
    def _arrow(self) -> Iterator[pa.ipc.RecordBatchFileReader | pa.ipc.RecordBatchStreamReader]:
        import pyarrow as pa

        # Not a memory map: a file cut short meanwhile would end the process with a bus error.
        with pa.OSFile(str(self._path), "rb") as file:
            is_file = file.read(6) == b"ARROW1"
            file.seek(0)
            with pa.ipc.open_file(file) if is_file else pa.ipc.open_stream(file) as reader:
                yield reader

    @contextmanager
    def _wrapped(self) -> Iterator[None]:
        import pyarrow as pa

        try:
            yield
        except (pa.ArrowException, OSError) as error:
            text = " ".join(str(error).split())[:300]
            raise UsageError(
                f"{self._path} cannot be read as {'Parquet' if self.kind == 'parquet' else 'Arrow IPC'}: {text}",
                hint="Is the file complete? Was it copied in full?",
            ) from error


def _is_text(kind: pa.DataType) -> bool:
    import pyarrow as pa

    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)


def _has_bytes(kind: pa.DataType) -> bool:
    import pyarrow as pa

    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        return _has_bytes(kind.value_type)
    if pa.types.is_struct(kind):
        return any(_has_bytes(kind.field(number).type) for number in range(kind.num_fields))
    return (
        pa.types.is_binary(kind)
        or pa.types.is_large_binary(kind)
        or pa.types.is_fixed_size_binary(kind)
        or pa.types.is_binary_view(kind)
    )
