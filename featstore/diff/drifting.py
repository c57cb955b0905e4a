"""Whether what came is of the kind that was there."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import polars as pl
from numpy.typing import NDArray

from featstore import drift
from featstore.records import DriftReport
from featstore.tables import FeatureTable

__all__ = ["Says", "drifted"]

Says = Callable[[Sequence[str], NDArray[np.float32]], NDArray[np.floating]]
"""A head that has not seen some items: from their contents' hashes and vectors (n, d) to probabilities (n, c)."""


def drifted(
    a: FeatureTable, b: FeatureTable, *, heads: Mapping[str, Says] | None = None, examples: int = 10
) -> DriftReport:
    """Holds the contents that only ``b`` has against those of ``a``, both of one space; each content counts once.

    Args:
        a: What was there.
        b: What is there now.
        heads: By name, heads whose predicted classes are compared too; the first ten.
        examples: How many of the most shifted items are named.

    Raises:
        IntegrityError: A file is missing or damaged.
    """
    before, after = _contents(a), _contents(b)
    came = after.join(before, on="content_sha256", how="anti", maintain_order="left")
    sizes = before.height, came.height
    if min(sizes) < drift.LEAST:
        return drift.too_few(*sizes)
    rows = [_sampled(frame, seed) for seed, frame in enumerate((before, came))]
    vectors = [table.vectors_at(some["row"].to_numpy()) for table, some in zip((a, b), rows, strict=True)]
    contents = [some["content_sha256"].to_list() for some in rows]
    asked = dict(list((heads or {}).items())[: drift.HEADS])
    return drift.compare(
        *vectors,
        after_ids=rows[1]["item_id"].to_list(),
        said={name: (head(contents[0], vectors[0]), head(contents[1], vectors[1])) for name, head in asked.items()},
        sizes=sizes,
        examples=examples,
    )


def _contents(table: FeatureTable) -> pl.DataFrame:
    """Each content with its first item, in the order of hashes, which says nothing of how they came about."""
    frame = pl.from_arrow(table.rows(["item_id", "content_sha256"]).select(["item_id", "content_sha256"]))
    assert isinstance(frame, pl.DataFrame)
    rows = frame.with_columns(row=pl.arange(frame.height, eager=True))
    return rows.unique("content_sha256", keep="first", maintain_order=True).sort("content_sha256")


def _sampled(frame: pl.DataFrame, seed: int) -> pl.DataFrame:
    some = frame if frame.height <= drift.MOST else frame.sample(drift.MOST, seed=seed)
    return some.sort("row")
