"""What an index is asked when it is tuned and judged.

An item that is in a graph or list is found more easily than one that is not, and so are the items around it. So
those that are asked for are not in the index while it is asked; they are added when that is done.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from featstore import neighbours

if TYPE_CHECKING:
    import polars as pl

    from featstore.tables import FeatureTable

__all__ = ["Exam", "K", "Questions", "given", "held_out"]

K = 10

# Exact answers to 1,000 queries among 500,000 vectors of 384 values take some seconds; more are not worth waiting for.
_MOST, _LEAST, _PRODUCTS = 1000, 200, 2e11
# An index that lacks more than a tenth of the items is another one; of few items half are not too many.
_SHARE, _FEW = 10, 100
# A content that occurs more often than this is not asked for, since all its items would have to be held out.
_TWINS = 20


@dataclass(frozen=True)
class Questions:
    """``queries`` (q, d) float32; ``truth`` (q, k) int64, the nearest rows by exact cosine, -1 for none."""

    queries: NDArray[np.float32]
    truth: NDArray[np.int64]


@dataclass(frozen=True)
class Exam:
    """Two sets of questions that have none in common: one to tune with, one to report; ``k`` answers are asked for."""

    k: int
    source: Literal["items", "given"]
    tuning: Questions
    reporting: Questions


def held_out(
    features: FeatureTable, among: NDArray[np.int64] | None = None
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Items to ask for, and what has to be held out for it.

    They are those with the smallest content hashes: as good as drawn by chance, and the same every time.

    Args:
        features: The table.
        among: (m,) int64, the rows to choose from, each content wholly among them; all by default.

    Returns:
        Three times rows, int64: those to tune with, those to report, and the ascending ones to hold out, which are
        both and all of equal content. All are empty where there are too few.
    """
    import polars as pl

    contents = _contents(features)
    candidates = contents if among is None else contents.filter(pl.col("row").is_in(among.tolist()))
    counts = contents.group_by("content_sha256").agg(pl.len().alias("twins"))
    inside = candidates.group_by("content_sha256").agg(pl.col("row").min(), pl.len().alias("inside"))
    whole = inside.join(counts, on="content_sha256").filter(
        (pl.col("inside") == pl.col("twins")) & (pl.col("twins") <= _TWINS)
    )
    total = len(candidates)
    rows_allowed = max(total // _SHARE, min(total // 2, _FEW)) if among is None else total
    most = 2 * int(np.clip(_PRODUCTS / max(1, len(features) * features.dim), _LEAST, _MOST))
    chosen = whole.sort("content_sha256").filter(pl.col("twins").cum_sum() <= rows_allowed).head(most)
    rows = chosen["row"].to_numpy()
    if len(rows) < 2:
        nothing = np.zeros(0, np.int64)
        return nothing, nothing, nothing
    held = contents.join(chosen.select("content_sha256"), on="content_sha256", how="semi")["row"].sort().to_numpy()
    return rows[::2], rows[1::2], held


def given(queries: NDArray[np.float32], vectors: NDArray[np.float32]) -> Exam | None:
    """An exam of what will be asked, such as texts.

    Args:
        queries: (q, d) float32; equal ones count once.
        vectors: (n, d) float32.

    Returns:
        None where there are fewer than two.
    """
    asked = np.unique(np.ascontiguousarray(queries, np.float32), axis=0)
    most = 2 * int(np.clip(_PRODUCTS / vectors.size, _LEAST, _MOST))
    asked = np.random.default_rng(0).permutation(asked)[:most]
    if len(asked) < 2:
        return None
    k = min(K, len(vectors))
    tuning, reporting = (Questions(part, neighbours.exact(part, vectors, k)[0]) for part in (asked[::2], asked[1::2]))
    return Exam(k, "given", tuning, reporting)


def _contents(features: FeatureTable) -> pl.DataFrame:
    import polars as pl

    frame = pl.from_arrow(features.rows(["content_sha256"]).select(["content_sha256"]))
    assert isinstance(frame, pl.DataFrame)
    return frame.with_columns(row=pl.int_range(pl.len(), dtype=pl.Int64)).drop_nulls()
