"""How well a map between two models' spaces does on items that it has not seen, chosen and fitted as ``nested`` says.

Each held-out group gives one item. Its vector of the new model, mapped, is what a query would be; the others' vectors
of the old model, at most 1,000, are what is searched. Three things are asked of the first k hits: is the item itself
among them; how many of its k nearest by the old model; how many of its k nearest by the new model, which is what full
re-embedding would find. For the last also how many the old model finds by itself: what stands there without a map.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from featstore.bridge import nested
from featstore.bridge.maps import Candidate, Map, Sums
from featstore.bridge.nested import KS
from featstore.records import RecallAt

__all__ = ["Learned", "learn"]

_COSINE = 0.01

# Scores that differ by less are one: a product of float32 gives the same two vectors other last bits elsewhere.
_EQUAL = np.float32(1e-6)


@dataclass(frozen=True)
class Learned:
    """The map to keep, how it was fitted, and what maps chosen the same way reach on items held out."""

    map: Map
    candidate: Candidate
    queries: int
    gallery: float
    itself: tuple[RecallAt, ...]
    neighbours: tuple[RecallAt, ...]
    reembedded: tuple[RecallAt, ...]
    old: tuple[RecallAt, ...]


@dataclass(frozen=True)
class _Fold:
    """The sums of a fold, one item of each of its groups in both spaces, and their neighbours among each other."""

    sums: Sums
    x: NDArray[np.float32]
    y: NDArray[np.float32]
    by_new: NDArray[np.int64]
    by_old: NDArray[np.int64]

    @classmethod
    def of(
        cls, x: NDArray[np.float32], y: NDArray[np.float32], where: NDArray[np.int64], some: NDArray[np.int64]
    ) -> _Fold:
        own_x, own_y = x[some], y[some]
        return cls(Sums.of(x[where], y[where]), own_x, own_y, _others(own_x @ own_x.T), _others(own_y @ own_y.T))

    def __len__(self) -> int:
        return len(self.x)

    def scores(self, found: Map) -> NDArray[np.float32]:
        """(m, m) cosines of each item's mapped new vector with all old ones."""
        return np.asarray(found.apply(self.x) @ self.y.T, np.float32)

    def worth(self, found: Map) -> float:
        """What maps are chosen by: how much of what the new model would find they find, at 1 and at 10.

        Where that is the same the cosine with the item's own old vector decides.
        """
        scores = self.scores(found)
        cosine = float(np.diag(scores).mean())
        hits = _others(scores)
        return float(np.mean([_shares(hits, self.by_new, k).mean() for k in KS])) + _COSINE * cosine


def learn(
    x: NDArray[np.float32],
    y: NDArray[np.float32],
    groups: NDArray[np.int64],
    done: Callable[[int], None] = lambda _: None,
) -> Learned:
    """Fits, chooses and measures.

    Args:
        x: (n, from_dim) float32 of length 1: items by the new model.
        y: (n, to_dim) float32 of length 1: the same items by the old model.
        groups: (n,) int64 from 0: items of one group share a fold. At least ``2 * nested.FOLDS`` of them.
        done: Told of each fit.
    """
    basis = nested.basis(x)
    x = x if basis is None else np.asarray(x @ basis, np.float32)
    folds = [_Fold.of(x, y, where, nested.asked(groups, where)) for where in nested.dealt(groups)]
    chosen = nested.choose(folds, done)
    sizes = np.concatenate([np.full(len(fold), len(fold)) for fold in folds])
    scores = [fold.scores(found) for fold, found in zip(folds, chosen.without, strict=True)]
    # Whatever scores as high as the item itself comes before it: a map that says nothing finds nothing.
    ranks = np.concatenate([(one > np.diag(one)[:, None] - _EQUAL).sum(axis=1) - 1 for one in scores])
    hits = [_others(one) for one in scores]

    def overlaps(found: list[NDArray[np.int64]], wanted: list[NDArray[np.int64]]) -> tuple[RecallAt, ...]:
        return tuple(
            nested.recall(
                k,
                np.concatenate([_shares(a, b, k) for a, b in zip(found, wanted, strict=True)]),
                np.minimum(1, k / (sizes - 1)),
            )
            for k in KS
        )

    by_new, by_old = [fold.by_new for fold in folds], [fold.by_old for fold in folds]
    return Learned(
        map=nested.whole(chosen.map, basis),
        candidate=chosen.candidate,
        queries=len(sizes),
        gallery=float(np.mean([len(fold) for fold in folds])),
        itself=tuple(nested.recall(k, (ranks < k).astype(np.float64), np.minimum(1, k / sizes)) for k in KS),
        neighbours=overlaps(hits, by_old),
        reembedded=overlaps(hits, by_new),
        old=overlaps(by_old, by_new),
    )


def _others(scores: NDArray[np.float32]) -> NDArray[np.int64]:
    """For each item the nearest others, best first: (m, 10), or all of them where they are fewer."""
    most = min(max(KS), len(scores) - 1)
    kept = scores.copy()
    np.fill_diagonal(kept, -np.inf)
    some = np.argpartition(-kept, most - 1, axis=1)[:, :most]
    order = np.argsort(-np.take_along_axis(kept, some, axis=1), axis=1, kind="stable")
    return np.take_along_axis(some, order, axis=1)


def _shares(found: NDArray[np.int64], wanted: NDArray[np.int64], k: int) -> NDArray[np.float64]:
    """Of each item's first k wanted the share that is among its first k found."""
    found, wanted = found[:, :k], wanted[:, :k]
    return np.asarray((found[:, :, None] == wanted[:, None, :]).any(axis=1).mean(axis=1), np.float64)
