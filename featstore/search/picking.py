"""From the nearest rows to the hits of each query: without itself and what is not wanted, one of each group."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

import numpy as np
from numpy.typing import NDArray

__all__ = ["Hits", "Lookup", "pick"]

Lookup = Callable[[NDArray[np.int64], int], tuple[NDArray[np.int64], NDArray[np.float32]]]
"""Numbers of queries (q,) and k to rows (q, m) int64, -1 for none, and scores (q, m) float32, best first."""

Groups = Callable[[NDArray[np.int64]], Sequence[object]]
Hits = tuple[NDArray[np.int64], NDArray[np.float32]]
"""The rows of one query, best first, and their cosines."""

_WIDER = 4


def pick(
    lookup: Lookup,
    own: NDArray[np.int64],
    k: int,
    *,
    most: int,
    without: Collection[int] = (),
    groups: Groups | None = None,
    least: float | None = None,
) -> list[Hits]:
    """The k best rows of each query.

    Asks for more than k where hits may fall away, and again for more where too few are left.

    Args:
        lookup: Gives the nearest rows.
        own: (q,) int64, the row of the table that a query is, or -1; never among its own hits, nor is its group.
        k: How many for each.
        most: How many rows there are to be found.
        without: Rows that are nobody's hits.
        groups: Gives the group of rows; only the best of each group is taken, all rows without a group (None).
        least: The least cosine.

    Returns:
        For each query at most k rows (m,) int64 and cosines (m,) float32, best first.
    """
    if most <= 0:
        return [(np.zeros(0, np.int64), np.zeros(0, np.float32)) for _ in own]
    done: list[Hits | None] = [None] * len(own)
    wanted = k + len(without) + int((own >= 0).any())
    wanted = min(wanted if groups is None else _WIDER * wanted, most)
    open_ = np.arange(len(own))
    while len(open_):
        rows, scores = lookup(open_, wanted)
        keys = _keys(rows, own[open_], groups)
        left = []
        for at, query in enumerate(open_.tolist()):
            kept = _kept(rows[at], int(own[query]), k, without, keys)
            found = rows[at][kept], scores[at][kept]
            whole = len(rows[at]) < wanted or (rows[at] < 0).any() or wanted >= most
            below = least is not None and len(rows[at]) > 0 and scores[at][-1] < least
            if len(kept) == k or whole or below:
                high = slice(None) if least is None else found[1] >= least
                done[query] = found[0][high], found[1][high]
            else:
                left.append(query)
        open_ = np.array(left, np.int64)
        wanted = min(_WIDER * wanted, most)
    return [found for found in done if found is not None]


def _keys(rows: NDArray[np.int64], own: NDArray[np.int64], groups: Groups | None) -> dict[int, object]:
    if groups is None:
        return {}
    every = np.sort(np.concatenate([rows.reshape(-1), own]))
    every = every[np.diff(every, prepend=-1) > 0]  # without the -1 of no row
    return dict(zip(every.tolist(), groups(every), strict=True))


def _kept(rows: NDArray[np.int64], own: int, k: int, without: Collection[int], keys: dict[int, object]) -> list[int]:
    seen = {keys.get(own)} - {None}
    kept: list[int] = []
    for at, row in enumerate(rows.tolist()):
        if row < 0 or row == own or row in without:
            continue
        key = keys.get(row)
        if key is not None and key in seen:
            continue
        seen.add(key)
        kept.append(at)
        if len(kept) == k:
            break
    return kept
