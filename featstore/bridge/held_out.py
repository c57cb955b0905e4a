"""How well a map from pictures to captions does on pairs that it has not seen, chosen and fitted as ``nested`` says.

Each held-out group gives one pair: a query with exactly one right answer, searched for among the fold's others, of
which there are at most 1,000.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from featstore.bridge import nested
from featstore.bridge.maps import Candidate, Map, Sums, unit
from featstore.bridge.nested import KS
from featstore.records import RecallAt

__all__ = ["Learned", "learn"]

_COSINE = 0.01

# Scores that differ by less are one: a product of float32 gives the same two vectors other last bits elsewhere.
_EQUAL = np.float32(1e-6)


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
        return np.asarray((scores > right - _EQUAL).sum(axis=1) - 1, np.int64)

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
        groups: (n,) int64 from 0: pairs of one group share a fold. At least ``nested.FOLDS`` of them.
        done: Told of each fit.
    """
    x, y, q = unit(images), unit(documents), unit(queries)
    basis = nested.basis(x)
    x = x if basis is None else np.asarray(x @ basis, np.float32)
    folds = [_fold(x, y, q, groups, where) for where in nested.dealt(groups)]
    chosen = nested.choose(folds, done)
    measured = list(zip(folds, chosen.without, strict=True))
    sizes = np.concatenate([np.full(len(fold.images), len(fold.images)) for fold in folds])
    return Learned(
        map=nested.whole(chosen.map, basis),
        candidate=chosen.candidate,
        queries=len(sizes),
        gallery=float(np.mean([len(fold.images) for fold in folds])),
        text_to_image=_recalls(np.concatenate([fold.ranks(found, texts=True) for fold, found in measured]), sizes),
        image_to_text=_recalls(np.concatenate([fold.ranks(found, texts=False) for fold, found in measured]), sizes),
    )


def _fold(
    x: NDArray[np.float32],
    y: NDArray[np.float32],
    q: NDArray[np.float32],
    groups: NDArray[np.int64],
    where: NDArray[np.int64],
) -> _Fold:
    some = nested.asked(groups, where)
    return _Fold(Sums.of(x[where], y[where]), x[some], y[some], q[some])


def _recalls(ranks: NDArray[np.int64], sizes: NDArray[np.int64]) -> tuple[RecallAt, ...]:
    """Found or not, of the one right answer: a share of 1 or of none."""
    return tuple(nested.recall(k, (ranks < k).astype(np.float64), np.minimum(1, k / sizes)) for k in KS)
