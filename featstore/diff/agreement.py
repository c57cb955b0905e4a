"""How far two spaces agree on which items are near each other."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from featstore.diff.matching import Match, Place
from featstore.diff.moves import quantiles
from featstore.neighbours import nearest_others
from featstore.records import NeighbourOverlap, QueryOverlap
from featstore.tables import FeatureTable

__all__ = ["Neighbourhoods", "agreement", "neighbourhoods", "overlap"]


@dataclass(frozen=True)
class Neighbourhoods:
    """The nearest items of some items in two spaces, among the same items.

    Attributes:
        ids: (n,) the common items, by ``item_id``.
        contents: (n,) the hashes of their contents.
        asked: (q,) int64, which of them were asked.
        a: (q, k) int64, the nearest others of each in the first space, best first, as numbers of ``ids``.
        b: The same in the second.
        cosines_a: (q, k) float32, the cosines in the first space.
        cosines_b: The same in the second.
    """

    ids: NDArray[np.object_]
    contents: NDArray[np.object_]
    asked: NDArray[np.int64]
    a: NDArray[np.int64]
    b: NDArray[np.int64]
    cosines_a: NDArray[np.float32]
    cosines_b: NDArray[np.float32]

    @property
    def shares(self) -> NDArray[np.float64]:
        """(q,) the share of the nearest that both spaces have."""
        shared = (self.a[:, :, None] == self.b[:, None, :]).any(axis=2).sum(axis=1)
        return np.asarray(shared / self.a.shape[1], np.float64)


def agreement(
    a: FeatureTable, b: FeatureTable, found: Match, *, k: int, queries: int, examples: int
) -> NeighbourOverlap | None:
    """The share of each item's k nearest that both spaces have; see ``neighbourhoods``.

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
    near = neighbourhoods(a, b, found, k=k, queries=queries)
    return None if near is None else overlap(near, examples=examples)


def neighbourhoods(a: FeatureTable, b: FeatureTable, found: Match, *, k: int, queries: int) -> Neighbourhoods | None:
    """The nearest others of the same items in both spaces, by exact cosine in float32.

    Both search among the same items, those with equal id and content in both tables; no item is its own
    neighbour. The queries are the items with the smallest content hashes: always the same, and as good as drawn
    by chance. One table's vectors are held at a time.

    Args:
        a: A table of one space.
        b: A table of another.
        found: Their common items.
        k: Neighbours of each query, fewer where there are not so many items.
        queries: How many queries; 0 for all items.

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
    near_a, cosines_a = _neighbours(a, found.a.of(items), asked, k)
    near_b, cosines_b = _neighbours(b, found.b.of(items), asked, k)
    return Neighbourhoods(found.ids[items], found.content[items], asked, near_a, near_b, cosines_a, cosines_b)


def overlap(near: Neighbourhoods, *, examples: int) -> NeighbourOverlap:
    """How far two spaces agree, and the queries that changed most.

    Args:
        near: The neighbours.
        examples: How many of the queries that changed most to name.
    """
    shares, ids = near.shares, near.ids
    mean, k = float(shares.mean()), near.a.shape[1]
    half = _half_interval(shares, len(ids))
    order = np.argsort(shares, kind="stable")[:examples]
    return NeighbourOverlap(
        k=k,
        items=len(ids),
        queries=len(near.asked),
        mean=mean,
        low=max(0.0, mean - half),
        high=min(1.0, mean + half),
        expected=k / (len(ids) - 1),
        quantiles=quantiles(shares),
        changed_most=tuple(
            QueryOverlap(
                item_id=str(ids[near.asked[at]]),
                overlap=float(shares[at]),
                only_a=_but(near.a[at], near.b[at], ids),
                only_b=_but(near.b[at], near.a[at], ids),
            )
            for at in order.tolist()
        ),
    )


def _sample(contents: NDArray[np.object_], count: int) -> NDArray[np.int64]:
    if not count or count >= len(contents):
        return np.arange(len(contents))
    return np.sort(np.argsort(contents.astype(str), kind="stable")[:count])


def _neighbours(
    table: FeatureTable, place: Place, asked: NDArray[np.int64], k: int
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """For each query its k nearest, as indices of the common items, and their cosines."""
    _, vectors = table.matrix()
    if len(place.row) != len(vectors) or (place.row != np.arange(len(vectors))).any():
        vectors = vectors[place.row]
    return nearest_others(vectors, asked, k)


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
