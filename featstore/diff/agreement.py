"""How far two spaces agree on which items are near each other."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from featstore.diff.matching import Match, Place
from featstore.diff.moves import quantiles
from featstore.neighbours import nearest_others
from featstore.records import NeighbourOverlap, QueryOverlap
from featstore.tables import FeatureTable

__all__ = ["agreement"]


def agreement(
    a: FeatureTable, b: FeatureTable, found: Match, *, k: int, queries: int, examples: int
) -> NeighbourOverlap | None:
    """The share of each item's k nearest that both spaces have, by exact cosine in float32.

    Both search among the same items, those with equal id and content in both tables; no item is its own
    neighbour. The queries are the items with the smallest content hashes: always the same, and as good as drawn
    by chance. One table's vectors are held at a time.

    Args:
        a: A table of one space.
        b: A table of another.
        found: Their common items.
        k: Neighbours of each query, fewer where there are not so many items.
        queries: How many queries; 0 for all items.
        examples: How many of the queries that changed most to name.

    Returns:
        None where fewer than two items are in both.

    Raises:
        IntegrityError: A file is missing or damaged.
    """
    items = np.flatnonzero(~found.changed)
    if len(items) < 2:
        return None
    k = min(k, len(items) - 1)
    asked = _sample(found.content[items], queries)
    near_a = _neighbours(a, found.a.of(items), asked, k)
    near_b = _neighbours(b, found.b.of(items), asked, k)
    shared = (near_a[:, :, None] == near_b[:, None, :]).any(axis=2).sum(axis=1)
    overlap = shared / k
    mean = float(overlap.mean())
    half = _half_interval(overlap, len(items))
    ids = found.ids[items]
    order = np.argsort(overlap, kind="stable")[:examples]
    return NeighbourOverlap(
        k=k,
        items=len(items),
        queries=len(asked),
        mean=mean,
        low=max(0.0, mean - half),
        high=min(1.0, mean + half),
        expected=k / (len(items) - 1),
        quantiles=quantiles(overlap),
        changed_most=tuple(
            QueryOverlap(
                item_id=str(ids[asked[at]]),
                overlap=float(overlap[at]),
                only_a=_but(near_a[at], near_b[at], ids),
                only_b=_but(near_b[at], near_a[at], ids),
            )
            for at in order.tolist()
        ),
    )


def _sample(contents: NDArray[np.object_], count: int) -> NDArray[np.int64]:
    if not count or count >= len(contents):
        return np.arange(len(contents))
    return np.sort(np.argsort(contents.astype(str), kind="stable")[:count])


def _neighbours(table: FeatureTable, place: Place, asked: NDArray[np.int64], k: int) -> NDArray[np.int64]:
    """For each query its k nearest, as indices of the common items."""
    _, vectors = table.matrix()
    if len(place.row) != len(vectors) or (place.row != np.arange(len(vectors))).any():
        vectors = vectors[place.row]
    return nearest_others(vectors, asked, k)[0]


def _half_interval(overlap: NDArray[np.float64], items: int) -> float:
    """Half the width of the mean's 95 % interval; nothing where every item was asked.

    Source: Cochran, Sampling Techniques (1977), section 2.8: the normal interval with the correction for a finite
    population.
    """
    count = len(overlap)
    if count >= items or count < 2:
        return 0.0
    return float(1.96 * overlap.std(ddof=1) / np.sqrt(count) * np.sqrt(1 - count / items))


def _but(these: NDArray[np.int64], those: NDArray[np.int64], ids: NDArray[np.object_]) -> tuple[str, ...]:
    return tuple(str(ids[at]) for at in these.tolist() if at not in set(those.tolist()))
