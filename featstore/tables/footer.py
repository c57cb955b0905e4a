"""A data file's footer: where its columns lie. Read by itself, and compared with its digest in the log.

Page checksums do not cover the footer, and a flipped bit in it moves whole columns. So the digest of
the footer is part of each commit, and checked whenever a file is opened.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from featstore.errors import IntegrityError, StorageError
from featstore.storage import Stat, hashing
from featstore.tables.columns import VECTOR

__all__ = ["RESTORE", "DataFile", "VectorChunk", "damaged", "opening", "pread"]

RESTORE = "Restore the file from a backup; `featstore verify` lists all that is damaged."

_MAGIC = b"PAR1"
_TAIL = 64 * 1024


@dataclass(frozen=True, slots=True)
class VectorChunk:
    """Where the vectors of one row group lie, and whether they are laid out to be read directly."""

    group: int
    rows: int
    first_row: int
    offset: int
    bytes: int
    values: int
    max_definition: int
    direct: bool


@dataclass(frozen=True, slots=True)
class DataFile:
    """An open data file whose footer has been read and checked.

    ``ours`` says that featstore wrote the file: then nothing but its own layout, with checksums, is accepted.
    """

    where: Path
    descriptor: int
    stat: Stat
    metadata: pq.FileMetaData
    digest: str
    ours: bool
    chunks: tuple[VectorChunk, ...]

    @property
    def rows(self) -> int:
        return int(self.metadata.num_rows)

    def only(self, group: int) -> DataFile:
        """The same file, as if it had this row group only."""
        return replace(self, chunks=(replace(self.chunks[group], first_row=0),))

    @property
    def direct(self) -> bool:
        return all(chunk.direct for chunk in self.chunks)


def damaged(where: Path, what: str) -> IntegrityError:
    """The error for a data file that is not what was written."""
    return IntegrityError(f"{where} is damaged: {what}.", hint=RESTORE, context={"file": str(where)})


@contextmanager
def opening(
    where: Path, *, size: int | None = None, rows: int | None = None, digest: str | None = None, ours: bool = False
) -> Iterator[DataFile]:
    """Opens a data file and checks its size, footer and row count.

    Args:
        where: The file.
        size: The bytes that it must have.
        rows: The rows that it must have.
        digest: The SHA-256 that its footer must have.
        ours: Whether featstore wrote it; a known digest says so too.

    Raises:
        IntegrityError: It is missing, or not what was written.
        StorageError: It cannot be read.
    """
    try:
        descriptor = os.open(where, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError as error:
        raise IntegrityError(
            f"{where} is missing; the table's log names it.", hint=RESTORE, context={"file": str(where)}
        ) from error
    except OSError as error:
        raise StorageError(f"cannot read {where}: {error.strerror or error}.") from error
    try:
        found = os.fstat(descriptor)
        if size is not None and found.st_size != size:
            raise damaged(where, f"it has {found.st_size:,} bytes, {size:,} were written")
        footer, tail = _footer(where, descriptor, found.st_size)
        seen = hashing.of_bytes(footer)
        if digest is not None and seen != digest:
            raise damaged(where, "its footer is not the one that was committed")
        try:
            metadata = pq.read_metadata(pa.BufferReader(tail))
            chunks = tuple(_chunks(metadata))
        except (pa.ArrowException, OSError, ValueError, LookupError) as error:
            raise damaged(where, f"its footer cannot be read ({error})") from error
        if rows is not None and metadata.num_rows != rows:
            raise damaged(where, f"it has {metadata.num_rows:,} rows, {rows:,} were committed")
        stat = Stat(found.st_size, found.st_mtime_ns, found.st_ino, found.st_ctime_ns)
        yield DataFile(where, descriptor, stat, metadata, seen, ours or digest is not None, chunks)
    finally:
        os.close(descriptor)


def pread(where: Path, descriptor: int, length: int, offset: int) -> bytes:
    """Reads exactly so many bytes.

    Raises:
        IntegrityError: The file ends before.
        StorageError: It cannot be read.
    """
    try:
        data = os.pread(descriptor, length, offset)
        while len(data) < length:
            more = os.pread(descriptor, length - len(data), offset + len(data))
            if not more:
                raise damaged(where, f"it ends at byte {offset + len(data):,}")
            data += more
    except OSError as error:
        raise StorageError(f"cannot read {where}: {error.strerror or error}.") from error
    return data


def _footer(where: Path, descriptor: int, size: int) -> tuple[bytes, bytes]:
    if size < 12:
        raise damaged(where, f"it has only {size} bytes")
    tail = pread(where, descriptor, min(size, _TAIL), size - min(size, _TAIL))
    length = int.from_bytes(tail[-8:-4], "little") + 8
    if tail[-4:] != _MAGIC or length > size - 4:
        raise damaged(where, "it does not end as a Parquet file")
    if length > len(tail):
        tail = pread(where, descriptor, length, size - length)
    return tail[-length:], tail[-length:]


def _chunks(metadata: pq.FileMetaData) -> Iterator[VectorChunk]:
    leaves = [i for i in range(metadata.num_columns) if metadata.schema.column(i).path.split(".")[0] == VECTOR]
    if len(leaves) != 1:
        raise ValueError(f"it has {len(leaves)} columns '{VECTOR}'")
    column = metadata.schema.column(leaves[0])
    if column.physical_type != "FLOAT" or column.max_repetition_level != 1:
        raise ValueError(f"'{VECTOR}' is not a list of float32 but {column.physical_type}")
    first = 0
    for index in range(metadata.num_row_groups):
        group = metadata.row_group(index)
        chunk = group.column(leaves[0])
        direct = (
            chunk.compression == "UNCOMPRESSED"
            and not chunk.has_dictionary_page
            and set(chunk.encodings) <= {"PLAIN", "RLE"}
            and chunk.total_compressed_size == chunk.total_uncompressed_size
        )
        yield VectorChunk(
            group=index,
            rows=group.num_rows,
            first_row=first,
            offset=chunk.data_page_offset,
            bytes=chunk.total_compressed_size,
            values=chunk.num_values,
            max_definition=column.max_definition_level,
            direct=direct,
        )
        first += group.num_rows
    if first != metadata.num_rows:
        raise ValueError(f"its row groups hold {first} rows, it says {metadata.num_rows}")
