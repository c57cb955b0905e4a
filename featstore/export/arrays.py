"""npz: numpy's own archive, read by ``np.load(FILE)`` without pickle.

``item_id`` (n,) and ``embedding`` (n, dim) float32, in one order; a named column under its name, texts as numpy
strings, and ``NAME.null`` (n,) where it has nulls; ``featstore`` the origin as JSON.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable, Iterable, Iterator
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from featstore.errors import UsageError
from featstore.export import plain
from featstore.export.selection import Selected
from featstore.records import ExportOrigin
from featstore.storage import documents
from featstore.tables.columns import VECTOR

__all__ = ["write"]

# numpy gives every text of an array as much room as the longest takes, four bytes a character.
_LONGEST = 1000
_ROWS = 65_536
_EPOCH = (1980, 1, 1, 0, 0, 0)  # the oldest time a zip archive knows; so equal exports are equal files


def write(file: BinaryIO, selected: Selected, origin: ExportOrigin, tell: Callable[[int], None]) -> None:
    """Writes the selected rows.

    Args:
        file: Where to.
        selected: What to.
        origin: Written as the array ``featstore``.
        tell: Called with the number of rows done, after each block.

    Raises:
        UsageError: A text is too long for an array of texts, or ends with NUL, which numpy would take off.
    """
    rows = selected.metadata()
    columns: list[tuple[str, NDArray[Any] | plain.Texts]] = []
    for name in rows.column_names:
        found, missing = plain.values(rows[name]), plain.nulls(rows[name])
        columns.append((name, found))
        if missing is not None:
            columns.append((f"{name}.null", missing))
    plain.check_names([*(name for name, _ in columns), VECTOR, "featstore"])
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for name, values in columns:
            if isinstance(values, plain.Texts):
                _add(archive, name, *_strings(name, values.column))
            else:
                _add(archive, name, values.dtype, values.shape, [values])
        shape = (selected.rows, selected.table.dim)
        _add(archive, VECTOR, np.dtype(np.float32), shape, _vectors(selected, tell))
        note = np.array(json.dumps(documents.to_json(origin), ensure_ascii=False))
        _add(archive, "featstore", note.dtype, note.shape, [note])


def _vectors(selected: Selected, tell: Callable[[int], None]) -> Iterator[NDArray[np.float32]]:
    for _, vectors in selected.blocks():
        yield vectors
        tell(len(vectors))


def _strings(name: str, column: pa.ChunkedArray[Any]) -> tuple[np.dtype[Any], tuple[int], Iterator[NDArray[Any]]]:
    if pa.types.is_large_binary(column.type):
        column = pa.chunked_array([[bytes(value or b"").hex() for value in column.to_pylist()]], pa.large_string())
    longest = (pc.max(pc.utf8_length(column)).as_py() or 0) if len(column) else 0
    if longest > _LONGEST:
        raise UsageError(
            f"the column '{name}' has a text of {longest:,} characters; npz takes up to {_LONGEST:,}.",
            hint="Leave it out of --columns, or write Parquet.",
        )
    if pc.any(pc.ends_with(column, "\0")).as_py():
        raise UsageError(
            f"the column '{name}' has a text that ends with NUL, which numpy would take off.",
            hint="Leave it out of --columns, or write Parquet.",
        )
    dtype = np.dtype(f"<U{max(1, longest)}")
    starts = range(0, len(column), _ROWS)
    return dtype, (len(column),), (np.array(column.slice(at, _ROWS).to_pylist(), dtype) for at in starts)


def _add(
    archive: zipfile.ZipFile, name: str, dtype: np.dtype[Any], shape: tuple[int, ...], blocks: Iterable[NDArray[Any]]
) -> None:
    """Adds one array, block by block."""
    header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    with archive.open(zipfile.ZipInfo(f"{name}.npy", _EPOCH), "w", force_zip64=True) as member:
        np.lib.format.write_array_header_1_0(member, header)
        for block in blocks:
            member.write(np.ascontiguousarray(block).reshape(-1).view(np.uint8).data)
