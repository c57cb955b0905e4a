"""Each query's figures, as a table for other programs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from featstore.evaluate.agreement import text_of
from featstore.search import Query
from featstore.storage import durable

__all__ = ["write"]


def write(
    path: Path,
    queries: Sequence[Query],
    rated: Sequence[tuple[str, str, NDArray[np.float64]]],
    names: Sequence[str],
) -> None:
    """Writes one row for each query, table and way.

    Args:
        path: A ``.parquet`` or ``.csv`` file; replaced if it is there.
        queries: What was asked.
        rated: The table's address, the way (``exact`` or ``index``) and (q, m) what each query is worth.
        names: Of the m metrics.

    Raises:
        StorageError: The disk refused.
    """
    head = {"query": [query.name for query in queries], "text": [text_of(query) for query in queries]}
    parts = [
        pl.DataFrame(head, schema={"query": pl.String, "text": pl.String}).with_columns(
            pl.lit(address).alias("table"),
            pl.lit(way).alias("way"),
            *(pl.Series(name, values[:, at]) for at, name in enumerate(names)),
        )
        for address, way, values in rated
    ]
    frame = pl.concat(parts)
    with durable.replacing(path) as file:
        frame.write_parquet(file) if path.suffix.lower() == ".parquet" else frame.write_csv(file)
