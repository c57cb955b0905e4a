"""Which map to take, and maps chosen the same way that have not seen what they are measured on: nested folds.

Protocol: the groups are dealt to five folds. One fold is held out to measure; on the other four each way to fit is
tried, each of them held out in turn, and the best is fitted on all four. So nothing has a part in the choice or the
fit of the map that it measures. What is kept is fitted on all five.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from featstore.bridge.maps import CANDIDATES, Candidate, Map, Sums, fit
from featstore.records import RecallAt

__all__ = ["FITS", "FOLDS", "GALLERY", "KS", "Chosen", "Fold", "asked", "basis", "choose", "dealt", "recall", "whole"]

FOLDS = 5
KS = (1, 10)

FITS = FOLDS * (FOLDS - 1) // 2 + FOLDS + 1
"""How often is fitted."""

GALLERY = 1000
"""Items of a fold that are searched: what retrieval figures are customarily given for (COCO 1K, Flickr1K)."""

_DRAWS = 10_000


class Fold(Protocol):
    """A part of the pairs: what a fit needs of them, and what a map is worth on them."""

    @property
    def sums(self) -> Sums:
        """All that a fit needs."""

    def worth(self, found: Map) -> float:
        """What maps are chosen by; more is better."""


@dataclass(frozen=True)
class Chosen:
    """The map to keep, how it was fitted, and for each fold the map chosen and fitted without it."""

    map: Map
    candidate: Candidate
    without: tuple[Map, ...]


def choose(folds: Sequence[Fold], done: Callable[[int], None] = lambda _: None) -> Chosen:
    """Chooses and fits.

    Args:
        folds: ``FOLDS`` of them.
        done: Told of each fit; there are ``FITS``.
    """

    def fitted(out: set[int]) -> list[Map]:
        maps = fit(Sums.total(fold.sums for at, fold in enumerate(folds) if at not in out))
        done(1)
        return list(maps.values())

    inner = np.zeros((FOLDS, FOLDS, len(CANDIDATES)))
    for a, b in itertools.combinations(range(FOLDS), 2):
        maps = fitted({a, b})
        inner[a, b] = [folds[b].worth(found) for found in maps]
        inner[b, a] = [folds[a].worth(found) for found in maps]
    outer = np.zeros((FOLDS, len(CANDIDATES)))
    without = []
    for at, fold in enumerate(folds):
        maps = fitted({at})
        outer[at] = [fold.worth(found) for found in maps]
        without.append(maps[int(np.argmax(inner[at].sum(axis=0)))])
    best = CANDIDATES[int(np.argmax(outer.sum(axis=0)))]
    last = fit(Sums.total(fold.sums for fold in folds), (best,))[best]
    done(1)
    return Chosen(last, best, tuple(without))


def dealt(groups: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """The rows of each fold; the same for the same groups.

    Args:
        groups: (n,) int64 from 0: rows of one group share a fold.
    """
    count = int(groups.max()) + 1
    fold = np.random.Generator(np.random.PCG64(0)).permutation(count) % FOLDS
    return [np.flatnonzero(fold[groups] == number) for number in range(FOLDS)]


def asked(groups: NDArray[np.int64], where: NDArray[np.int64]) -> NDArray[np.int64]:
    """Of a fold's rows one of each group, at most ``GALLERY``: what is asked for and searched."""
    _, first = np.unique(groups[where], return_index=True)
    some = np.random.Generator(np.random.PCG64(0)).permutation(first)[:GALLERY]
    return np.asarray(where[some], np.int64)


def basis(x: NDArray[np.float32]) -> NDArray[np.float64] | None:
    """An orthonormal basis of what the vectors span, where they are fewer than their values: the same fit for less."""
    return np.linalg.qr(x.T.astype(np.float64))[0] if len(x) < x.shape[1] else None


def whole(found: Map, turned: NDArray[np.float64] | None) -> Map:
    """A map that was fitted in a basis, as one of the vectors themselves."""
    if turned is None:
        return found
    mean, matrix = turned @ found.x_mean, turned @ found.matrix
    return Map(np.asarray(mean, np.float32), np.asarray(matrix, np.float32), found.y_mean)


def recall(k: int, shares: NDArray[np.float64], chances: NDArray[np.float64]) -> RecallAt:
    """The mean over queries with its bootstrap interval, beside what chance would reach.

    Source: Efron and Tibshirani, An Introduction to the Bootstrap (1993), chapter 13; of n draws from n shares each
    value is drawn so often as the multinomial distribution says.

    Args:
        k: How many hits were looked at.
        shares: (q,) what of the wanted each query has found, a multiple of 1/k.
        chances: (q,) what an order without meaning would find.
    """
    values, counts = np.unique(np.round(shares * k).astype(np.int64), return_counts=True)
    generator = np.random.Generator(np.random.PCG64(0))
    drawn = generator.multinomial(len(shares), counts / len(shares), _DRAWS) @ values / (k * len(shares))
    low, high = np.quantile(drawn, [0.025, 0.975]).tolist()
    return RecallAt(k=k, value=float(shares.mean()), low=low, high=high, chance=float(chances.mean()))
