"""safetensors: ``embedding`` (n, dim) float32 and the named columns, the origin in the file's metadata.

The format knows no texts: a column of texts is its UTF-8 bytes one after the other under its name, and
``NAME.offsets`` (n + 1) int64, where each begins and ends; so is ``item_id``. Times are microseconds and dates days
since 1970 (UTC), ``NAME.null`` marks nulls.

Source: the format, https://github.com/huggingface/safetensors#format. Its library wants all tensors in memory at
once; here the vectors pass through.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from featstore.export import plain
from featstore.export.selection import Selected
from featstore.records import ExportOrigin
from featstore.storage import documents
from featstore.tables.columns import VECTOR

__all__ = ["write"]

_KINDS = {"float32": "F32", "float64": "F64", "int64": "I64", "int32": "I32", "uint8": "U8", "bool": "BOOL"}


def write(file: BinaryIO, selected: Selected, origin: ExportOrigin, tell: Callable[[int], None]) -> None:
    """Writes the selected rows.

    Args:
        file: Where to.
        selected: What to.
        origin: Written under the key ``featstore`` of the file's metadata.
        tell: Called with the number of rows done, after each block.
    """
    tensors = _tensors(selected)
    shape = (selected.rows, selected.table.dim)
    described = {name: (_KINDS[str(found.dtype)], found.shape, found.nbytes) for name, found in tensors.items()}
    described[VECTOR] = ("F32", shape, 4 * shape[0] * shape[1])
    # The widest types first, so that every tensor begins where its type may.
    order = sorted(described, key=lambda name: (_rank(described[name][0]), name))
    header: dict[str, Any] = {
        "__metadata__": {"featstore": json.dumps(documents.to_json(origin), ensure_ascii=False), "format": "np"}
    }
    at = 0
    for name in order:
        kind, form, size = described[name]
        header[name] = {"dtype": kind, "shape": list(form), "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    file.write(len(text).to_bytes(8, "little"))
    file.write(text)
    for name in order:
        if name == VECTOR:
            for _, vectors in selected.blocks():
                file.write(np.ascontiguousarray(vectors).reshape(-1).view(np.uint8).data)
                tell(len(vectors))
        else:
            file.write(np.ascontiguousarray(tensors[name]).reshape(-1).view(np.uint8).data)


def _tensors(selected: Selected) -> dict[str, NDArray[Any]]:
    rows = selected.metadata()
    found: list[tuple[str, NDArray[Any]]] = []
    for name in rows.column_names:
        values, missing = plain.values(rows[name]), plain.nulls(rows[name])
        if isinstance(values, plain.Texts):
            found += [(name, values.data), (f"{name}.offsets", values.offsets)]
        elif values.dtype.kind == "M":
            days = values.dtype == np.dtype("datetime64[D]")
            found.append((name, values.astype(np.int64).astype(np.int32 if days else np.int64)))
        else:
            found.append((name, values))
        if missing is not None:
            found.append((f"{name}.null", missing))
    plain.check_names([*(name for name, _ in found), VECTOR, "__metadata__"])
    return dict(found)


def _rank(kind: str) -> int:
    return {"I64": 0, "F64": 0, "F32": 1, "I32": 1}.get(kind, 2)
