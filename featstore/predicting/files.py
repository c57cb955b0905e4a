"""Predictions as a file: Parquet, CSV or JSON lines, written block by block.

CSV is UTF-8 with a header; an empty field is null and a list is JSON. Cells are written as they stand: a text that
begins with ``=`` is a formula to a spreadsheet. In JSON lines times are ISO 8601 in UTC, bytes hexadecimal.
"""

from __future__ import annotations

import io
import json
import math
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Literal, cast, get_args

import pyarrow as pa

from featstore.errors import UsageError
from featstore.storage import durable

if TYPE_CHECKING:
    from featstore.layout import Layout

__all__ = ["Format", "Write", "format_of", "place", "writing"]

Format = Literal["parquet", "csv", "jsonl"]
Write = Callable[[pa.Table], None]


def format_of(output: Path | None, given: str | None) -> Format | None:
    """The format to write; None where neither the file's name nor ``--format`` asks for one.

    Raises:
        UsageError: There is no such format, or the name does not tell it.
    """
    known = get_args(Format)
    wanted = given if given is not None or output is None else output.suffix.removeprefix(".").lower()
    if wanted is None or wanted in known:
        return cast("Format | None", wanted)
    if given is not None:
        raise UsageError(f"there is no format '{given}'; there are {', '.join(known)}.")
    raise UsageError(
        f"'{output}' does not say which format to write.",
        hint=f"Name the file .parquet, .csv or .jsonl, or add --format {'|'.join(known)}.",
    )


def place(output: str | os.PathLike[str], layout: Layout) -> Path:
    """Where a file will be written.

    Raises:
        UsageError: It is a folder, or lies within the store.
    """
    target = Path(os.path.abspath(os.path.expanduser(output)))
    if target.is_dir():
        raise UsageError(f"{target} is a folder; name a file.")
    if Path(os.path.realpath(target)).is_relative_to(os.path.realpath(layout.storage.root)):
        raise UsageError(f"{target} lies within the store; write the file somewhere else.")
    return target


@contextmanager
def writing(target: Path | BinaryIO, kind: Format, schema: pa.Schema, origin: Mapping[str, object]) -> Iterator[Write]:
    """What takes tables of a schema, one after the other; a file appears when the block ends without an error.

    Args:
        target: The file, replaced if it is there; or a stream, which cannot be Parquet.
        kind: The format.
        schema: The columns.
        origin: Which head made them; Parquet has it under the key ``featstore``.

    Raises:
        UsageError: A value cannot be written so.
        StorageError: The disk refused.
    """
    opened = durable.replacing(target) if isinstance(target, Path) else _as_it_is(target)
    with opened as file:
        try:
            if kind == "parquet":
                with _parquet(file, schema, origin) as write:
                    yield write
            else:
                yield _csv(file, schema) if kind == "csv" else lambda rows: _jsonl(file, rows)
        except pa.ArrowException as error:
            raise UsageError(f"the predictions cannot be written as {kind}: {error}.") from error


@contextmanager
def _as_it_is(stream: BinaryIO) -> Iterator[BinaryIO]:
    yield stream


@contextmanager
def _parquet(file: BinaryIO, schema: pa.Schema, origin: Mapping[str, object]) -> Iterator[Write]:
    import pyarrow.parquet as pq

    noted = schema.with_metadata({b"featstore": json.dumps(dict(origin)).encode()})
    with pq.ParquetWriter(file, noted, compression="zstd", write_page_checksum=True) as parquet:
        yield lambda rows: parquet.write_table(rows.cast(noted))


def _csv(file: BinaryIO, schema: pa.Schema) -> Write:
    import pyarrow.csv as csv

    def write(rows: pa.Table, *, header: bool = False) -> None:
        block = io.BytesIO()
        options = csv.WriteOptions(include_header=header, quoting_style="needed")
        csv.write_csv(_flat(rows), block, options)
        file.write(block.getbuffer())

    write(schema.empty_table(), header=True)
    return write


def _flat(rows: pa.Table) -> pa.Table:
    return pa.table([_cell(rows[name]) for name in rows.column_names], names=rows.column_names)


def _cell(column: pa.ChunkedArray[Any]) -> pa.ChunkedArray[Any] | pa.Array[Any]:
    if pa.types.is_list(column.type):
        values = column.to_pylist()
        return pa.array([None if v is None else json.dumps(v, ensure_ascii=False) for v in values], pa.string())
    if pa.types.is_binary(column.type):
        return pa.array([None if v is None else v.hex() for v in column.to_pylist()], pa.string())
    return column.cast(pa.string()) if pa.types.is_decimal(column.type) else column


def _jsonl(file: BinaryIO, rows: pa.Table) -> None:
    for batch in rows.to_batches(max_chunksize=4096):
        lines = (json.dumps({name: _plain(v) for name, v in row.items()}, ensure_ascii=False, allow_nan=False)
                 for row in batch.to_pylist())  # fmt: skip
        file.write("".join(f"{line}\n" for line in lines).encode())


def _plain(value: Any) -> Any:
    if isinstance(value, list):
        return [_plain(one) for one in value]
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat().replace("+00:00", "Z") if value.tzinfo else value.isoformat()
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, str | int) else str(value)
