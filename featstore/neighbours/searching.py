"""One search of a FAISS index: filtered, widened where too little is found, re-ranked by the vectors themselves."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featstore.neighbours import knobs
from featstore.neighbours.fast import exact
from featstore.neighbours.library import library
from featstore.neighbours.vectors import cosines

__all__ = ["directly", "search"]

Found = tuple[NDArray[np.int64], NDArray[np.float32]]

# Queries whose candidates are re-ranked at once.
_QUERIES = 256
_WIDER = 4
# Fewer queries than this are not worth decoding vectors for.
_FEW_QUERIES = 16


def directly(index: Any, k: int, settings: dict[str, int]) -> Any | None:
    """What FAISS is asked with where one call of it does: all vectors, those of the index; None for another kind."""
    chosen = _complete(index, settings)
    if not knobs.settable(index):
        return None
    return knobs.parameters(index, _as_many(chosen, k), None)


def search(
    index: Any,
    asked: NDArray[np.float32],
    k: int,
    allowed: NDArray[np.bool_] | None,
    settings: dict[str, int],
    vectors_at: Callable[[NDArray[np.int64]], NDArray[Any]] | None,
) -> Found:
    """The k best labels of each query and their scores; -1 and -inf where there are fewer."""
    passing = index.ntotal if allowed is None else int(np.count_nonzero(allowed))
    if passing == index.ntotal:
        allowed = None
    settings = _complete(index, settings)
    if vectors_at is None and passing >= k:
        return _candidates(index, asked, k, allowed, passing, settings)
    labels = np.full((len(asked), k), -1, np.int64)
    scores = np.full((len(asked), k), -np.inf, np.float32)
    rerank = settings.get("rerank", 1) if vectors_at is not None else 1
    wanted = min(k * rerank, passing)
    if not wanted:
        return labels, scores
    for start in range(0, len(asked), _QUERIES) if vectors_at is not None else (0,):
        some = asked[start : start + _QUERIES] if vectors_at is not None else asked
        found = _candidates(index, some, wanted, allowed, passing, settings)
        if vectors_at is not None:
            found = _rescored(some, found[0], vectors_at, min(k, wanted))
        labels[start : start + len(some), : found[0].shape[1]] = found[0]
        scores[start : start + len(some), : found[1].shape[1]] = found[1]
    return labels, scores


def _candidates(
    index: Any,
    asked: NDArray[np.float32],
    k: int,
    allowed: NDArray[np.bool_] | None,
    passing: int,
    settings: dict[str, int],
) -> Found:
    faiss = library()
    if isinstance(index, faiss.IndexFlat):
        return exact(asked, _held(index), k, allowed=allowed, lengths=np.broadcast_to(1.0, index.ntotal))
    if allowed is not None and isinstance(index, faiss.IndexHNSW) and passing <= _few(index, settings):
        return _compared(index, asked, k, allowed)
    if allowed is not None and not knobs.takes_filter(index):
        return _sieved(index, asked, k, allowed, settings)
    selector = None if allowed is None else knobs.bitmap(allowed)
    wide, settable = dict(settings), knobs.settable(index)
    if allowed is not None:
        for name in settable:
            wide[name] = -(-settings[name] * index.ntotal // passing)
    wide = _as_many(wide, k)
    scores, labels = index.search(asked, k, params=knobs.parameters(index, wide, selector))
    if not labels.size or np.minimum.reduce(labels, axis=None) >= 0:
        return labels, scores
    core = knobs.inner(index)
    limit = core.nlist if isinstance(core, faiss.IndexIVF) else index.ntotal
    while len(short := np.flatnonzero((labels < 0).any(axis=1))):
        if not settable or wide[settable[0]] >= limit:
            break
        name = settable[0]
        wide[name] = min(limit, _WIDER * wide[name])
        more = index.search(asked[short], k, params=knobs.parameters(index, wide, selector))
        scores[short], labels[short] = more
    if len(short) and isinstance(index, faiss.IndexHNSW):  # no walk leads to some: twins may link to twins alone
        labels[short], scores[short] = _compared(index, asked[short], k, allowed)
    scores[labels < 0] = -np.inf
    return labels, scores


def _complete(index: Any, settings: dict[str, int]) -> dict[str, int]:
    """With what FAISS has where nothing is said."""
    if all(name in settings for name in knobs.settable(index)):
        return settings
    return {**knobs.defaults(index), **settings}


def _as_many(settings: dict[str, int], k: int) -> dict[str, int]:
    """A walk's list holds what is asked for."""
    return {**settings, "efSearch": max(settings["efSearch"], k)} if "efSearch" in settings else settings


