"""Cosine scores in both spaces, by their quantiles: what a threshold that an application holds means after the move."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from featstore.errors import SettingsError
from featstore.neighbours import cosines, lengths_of
from featstore.records import ScoreMap, ScoreQuantile

if TYPE_CHECKING:
    from collections.abc import Sequence

    from featstore.diff.agreement import Neighbourhoods
    from featstore.tables import FeatureTable

__all__ = ["SHARES", "Of", "carried", "score_map"]

Of = Literal["best", "tenth", "random"]
"""Of which pairs: a query and its nearest other item, its tenth nearest, or two items drawn at random."""

SHARES = (0.01, 0.05, 0.10, 0.25, 0.50, 0.75, 0.90, 0.95, 0.99)
"""The quantiles."""

_TENTH = 10
_PAIRS = 5_000


def score_map(before: FeatureTable, after: FeatureTable, near: Neighbourhoods, *, seed: int = 0) -> ScoreMap:
    """The quantiles of the scores of the same queries, and of the same pairs, in both spaces.

    Args:
        before: The table in the old space.
        after: The table in the new one.
        near: The neighbours of their common items; the tenth are left out where it holds fewer.
        seed: Of the drawing of pairs.

    Raises:
        IntegrityError: A table is damaged.
    """
    pairs = _pairs(len(near.ids), seed)
    random = [_between(table, near.ids, pairs) for table in (before, after)]
    tenth = near.a.shape[1] >= _TENTH
    return ScoreMap(
        queries=len(near.asked),
        pairs=len(pairs),
        best=_quantiles(near.cosines_a[:, 0], near.cosines_b[:, 0]),
        tenth=_quantiles(near.cosines_a[:, _TENTH - 1], near.cosines_b[:, _TENTH - 1]) if tenth else (),
        random=_quantiles(*random),
    )


def carried(scores: ScoreMap, threshold: float, of: Of = "best") -> float:
    """The threshold in the new space that lets through as much as one in the old space did.

    It is read off the quantiles, in straight lines between them. Above the last the line leads to 1, which equal
    vectors have in every space, below the first to -1.

    Args:
        scores: From the report.
        threshold: The cosine in the old space.
        of: Which scores the threshold is held against: those of nearest items (duplicates, the best hit), of tenth
            nearest (a page of hits) or of any two items.

    Returns:
        The cosine in the new space.

    Raises:
        SettingsError: The threshold is no cosine, or there are no such scores.
    """
    if of not in ("best", "tenth", "random"):
        raise SettingsError(f"of is '{of}'; allowed are best, tenth and random.")
    if not -1 <= threshold <= 1:
        raise SettingsError(f"threshold is {threshold}; a cosine lies between -1 and 1.")
    found: Sequence[ScoreQuantile] = getattr(scores, of)
    if not found:
        raise SettingsError(f"the report holds no scores of '{of}': there were too few items.")
    points = [(-1.0, -1.0), *((one.before, one.after) for one in found), (1.0, 1.0)]
    # Of equal old scores the first lets all of them through; where the old ones end at 1, 1 is that.
    old, first = np.unique([point[0] for point in points], return_index=True)
    new = np.maximum.accumulate([points[at][1] for at in first.tolist()])
    return float(np.interp(threshold, old, new))


def _quantiles(before: NDArray[np.floating], after: NDArray[np.floating]) -> tuple[ScoreQuantile, ...]:
    old, new = (np.quantile(np.clip(side.astype(np.float64), -1, 1), SHARES) for side in (before, after))
    found = zip(SHARES, old.tolist(), new.tolist(), strict=True)
    return tuple(ScoreQuantile(share=share, before=a, after=b) for share, a, b in found)


def _pairs(items: int, seed: int) -> NDArray[np.int64]:
    """(p, 2) int64: all pairs of different items where they are few, else so many drawn by chance."""
    if items * (items - 1) // 2 <= _PAIRS:
        return np.stack(np.triu_indices(items, 1), axis=1).astype(np.int64)
    generator = np.random.Generator(np.random.PCG64(seed))
    one = generator.integers(0, items, _PAIRS)
    other = generator.integers(0, items - 1, _PAIRS)
    return np.stack([one, other + (other >= one)], axis=1)


def _between(table: FeatureTable, ids: NDArray[np.object_], pairs: NDArray[np.int64]) -> NDArray[np.float32]:
    """(p,) the cosines of pairs of items."""
    used, at = np.unique(pairs, return_inverse=True)
    vectors = table.vectors_at(table.find([str(ids[one]) for one in used.tolist()]))
    at = at.reshape(pairs.shape)
    lengths = lengths_of(vectors)
    unit = (vectors / np.where(lengths > 0, lengths, 1)[:, None]).astype(np.float32)
    return cosines(unit[at[:, 0]], vectors, at[:, 1:])[:, 0]
