"""Query vectors from a file: ``.npy``, or Parquet as ``featstore export`` writes it."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from featstore.errors import NotFoundError, StorageError, UsageError
from featstore.search.queries import Query, of_vectors
from featstore.tables.columns import VECTOR

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Origin", "read"]


class Origin:
    """Which space a file says that its vectors are of; None where it says nothing.

    Attributes:
        space_id: The space's name.
        digest: What the name stands for: equal digests are one space.
    """

    def __init__(self, space_id: str | None = None, digest: str | None = None) -> None:
        self.space_id = space_id
        self.digest = digest


def read(path: str | os.PathLike[str]) -> tuple[list[Query], Origin]:
    """Reads vectors.

    Args:
        path: ``.npy`` with (d,) or (q, d) numbers; or Parquet with a column of lists of numbers, ``embedding`` or the
            only one, and perhaps ``item_id``, which then names the queries.

    Returns:
        The queries, and the space that the file names.

    Raises:
        NotFoundError: There is no such file.
        UsageError: It is no such file, or a vector holds NaN, infinity or nothing but zeros.
        StorageError: It cannot be read.
    """
    file = Path(path)
    if not file.exists():
        raise NotFoundError(f"there is no file {file} to read vectors from.")
    try:
        with file.open("rb") as stream:
            begin = stream.read(6)
        if begin[:4] == b"PAR1":
            return _parquet(file)
        if begin == b"\x93NUMPY":
            found = of_vectors(np.load(file, allow_pickle=False), called=str(file))
            if not found:
                raise UsageError(f"{file} holds no vector.")
            return found, Origin()
    except OSError as error:
        raise StorageError(f"cannot read {file}: {error.strerror or error}.") from error
    except (ValueError, EOFError, pa.ArrowException) as error:
        raise UsageError(f"{file} cannot be read as vectors: {error}.") from error
    raise UsageError(
        f"{file} is neither a .npy nor a Parquet file.",
        hint="Write vectors with numpy.save, or with: featstore export NAME -o FILE.parquet",
    )


def _parquet(file: Path) -> tuple[list[Query], Origin]:
    with pq.ParquetFile(file) as parquet:
        schema = parquet.schema_arrow
        column = _column(schema, file)
        wanted = [column, *(["item_id"] if "item_id" in schema.names else [])]
        table = parquet.read(wanted, use_threads=False)
    names = [str(name) for name in table["item_id"].to_pylist()] if "item_id" in wanted else None
    return of_vectors(_matrix(table[column], file), names, called=str(file)), _origin(schema.metadata)


def _column(schema: pa.Schema, file: Path) -> str:
    lists = [field.name for field in schema if _holds_numbers(field.type)]
    if VECTOR in lists:
        return VECTOR
    if len(lists) != 1:
        there = f"several: {', '.join(lists)}" if lists else f"none; it has {', '.join(schema.names)}"
        raise UsageError(f"{file} should have one column of lists of numbers, and has {there}.")
    return lists[0]


def _holds_numbers(kind: pa.DataType) -> bool:
    if not isinstance(kind, pa.ListType | pa.LargeListType | pa.FixedSizeListType):
        return False
    return pa.types.is_floating(kind.value_type) or pa.types.is_integer(kind.value_type)


def _matrix(column: pa.ChunkedArray[Any], file: Path) -> NDArray[Any]:
    if column.null_count:
        raise UsageError(f"{file}: {column.null_count} of {len(column)} vectors are null.")
    rows = [np.asarray(value, np.float32) for value in column.to_pylist()]
    lengths = {len(row) for row in rows}
    if len(lengths) > 1:
        raise UsageError(f"{file}: its vectors have different lengths, from {min(lengths)} to {max(lengths)}.")
    if not rows:
        raise UsageError(f"{file} holds no vector.")
    return np.stack(rows)


def _origin(metadata: dict[bytes, bytes] | None) -> Origin:
    try:
        found = json.loads((metadata or {}).get(b"featstore", b"{}"))
    except ValueError:
        return Origin()
    if not isinstance(found, dict):
        return Origin()
    space, digest = found.get("space_id"), found.get("digest")
    return Origin(space if isinstance(space, str) else None, digest if isinstance(digest, str) else None)
