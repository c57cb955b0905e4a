"""Which map to take, and how well it does on pairs that it has not seen.

Protocol: the groups of pairs are dealt to five folds. One fold is held out to measure; on the other four each way to
fit is tried, each of them held out in turn, and the best by recall is fitted on all four. So no pair has a part in
the choice or the fit of the map that it measures. Each held-out group gives one pair: a query with exactly one right
answer, searched for among the fold's others, of which there are at most 1,000. What is kept is fitted on all pairs.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from featstore.bridge.maps import CANDIDATES, Candidate, Map, Sums, fit, unit
from featstore.records import RecallAt

__all__ = ["FOLDS", "GALLERY", "KS", "Learned", "learn"]

FOLDS = 5
KS = (1, 10)

GALLERY = 1000
"""Pairs of a fold that are searched: what retrieval figures are customarily given for (COCO 1K, Flickr1K)."""

_DRAWS = 10_000
_COSINE = 0.01


@dataclass(frozen=True)
class Learned:
    """The map to keep, how it was fitted, and what maps chosen the same way reach on pairs held out."""

    map: Map
    candidate: Candidate
    queries: int
    gallery: float
    text_to_image: tuple[RecallAt, ...]
    image_to_text: tuple[RecallAt, ...]


@dataclass(frozen=True)
class _Fold:
    """The sums of a fold, and one pair of each of its groups to ask for."""

    sums: Sums
    images: NDArray[np.float32]
    documents: NDArray[np.float32]
    queries: NDArray[np.float32]

    def ranks(self, found: Map, *, texts: bool) -> NDArray[np.int64]:
        """How many come before the right answer, for each text among the images or each image among the texts.

        Whatever scores as high as the right answer comes before it: a map that says nothing finds nothing.
        """
        projected = found.apply(self.images)
        scores = self.queries @ projected.T if texts else projected @ self.documents.T
        right = np.diag(scores)[:, None]
        return np.asarray((scores >= right).sum(axis=1) - 1, np.int64)

    def worth(self, found: Map) -> float:
        """What maps are chosen by: the mean of recall@1 and recall@10 from text to image.

        Where that is the same the cosine with the right answer decides: of maps that all find everything the one
        whose scores say most.
        """
        ranks = self.ranks(found, texts=True)
        cosine = np.einsum("ij,ij->i", found.apply(self.images), self.queries).mean()
        return float(np.mean([(ranks < k).mean() for k in KS]) + _COSINE * cosine)


def learn(
    images: NDArray[np.float32],
    documents: NDArray[np.float32],
    queries: NDArray[np.float32],
    groups: NDArray[np.int64],
    done: Callable[[int], None] = lambda _: None,
) -> Learned:
    """Fits, chooses and measures.

    Args:
        images: (n, image_dim) float32, one for each pair.
        documents: (n, text_dim) float32: its caption, embedded as a document; what the map is fitted to.
        queries: (n, text_dim) float32: the caption embedded as a query; what is searched with.
        groups: (n,) int64 from 0: pairs of one group share a fold. At least ``FOLDS`` of them.
        done: Told of each fit.
    """
    x, y, q = unit(images), unit(documents), unit(queries)
    basis = _basis(x)
    x = x if basis is None else np.asarray(x @ basis, np.float32)
    folds = [_fold(x, y, q, groups, where) for where in _dealt(groups)]

    def fitted(out: set[int]) -> dict[Candidate, Map]:
        maps = fit(Sums.total(fold.sums for at, fold in enumerate(folds) if at not in out))
        done(1)
        return maps

    inner = np.zeros((FOLDS, FOLDS, len(CANDIDATES)))
    for a, b in itertools.combinations(range(FOLDS), 2):
        maps = list(fitted({a, b}).values())
        inner[a, b] = [folds[b].worth(found) for found in maps]
        inner[b, a] = [folds[a].worth(found) for found in maps]
    outer = np.zeros((FOLDS, len(CANDIDATES)))
    texts, pictures, sizes = [], [], []
    for at, fold in enumerate(folds):
        maps = list(fitted({at}).values())
        outer[at] = [fold.worth(found) for found in maps]
        chosen = maps[int(np.argmax(inner[at].sum(axis=0)))]
        texts.append(fold.ranks(chosen, texts=True))
        pictures.append(fold.ranks(chosen, texts=False))
        sizes.append(np.full(len(fold.images), len(fold.images)))
    best = CANDIDATES[int(np.argmax(outer.sum(axis=0)))]
    last = fit(Sums.total(fold.sums for fold in folds), (best,))[best]
    done(1)
    size = np.concatenate(sizes)
    return Learned(
        map=last if basis is None else _turned_back(last, basis),
        candidate=best,
        queries=len(size),
        gallery=float(np.mean([len(fold.images) for fold in folds])),
        text_to_image=_recalls(np.concatenate(texts), size),
        image_to_text=_recalls(np.concatenate(pictures), size),
    )


def _basis(x: NDArray[np.float32]) -> NDArray[np.float64] | None:
    """An orthonormal basis of what the vectors span, where they are fewer than their values: the same fit for less."""
    return np.linalg.qr(x.T.astype(np.float64))[0] if len(x) < x.shape[1] else None


def _turned_back(found: Map, basis: NDArray[np.float64]) -> Map:
    mean, matrix = basis @ found.image_mean, basis @ found.matrix
    return Map(np.asarray(mean, np.float32), np.asarray(matrix, np.float32), found.text_mean)


def _dealt(groups: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """The pairs of each fold; the same for the same groups."""
    count = int(groups.max()) + 1
    fold = np.random.Generator(np.random.PCG64(0)).permutation(count) % FOLDS
    return [np.flatnonzero(fold[groups] == number) for number in range(FOLDS)]


def _fold(
    x: NDArray[np.float32],
    y: NDArray[np.float32],
    q: NDArray[np.float32],
    groups: NDArray[np.int64],
    where: NDArray[np.int64],
) -> _Fold:
    _, first = np.unique(groups[where], return_index=True)
    asked = where[np.random.Generator(np.random.PCG64(0)).permutation(first)[:GALLERY]]
    return _Fold(Sums.of(x[where], y[where]), x[asked], y[asked], q[asked])


def _recalls(ranks: NDArray[np.int64], sizes: NDArray[np.int64]) -> tuple[RecallAt, ...]:
    """Recall with its bootstrap interval over the queries, and what chance would reach.

    Source: Efron and Tibshirani, An Introduction to the Bootstrap (1993), chapter 13; the sum of n draws from n zeros
    and ones is binomial.
    """
    generator = np.random.Generator(np.random.PCG64(0))
    found = []
    for k in KS:
        value = float((ranks < k).mean())
        drawn = generator.binomial(len(ranks), value, _DRAWS) / len(ranks)
        low, high = np.quantile(drawn, [0.025, 0.975]).tolist()
        chance = float(np.minimum(1, k / sizes).mean())
        found.append(RecallAt(k=k, value=value, low=low, high=high, chance=chance))
    return tuple(found)
