"""The formats of exported features: Parquet, CSV and npz.

Parquet has vectors as fixed-size lists and the origins as JSON under the key ``featstore``. CSV has each value of a
vector in a column of its own, ``ADDRESS_0`` and on, empty where there is none; times are UTC, texts in quotes where
they need them. npz has ``item_id`` (n,), for each address ``ADDRESS`` (n, dim) float32 with NaN where there is none
and ``ADDRESS__missing`` (n,), and ``featstore`` with the origins; columns beside vectors become texts, ``""`` for null.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import asdict, is_dataclass
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.csv as csv
import pyarrow.parquet as pq
from numpy.typing import NDArray

__all__ = ["arrays", "delimited", "parquet"]

_EPOCH = (1980, 1, 1, 0, 0, 0)  # the oldest time a zip archive knows; so equal exports are equal files


def parquet(file: BinaryIO, blocks: Iterator[pa.Table], rows: int, origin: Mapping[str, object]) -> None:
    """Writes blocks of features as Parquet."""
    first = next(blocks)
    schema = first.schema.with_metadata({b"featstore": _json(origin).encode()})
    vectors = [field.name for field in schema if _is_vector(field.type)]
    with pq.ParquetWriter(
        file,
        schema,
        compression={
            **{f"{name}.list.element": "none" for name in vectors},
            **{name: "zstd" for name in schema.names if name not in vectors},
        },
        use_dictionary=[name for name in schema.names if name.endswith("__missing")],  # type: ignore[arg-type]
        write_page_checksum=True,
    ) as writer:
        writer.write_table(first.cast(schema))
        for block in blocks:
            writer.write_table(block.cast(schema))


def delimited(file: BinaryIO, blocks: Iterator[pa.Table], rows: int, origin: Mapping[str, object]) -> None:
    """Writes blocks of features as CSV."""
    first = _flat(next(blocks))
    with csv.CSVWriter(file, first.schema, write_options=csv.WriteOptions(quoting_style="needed")) as writer:
        writer.write_table(first)
        for block in blocks:
            writer.write_table(_flat(block))


def arrays(file: BinaryIO, blocks: Iterator[pa.Table], rows: int, origin: Mapping[str, object]) -> None:
    """Writes blocks of features as npz; it holds all of them in memory."""
    whole = pa.concat_tables(list(blocks))
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for name in whole.column_names:
            _add(archive, name, _array(whole[name]))
        _add(archive, "featstore", np.array(_json(origin)))


def _flat(block: pa.Table) -> pa.Table:
    columns: dict[str, Any] = {}
    for name in block.column_names:
        column = block[name]
        if _is_vector(column.type):
            matrix, there = _matrix(column), column.is_valid().to_numpy()
            for at in range(matrix.shape[1]):
                columns[f"{name}_{at}"] = pa.array(np.ascontiguousarray(matrix[:, at]), mask=~there)
        elif pa.types.is_binary(column.type):
            columns[name] = pa.array([None if v is None else v.hex() for v in column.to_pylist()], pa.string())
        else:
            columns[name] = column.cast(pa.string()) if pa.types.is_decimal(column.type) else column
    return pa.table(columns)


def _matrix(column: pa.ChunkedArray[Any]) -> NDArray[np.float32]:
    size = column.type.list_size
    whole: Any = pa.concat_arrays(column.chunks)
    values: NDArray[np.float32] = whole.values.to_numpy()
    return values[whole.offset * size : (whole.offset + len(whole)) * size].reshape(-1, size)


def _array(column: pa.ChunkedArray[Any]) -> NDArray[Any]:
    if _is_vector(column.type):
        matrix = _matrix(column).copy()
        matrix[~column.is_valid().to_numpy()] = np.nan
        return matrix
    if pa.types.is_binary(column.type):
        return np.array(["" if value is None else value.hex() for value in column.to_pylist()], str)
    if not column.null_count and (pa.types.is_integer(column.type) or pa.types.is_floating(column.type)):
        found: NDArray[Any] = column.to_numpy()
        return found
    return np.array(["" if value is None else value for value in column.cast(pa.string()).to_pylist()], str)


def _add(archive: zipfile.ZipFile, name: str, values: NDArray[Any]) -> None:
    with archive.open(zipfile.ZipInfo(f"{name}.npy", _EPOCH), "w", force_zip64=True) as member:
        np.lib.format.write_array(member, np.ascontiguousarray(values), allow_pickle=False)


def _is_vector(kind: pa.DataType) -> bool:
    return pa.types.is_fixed_size_list(kind)


def _json(origin: Mapping[str, object]) -> str:
    def plain(value: object) -> object:
        if is_dataclass(value) and not isinstance(value, type):
            return asdict(value)
        raise TypeError(type(value).__name__)

    return json.dumps(dict(origin), default=plain, ensure_ascii=False)
