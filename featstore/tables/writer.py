"""Writes the Parquet files of a table so that they read back as one matrix, and never silently wrong.

Vectors are PLAIN, uncompressed and without a dictionary: their pages are the matrix itself. Every page
carries a checksum, and page borders fall between rows. Equal input gives equal bytes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO, cast

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from featstore.errors import UsageError
from featstore.storage import Storage
from featstore.tables.columns import VECTOR, full_schema, vector_type
from featstore.tables.parts import PartFile

__all__ = ["ROW_GROUP_BYTES", "PartWriter", "check_vectors", "vector_column", "writing"]

ROW_GROUP_BYTES = 64 * 1024 * 1024
_BATCH_VALUES = 4096


@contextmanager
def writing(storage: Storage, folder: str, path: str, rows: pa.Schema, dim: int) -> Iterator[PartWriter]:
    """Opens a new data file; it appears, durably, when the block ends without an error.

    Args:
        storage: The store.
        folder: The table's folder.
        path: The file, relative to the folder.
        rows: The schema of the rows, without the vectors.
        dim: The length of each vector.
    """
    with storage.writer(f"{folder}/{path}") as file:
        hashed = _Hashed(file)
        with _parquet(hashed, full_schema(rows), dim) as parquet:
            writer = PartWriter(path, parquet, dim, hashed)
            yield writer


class PartWriter:
    """A data file that is being written."""

    def __init__(self, path: str, parquet: pq.ParquetWriter, dim: int, hashed: _Hashed) -> None:
        self.path = path
        self.rows = 0
        self._parquet = parquet
        self._dim = dim
        self._hashed = hashed

    def write(self, rows: pa.Table, vectors: NDArray[np.float32]) -> None:
        """Appends rows; each call starts a new row group.

        Args:
            rows: As the schema that the file was opened with.
            vectors: (n, dim) float32, finite, in the rows' order.

        Raises:
            UsageError: The vectors have another shape or type, or hold NaN or infinity.
        """
        check_vectors(vectors, len(rows), self._dim)
        if not len(rows):
            return
        table = rows.add_column(2, pa.field(VECTOR, vector_type()), vector_column(vectors))
        per_row = 4 * self._dim + rows.nbytes // len(rows) + 1
        self._parquet.write_table(table, row_group_size=max(1, ROW_GROUP_BYTES // per_row))
        self.rows += len(rows)

    def part(self) -> PartFile:
        """What was written; to be asked for after the block."""
        return PartFile(
            path=self.path, rows=self.rows, bytes=self._hashed.bytes, sha256=self._hashed.sha256.hexdigest()
        )


def check_vectors(vectors: NDArray[np.float32], rows: int, dim: int) -> None:
    """Refuses vectors that must not be stored.

    Raises:
        UsageError: Not float32, not (rows, dim), or not finite.
    """
    if vectors.dtype != np.float32 or vectors.shape != (rows, dim):
        raise UsageError(
            f"the vectors are {vectors.dtype} {vectors.shape}; the table takes float32 {(rows, dim)}.",
            hint="Vectors of another model go to that model's own table.",
        )
    if not np.isfinite(vectors).all():
        bad = np.flatnonzero(~np.isfinite(vectors).all(axis=1))
        raise UsageError(f"{len(bad)} of {rows} vectors hold NaN or infinity, the first in row {bad[0]}.")


def vector_column(vectors: NDArray[np.float32]) -> pa.ChunkedArray[Any]:
    """A matrix (n, dim) as a list column over the same memory."""
    rows, dim = vectors.shape
    vectors = np.ascontiguousarray(vectors)
    chunk = max(1, (2**31 - 1) // max(dim, 1))  # list offsets are 32 bits wide
    pieces = [vectors[start : start + chunk] for start in range(0, rows, chunk)]
    arrays = [
        pa.ListArray.from_arrays(
            pa.array(np.arange(len(piece) + 1, dtype=np.int32) * np.int32(dim)),
            pa.array(piece.reshape(-1)),
            type=vector_type(),
        )
        for piece in pieces
    ]
    column: pa.ChunkedArray[Any] = pa.chunked_array(arrays, vector_type())  # type: ignore[call-overload]
    return column


class _Hashed:
    """A file that takes the SHA-256 of what passes through it."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.sha256 = hashlib.sha256()
        self.bytes = 0
        self.closed = False

    def write(self, data: bytes | memoryview) -> int:
        view = memoryview(data)
        self._file.write(view)
        self.sha256.update(view)
        self.bytes += view.nbytes
        return view.nbytes

    def tell(self) -> int:
        return self.bytes

    def flush(self) -> None:
        self._file.flush()

    def close(self) -> None:
        self.closed = True


def _parquet(file: _Hashed, schema: pa.Schema, dim: int) -> pq.ParquetWriter:
    vector = f"{VECTOR}.list.element"
    others = [name for name in schema.names if name != VECTOR]
    options: dict[str, Any] = {
        "version": "2.6",
        "compression": {vector: "none", **dict.fromkeys(others, "zstd")},
        # ids and hashes hardly repeat; booleans cannot have a dictionary
        "use_dictionary": [
            name
            for name in others
            if name not in ("item_id", "content_sha256") and not pa.types.is_boolean(schema.field(name).type)
        ],
        "column_encoding": {vector: "PLAIN"},
        # min and max of single vector values help nobody, and an item's text may be long
        "write_statistics": [name for name in others if name in ("item_id", "event_ts", "created_ts")],
        # whole rows per batch make every page begin with a row
        "write_batch_size": dim * max(1, _BATCH_VALUES // dim),
        "write_page_checksum": True,
        "store_schema": False,
    }
    return pq.ParquetWriter(cast("BinaryIO", file), schema, **options)
