"""Parquet: one file, vectors as ``list<float>``, the origin in its key-value metadata."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from featstore.export.selection import Selected
from featstore.records import ExportOrigin
from featstore.storage import documents
from featstore.tables.columns import VECTOR, vector_type
from featstore.tables.writer import ROW_GROUP_BYTES, vector_column

__all__ = ["write"]


def write(file: BinaryIO, selected: Selected, origin: ExportOrigin, tell: Callable[[int], None]) -> None:
    """Writes the selected rows, one row group at a time.

    Args:
        file: Where to.
        selected: What to.
        origin: Written under the key ``featstore``.
        tell: Called with the number of rows done, after each block.
    """
    empty = selected.table.rows(["item_id", *selected.columns]).slice(0, 0).drop_columns(["_file", "_row"])
    schema = empty.schema.append(pa.field(VECTOR, vector_type()))
    schema = schema.with_metadata({b"featstore": json.dumps(documents.to_json(origin), ensure_ascii=False).encode()})
    others = [name for name in schema.names if name != VECTOR]
    with pq.ParquetWriter(
        file,
        schema,
        # vectors hardly compress, and plain pages are read at the speed of memory
        compression={f"{VECTOR}.list.element": "none", **dict.fromkeys(others, "zstd")},
        use_dictionary=[  # type: ignore[arg-type]
            name for name in selected.columns if not pa.types.is_boolean(schema.field(name).type)
        ],
        write_page_checksum=True,
    ) as parquet:
        for rows, vectors in selected.blocks():
            table = rows.append_column(pa.field(VECTOR, vector_type()), vector_column(vectors))
            per_row = max(1, table.nbytes // max(1, table.num_rows))
            parquet.write_table(table.cast(schema), row_group_size=max(1, ROW_GROUP_BYTES // per_row))
            tell(table.num_rows)
