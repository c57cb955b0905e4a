"""The hits as a file: Parquet, CSV or JSON; it appears when it is whole.

CSV is UTF-8 with a header; an empty field is null. Cells are written as they stand: a text that begins with ``=`` is a
formula to a spreadsheet.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from featstore.search.result import plain_rows
from featstore.storage import durable

__all__ = ["SUFFIXES", "write"]


def write(found: pa.Table, target: Path, origin: dict[str, object]) -> None:
    """Writes hits in the format of the file's suffix.

    Args:
        found: The hits.
        target: The file; replaced if it is there.
        origin: Which table and version was searched; Parquet has it under the key ``featstore``.

    Raises:
        StorageError: The disk refused.
    """
    with durable.replacing(target) as file:
        _FORMATS[target.suffix.lower()](found, file, origin)


def _parquet(found: pa.Table, file: BinaryIO, origin: dict[str, object]) -> None:
    metadata = {b"featstore": json.dumps(origin, ensure_ascii=False).encode()}
    pq.write_table(found.replace_schema_metadata(metadata), file, compression="zstd", write_page_checksum=True)


def _csv(found: pa.Table, file: BinaryIO, origin: dict[str, object]) -> None:
    import polars as pl

    frame = pl.from_arrow(found)
    assert isinstance(frame, pl.DataFrame)
    plain = frame.with_columns(
        pl.col(pl.Binary).bin.encode("hex"), pl.col(pl.Datetime).dt.strftime("%Y-%m-%dT%H:%M:%S%.6fZ")
    )
    plain.write_csv(file)


def _json(found: pa.Table, file: BinaryIO, origin: dict[str, object]) -> None:
    file.write(json.dumps(list(plain_rows(found)), indent=2, ensure_ascii=False, allow_nan=False).encode())
    file.write(b"\n")


_FORMATS: dict[str, Callable[[pa.Table, BinaryIO, dict[str, object]], None]] = {
    ".parquet": _parquet,
    ".csv": _csv,
    ".json": _json,
}

SUFFIXES = tuple(_FORMATS)
"""What the name of such a file ends in."""
