"""Which items two models have both embedded: those whose content is the same in the two tables."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from featstore.bridge.maps import unit
from featstore.tables import FeatureTable

__all__ = ["MOST", "Shared", "shared"]

MOST = 50_000
"""Items that are learned from at most, drawn by the hashes of their contents; a linear map gains nothing from more."""


@dataclass(frozen=True)
class Shared:
    """The vectors of n contents in both spaces, each at length 1, in the order of the contents' hashes.

    ``x`` is (n, from_dim) and ``y`` (n, to_dim), float32. ``there`` says how many contents both tables have.
    """

    x: NDArray[np.float32]
    y: NDArray[np.float32]
    there: int


def shared(new: FeatureTable, old: FeatureTable, *, most: int = MOST) -> Shared:
    """Reads the vectors of contents that both tables have; of a content that several items have, one.

    Contents without a direction in one of the spaces, vectors of zeros, are left out.

    Args:
        new: The table of the space that the map leads from.
        old: The table of the space that it leads to.
        most: How many at most; no more vectors than these are read.

    Raises:
        IntegrityError: A file of a table is damaged.
    """
    import polars as pl

    def contents(table: FeatureTable, row: str) -> pl.LazyFrame:
        column = pl.Series("content", table.rows(["content_sha256"])["content_sha256"].combine_chunks())
        return pl.LazyFrame(column).with_row_index(row).unique("content", keep="first", maintain_order=True)

    both = contents(new, "new").join(contents(old, "old"), on="content").sort("content").collect()
    drawn = both.head(most)
    x = new.vectors_at(drawn["new"].to_numpy().astype(np.int64))
    y = old.vectors_at(drawn["old"].to_numpy().astype(np.int64))
    good = _directed(x) & _directed(y)
    if not good.all():
        x, y = x[good], y[good]
    return Shared(unit(x), unit(y), len(both))


def _directed(vectors: NDArray[np.float32]) -> NDArray[np.bool_]:
    return np.asarray(np.isfinite(vectors).all(axis=1) & vectors.any(axis=1), np.bool_)
