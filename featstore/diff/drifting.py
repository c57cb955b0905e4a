"""Whether what came is of the kind that was there."""

from __future__ import annotations

import polars as pl

from featstore import drift
from featstore.records import DriftReport
from featstore.tables import FeatureTable

__all__ = ["drifted"]


def drifted(a: FeatureTable, b: FeatureTable, *, examples: int = 10) -> DriftReport:
    """Holds the contents that only ``b`` has against those of ``a``, both of one space; each content counts once.

    Args:
        a: What was there.
        b: What is there now.
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
    return drift.compare(
        a.vectors_at(rows[0]["row"].to_numpy()),
        b.vectors_at(rows[1]["row"].to_numpy()),
        after_ids=rows[1]["item_id"].to_list(),
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
