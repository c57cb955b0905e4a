"""The hits as an Arrow table or a frame, and as rows of plain values for JSON."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime
from typing import Any

import numpy as np
import pyarrow as pa

from featstore.search.columns import Columns
from featstore.search.picking import Hits

__all__ = ["FIRST", "plain_rows", "tabulate"]

FIRST = ("query", "rank", "item_id", "score")
"""The columns before the metadata."""

# What says how a row came into the table, not what the item is.
_OWN = ("item_id", "created_ts", "run_id")


def tabulate(columns: Columns, queries: Sequence[str], hits: Sequence[Hits]) -> pa.Table:
    """The hits with the table's columns.

    Args:
        columns: The table's.
        queries: Their names.
        hits: Of each query.

    Returns:
        ``query``, ``rank`` (from 1), ``item_id``, ``score`` (cosine, float32), ``content_sha256`` and the source's
        columns; one of these that is called like one of the first gets a ``_`` at its end.
    """
    rows = np.concatenate([np.zeros(0, np.int64), *(found for found, _ in hits)])
    names = [name for name in columns.names if name not in _OWN]
    found = columns.at(rows, ["item_id", *names])
    asked = [query for query, (own, _) in zip(queries, hits, strict=True) for _ in own]
    ranks = [rank for own, _ in hits for rank in range(1, len(own) + 1)]
    scores = np.concatenate([np.zeros(0, np.float32), *(score for _, score in hits)])
    # Made of an array they would load numpy's package for masks.
    cosines = pa.FloatArray.from_buffers(pa.float32(), len(scores), [None, pa.py_buffer(scores.data)])
    head = [pa.array(asked, pa.string()), pa.array(ranks, pa.int64()), found["item_id"], cosines]
    renamed = _apart(names)
    return pa.table([*head, *(found[name] for name in names)], names=[*FIRST, *(renamed[name] for name in names)])


def plain_rows(found: pa.Table) -> Iterator[dict[str, Any]]:
    """Each row as a dictionary that JSON can hold: times in ISO 8601, bytes as hexadecimal, NaN as null."""
    for row in found.to_pylist():
        row["score"] = float(f"{row['score']:.7g}")  # a float32 has no more digits
        yield {name: _plain(value) for name, value in row.items()}


def _apart(names: Sequence[str]) -> dict[str, str]:
    """What the columns are called beside the first ones."""
    renamed = dict(zip(names, names, strict=True))
    taken = {*FIRST, *names}
    for name in FIRST:
        if name in renamed:
            new = f"{name}_"
            while new in taken:
                new += "_"
            taken.add(new)
            renamed[name] = new
    return renamed


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat().replace("+00:00", "Z") if value.tzinfo else value.isoformat()
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, str | int) else str(value)
