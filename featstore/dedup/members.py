"""The items of each group, beside the one that stands for it."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import polars as pl
from numpy.typing import NDArray

from featstore.dedup.grouping import Grouped

__all__ = ["members"]

# Vectors held at once beside the table's own.
_ROWS = 16_384


def members(found: Grouped) -> pl.DataFrame:
    """Every item that shares its group with another.

    A group's representative is the item with the highest mean cosine to the others; of equal ones that with the
    lowest id.

    Returns:
        ``group`` (int64, numbered from 0, the largest first), ``items`` (int64, how many it has), ``item_id``,
        ``representative`` (its id), ``score`` (float64, the cosine to it), ``exact`` (whether its content is the
        representative's) and ``row`` (int64, of ``rows()``). Groups in order, each led by its representative, then by
        falling score and rising id.
    """
    sizes = np.bincount(found.group, minlength=1)
    rows = np.flatnonzero(sizes[found.group] > 1)
    rows = rows[np.argsort(found.group[rows], kind="stable")]
    starts = np.flatnonzero(np.diff(found.group[rows], prepend=-1))
    group = np.cumsum(np.diff(found.group[rows], prepend=-1) != 0) - 1
    central = np.empty(len(rows), np.float64)
    for part, first, count in _blocks(starts, len(rows)):
        sums = np.zeros((count, found.vectors.shape[1]))
        for at in _pieces(part):
            np.add.at(sums, group[at] - first, _unit(found.vectors[rows[at]]))
        for at in _pieces(part):
            central[at] = np.einsum("ij,ij->i", _unit(found.vectors[rows[at]]), sums[group[at] - first])
    # Rounded, so that two items are as near to each other in either order.
    ids = found.ids[rows]
    order = np.lexsort((_ranks(ids), -np.round(central, 9), group))
    standing = rows[order][starts] if len(rows) else rows
    score = np.empty(len(rows), np.float64)
    for at in _pieces(slice(0, len(rows))):
        own, other = _unit(found.vectors[rows[at]]), _unit(found.vectors[standing[group[at]]])
        score[at] = np.einsum("ij,ij->i", own, other)
    frame = pl.DataFrame(
        {
            "group": group,
            "items": sizes[found.group[rows]].astype(np.int64),
            "item_id": pl.Series(ids.tolist(), dtype=pl.String),
            "representative": pl.Series(found.ids[standing[group]].tolist(), dtype=pl.String),
            "score": np.clip(score, -1, 1),
            "exact": found.content[rows] == found.content[standing[group]],
            "row": rows,
        }
    )
    led = pl.col("item_id") != pl.col("representative")
    frame = frame.sort(
        ["items", "representative", led, pl.col("score").round(6), "item_id"],
        descending=[True, False, False, True, False],
    )
    return frame.with_columns(group=pl.col("group").rle_id().cast(pl.Int64))


def _blocks(starts: NDArray[np.int64], count: int) -> Iterator[tuple[slice, int, int]]:
    """Whole groups, some rows at a time: the rows, the first group and the number of groups."""
    ends = np.append(starts[1:], count)
    first = 0
    while first < len(starts):
        last = int(np.searchsorted(ends, starts[first] + _ROWS, side="right"))
        last = max(last, first + 1)
        yield slice(int(starts[first]), int(ends[last - 1])), first, last - first
        first = last


def _pieces(part: slice) -> Iterator[slice]:
    for start in range(part.start, part.stop, _ROWS):
        yield slice(start, min(part.stop, start + _ROWS))


def _ranks(ids: NDArray[np.object_]) -> NDArray[np.int64]:
    ranks = np.empty(len(ids), np.int64)
    ranks[np.argsort(ids, kind="stable")] = np.arange(len(ids))
    return ranks


def _unit(vectors: NDArray[np.float32]) -> NDArray[np.float64]:
    exact = vectors.astype(np.float64)
    lengths = np.linalg.norm(exact, axis=1, keepdims=True)
    return np.asarray(exact / np.where(lengths > 0, lengths, 1), np.float64)
