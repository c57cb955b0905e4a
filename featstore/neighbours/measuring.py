"""What an index finds of what exact search finds, and how fast; and the smallest settings that find enough."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featstore.neighbours.fast import exact
from featstore.neighbours.index import VectorIndex
from featstore.neighbours.recipes import Recipe
from featstore.neighbours.vectors import cosines, unit_queries

__all__ = ["Measured", "measure", "truth_of", "tune"]

# A score that close to the worst of the true ones is as good: equal vectors, and float32's last digits.
_EQUAL = 1e-6
_RESAMPLES = 1000
_SECONDS = 0.5
_RERANKS = (1, 2, 4, 8, 16, 32, 64)
# Wider steps would often find more than is asked for, and take longer for it.
_STEPS = (
    *(1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 14, 16, 18, 20, 22, 24, 28, 32, 36, 40, 44, 48, 56, 64, 80, 96, 112, 128),
    *(160, 192, 224, 256, 320, 384, 448, 512, 640, 768, 896, 1024, 1280, 1536, 1792, 2048, 2560, 3072, 3584, 4096),
)


@dataclass(frozen=True)
class Measured:
    """``recall`` is the mean share of the true k that are found, ``low`` to ``high`` its 95 % bootstrap interval."""

    recall: float
    low: float
    high: float
    queries_per_s_single: float
    queries_per_s_batch: float


def truth_of(
    queries: NDArray[Any],
    vectors: NDArray[Any],
    k: int,
    *,
    own: NDArray[np.int64] | None = None,
    groups: NDArray[np.int64] | None = None,
    lengths: NDArray[np.float64] | None = None,
) -> NDArray[np.int64]:
    """The k nearest rows of each query by exact search, the query's own group left out; -1 where there are fewer.

    Args:
        queries: (q, d).
        vectors: (n, d).
        k: How many.
        own: (q,) the group of each query, such as a number for its content; its rows do not count.
        groups: (n,) the group of each row.
        lengths: (n,) the vectors' lengths where they are known.
    """
    rows, _ = exact(queries, vectors, k + _own_most(own, groups), lengths=lengths)
    return _others(rows, k, own, groups)


def tune(
    index: VectorIndex,
    recipe: Recipe,
    vectors: NDArray[Any],
    queries: NDArray[Any],
    truth: NDArray[np.int64],
    *,
    k: int,
    recall: float,
    own: NDArray[np.int64] | None = None,
    groups: NDArray[np.int64] | None = None,
    threads: int | None = None,
) -> tuple[dict[str, int], float]:
    """The settings that find enough in the least time, or those that find most where none does.

    Enough is ``recall`` and what chance could take from it (1.64 standard errors), so that other queries reach it too.

    Args:
        index: The index; its labels are rows of ``vectors``.
        recipe: What it was built from.
        vectors: (n, d), as it was built from.
        queries: (q, d); others than those that ``measure`` is given.
        truth: (q, k) as ``truth_of`` gives them.
        k: How many are wanted.
        recall: The share to find.
        own: (q,) as ``truth_of`` was given it.
        groups: (n,) as ``truth_of`` was given them.
        threads: None for as many as the process may use cores.

    Returns:
        The settings and the mean recall with them.
    """
    asked = _Asked(vectors, queries, truth, k, own, groups)
    knob = next((name for name in index.settings if name != "rerank"), None)
    limit = index.limits.get(knob, 1) if knob else 1
    steps = [step for step in _STEPS if step < limit] + [limit] if knob == "nprobe" else [s for s in _STEPS if s >= 8]
    if knob is None:
        steps = [1]
    reranks = [0] if "rerank" not in index.settings else _RERANKS
    best: tuple[bool, float, float, dict[str, int]] | None = None
    for rerank in reranks:
        tried: dict[int, tuple[bool, float, float]] = {}

        def attempt(at: int, rerank: int = rerank, tried: dict[int, Any] = tried) -> bool:
            settings = _settings(knob, steps[at], rerank)
            if at not in tried:
                began = time.perf_counter()
                shares = asked.shares(index, settings, threads)
                seconds = time.perf_counter() - began
                error = shares.std() / max(1, len(shares)) ** 0.5
                tried[at] = (bool(shares.mean() - 1.64 * error >= recall), float(shares.mean()), seconds)
            return bool(tried[at][0])

        low, high = 0, len(steps) - 1
        while low < high:
            middle = (low + high) // 2
            low, high = (low, middle) if attempt(middle) else (middle + 1, high)
        enough = attempt(low)
        _, mean, seconds = tried[low]
        found = (enough, -seconds if enough else mean, mean, _settings(knob, steps[low], rerank))
        if best is not None and best[0] and not found[1] > best[1]:
            break  # more candidates only take longer from here on
        if best is None or found[:2] > best[:2]:
            best = found
        if knob is None and enough:
            break
    assert best is not None
    return best[3], best[2]


def measure(
    index: VectorIndex,
    search: dict[str, int],
    queries: NDArray[Any],
    truth: NDArray[np.int64],
    *,
    k: int,
    threads: int | None = None,
    vectors: NDArray[Any] | None = None,
    own: NDArray[np.int64] | None = None,
    groups: NDArray[np.int64] | None = None,
) -> Measured:
    """What an index finds with some settings, and how fast, one query at a time and all at once.

    Args:
        index: The index.
        search: The settings.
        queries: (q, d).
        truth: (q, k) as ``truth_of`` gives them.
        k: How many are wanted.
        threads: None for as many as the process may use cores.
        vectors: (n, d), as the index was built from; needed where it re-ranks. Without them, a hit is one that
            ``truth`` names, and of equal vectors only those named count.
        own: (q,) as ``truth_of`` was given it.
        groups: (n,) as ``truth_of`` was given them.
    """
    asked = _Asked(vectors, queries, truth, k, own, groups)
    began = time.perf_counter()
    shares = asked.shares(index, search, threads)
    batch = len(queries) / (time.perf_counter() - began)
    low, high = _interval(shares)
    single, began = 0, time.perf_counter()
    while single < len(queries) and time.perf_counter() - began < _SECONDS:
        index.search(queries[single : single + 1], k, search=search, threads=threads, vectors_at=asked.vectors_at)
        single += 1
    return Measured(
        recall=float(shares.mean()) if len(shares) else 1.0,
        low=low,
        high=high,
        queries_per_s_single=single / max(1e-9, time.perf_counter() - began),
        queries_per_s_batch=batch,
    )


class _Asked:
    """Queries and what they should find."""

    def __init__(
        self,
        vectors: NDArray[Any] | None,
        queries: NDArray[Any],
        truth: NDArray[np.int64],
        k: int,
        own: NDArray[np.int64] | None,
        groups: NDArray[np.int64] | None,
    ) -> None:
        self.queries, self.truth, self.k, self.own, self.groups = queries, truth[:, :k], k, own, groups
        self.vectors = vectors
        self.more = _own_most(own, groups)
        self.vectors_at: Callable[[NDArray[np.int64]], NDArray[Any]] | None = None
        if vectors is not None:
            held = vectors
            self.vectors_at = lambda labels: held[labels]
            self.unit = unit_queries(queries, vectors.shape[1])
            scores = cosines(self.unit, vectors, self.truth)
            self.least = np.where(self.truth >= 0, scores, np.inf).min(axis=1, initial=np.inf)

    def shares(self, index: VectorIndex, search: dict[str, int], threads: int | None) -> NDArray[np.float64]:
        """The share of the true ones that each query finds; queries without any left out."""
        labels, scores = index.search(
            self.queries, self.k + self.more, search=search, threads=threads, vectors_at=self.vectors_at
        )
        labels = _others(labels, self.k, self.own, self.groups)
        due = (self.truth >= 0).sum(axis=1)
        if self.vectors is not None:
            scores = cosines(self.unit, self.vectors, labels)
            hits = ((labels >= 0) & (scores >= self.least[:, None] - _EQUAL)).sum(axis=1)
        else:
            hits = ((labels[:, :, None] == self.truth[:, None, :]) & (labels >= 0)[:, :, None]).any(axis=2).sum(axis=1)
        asked = due > 0
        return np.asarray(np.minimum(hits, due)[asked] / due[asked], np.float64)


def _own_most(own: NDArray[np.int64] | None, groups: NDArray[np.int64] | None) -> int:
    """How many rows the largest group of a query has."""
    if own is None or groups is None or not len(own):
        return 0
    names, sizes = np.unique(groups, return_counts=True)
    places = np.searchsorted(names, own).clip(max=len(names) - 1)
    return int(np.where(names[places] == own, sizes[places], 0).max())


def _others(
    labels: NDArray[np.int64], k: int, own: NDArray[np.int64] | None, groups: NDArray[np.int64] | None
) -> NDArray[np.int64]:
    """The first k labels that are not of the query's own group."""
    if own is None or groups is None:
        return labels[:, :k]
    counts = (labels >= 0) & (groups[labels] != own[:, None])
    order = np.argsort(~counts, axis=1, kind="stable")[:, :k]
    return np.where(np.take_along_axis(counts, order, 1), np.take_along_axis(labels, order, 1), -1)


def _settings(knob: str | None, value: int, rerank: int) -> dict[str, int]:
    return {**({knob: value} if knob else {}), **({"rerank": rerank} if rerank else {})}


def _interval(shares: NDArray[np.float64]) -> tuple[float, float]:
    if not len(shares):
        return 1.0, 1.0
    picks = np.random.default_rng(0).integers(0, len(shares), (_RESAMPLES, len(shares)))
    low, high = np.quantile(shares[picks].mean(axis=1), (0.025, 0.975))
    return float(low), float(high)