def _compared(index: Any, asked: NDArray[np.float32], k: int, allowed: NDArray[np.bool_] | None) -> Found:
    """Exact search among the vectors that a graph keeps."""
    faiss = library()
    storage = faiss.downcast_index(index.storage)
    if len(asked) < _FEW_QUERIES and not isinstance(storage, faiss.IndexFlat):
        # Decoded by FAISS's threads, vectors would then be multiplied by numpy's, which wait for those to go to sleep.
        chosen = None if allowed is None else faiss.SearchParameters(sel=knobs.bitmap(allowed))
        scores, labels = storage.search(asked, k, params=chosen)
        return labels, np.where(labels < 0, np.float32(-np.inf), scores)
    among = np.arange(index.ntotal) if allowed is None else np.flatnonzero(allowed)
    places, scores = exact(asked, _held_at(index, among), k)
    return np.where(places < 0, -1, among[places]), scores


def _few(index: Any, settings: dict[str, int]) -> int:
    """So many vectors are compared one by one as fast as a graph is walked whose steps mostly lead to others.

    A walk compares about 20 vectors for each entry of its list, and its list grows as fewer vectors pass.
    """
    return int((20 * settings["efSearch"] * index.ntotal) ** 0.5)


def _held(index: Any) -> NDArray[np.float32]:
    """The vectors of a flat index, where they lie."""
    faiss = library()
    return np.asarray(faiss.rev_swig_ptr(index.get_xb(), index.ntotal * index.d).reshape(index.ntotal, index.d))


def _held_at(index: Any, labels: NDArray[np.int64]) -> NDArray[np.float32]:
    faiss = library()
    storage = faiss.downcast_index(index.storage)
    if isinstance(storage, faiss.IndexFlat):
        return np.asarray(_held(storage)[labels])
    return np.asarray(storage.reconstruct_batch(labels))


def _sieved(
    index: Any, asked: NDArray[np.float32], k: int, allowed: NDArray[np.bool_], settings: dict[str, int]
) -> Found:
    """For the kinds whose search takes no filter: more is asked for until enough of it passes."""
    wanted = k
    while True:
        wanted = min(_WIDER * wanted, index.ntotal)
        scores, labels = index.search(asked, wanted, params=knobs.parameters(index, settings, None))
        passes = (labels >= 0) & allowed[labels]
        if wanted == index.ntotal or (passes.sum(axis=1) >= k).all():
            break
    order = np.argsort(~passes, axis=1, kind="stable")[:, :k]
    kept = np.take_along_axis(passes, order, 1)
    labels, scores = np.take_along_axis(labels, order, 1), np.take_along_axis(scores, order, 1)
    return np.where(kept, labels, -1), np.where(kept, scores, np.float32(-np.inf))


def _rescored(
    asked: NDArray[np.float32],
    labels: NDArray[np.int64],
    vectors_at: Callable[[NDArray[np.int64]], NDArray[Any]],
    k: int,
) -> Found:
    known = np.sort(labels[labels >= 0])
    known = known[np.diff(known, prepend=-1) > 0]  # numpy's own function for this loads a package for masks
    places = np.where(labels < 0, -1, np.searchsorted(known, labels))
    places = np.sort(places, axis=1)  # in the order of labels, so that equal scores stay in it
    scores = cosines(asked, np.asarray(vectors_at(known)), places)
    best = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    places = np.take_along_axis(places, best, 1)
    return np.where(places < 0, -1, known[places]), np.take_along_axis(scores, best, 1)
