"""How good one ranking is, by the judgements of its query: what trec_eval computes.

A judged item that the table does not hold counts like one that was not found, and an item without a judgement as
irrelevant. Equal scores stay in the order in which the search gave them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

__all__ = ["CUT", "names", "rate"]

CUT = 10
"""Where nDCG, MRR and the first recall end."""


def names(k: int) -> tuple[str, ...]:
    """The metrics, in the order of ``rate``."""
    return (f"ndcg@{CUT}", f"mrr@{CUT}", *(f"recall@{cut}" for cut in dict.fromkeys((CUT, k))))


def rate(rankings: Sequence[Sequence[str]], judged: Sequence[Mapping[str, int]], k: int) -> NDArray[np.float64]:
    """Rates rankings.

    nDCG: an item's gain is its relevance itself (not 2 to its power), discounted by the logarithm of its rank plus 1,
    and compared with the best order of all that is judged. MRR: one over the rank of the first relevant item.
    Recall: the share of the relevant items that are among the first. Relevant is 1 or more.

    Source: Järvelin and Kekäläinen, Cumulated gain-based evaluation of IR techniques (2002), with the discount of
    trec_eval; BEIR (Thakur et al. 2021) reports the same.

    Args:
        rankings: For each query the items that were found, best first.
        judged: For each query the relevance of its judged items, at least one above 0.
        k: Where the second recall ends; at least ``CUT``.

    Returns:
        (q, m) float64, a column for each of ``names``.
    """
    return np.array([_rate(*pair, k) for pair in zip(rankings, judged, strict=True)], np.float64).reshape(
        len(rankings), len(names(k))
    )


def _rate(ranking: Sequence[str], judged: Mapping[str, int], k: int) -> list[float]:
    grades = [max(0, judged.get(item, 0)) for item in ranking]
    ideal = sorted((max(0, grade) for grade in judged.values()), reverse=True)
    first = next((at for at, grade in enumerate(grades[:CUT]) if grade), None)
    relevant = sum(grade > 0 for grade in ideal)
    recalls = [sum(grade > 0 for grade in grades[:cut]) / relevant for cut in dict.fromkeys((CUT, k))]
    return [_gain(grades[:CUT]) / _gain(ideal[:CUT]), 0.0 if first is None else 1 / (first + 1), *recalls]


def _gain(grades: Sequence[int]) -> float:
    return sum(grade / math.log2(at + 2) for at, grade in enumerate(grades))
