"""Items unlike everything that was there before."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from featstore.drift.sides import Null, Sides

__all__ = ["novelty"]

# The share of all items that counts as far out.
_FAR = 0.05


def novelty(before: NDArray[np.float32], after: NDArray[np.float32], draws: int, seed: int) -> Null:
    """How much larger the share of far items is among the new than among the old.

    Half of the old items are what the others, old and new, are held against: an item is far if the cosine with its
    nearest there is among the lowest twentieth of all. The two then stand on the same footing.

    Args:
        before: (n, d) float32 at unit length.
        after: (m, d) float32 at unit length.
        draws: Permutations.
        seed: Of the halves and the permutations.
    """
    order = np.random.default_rng(seed).permutation(len(before))
    known, rest = before[order[: len(before) // 2]], before[order[len(before) // 2 :]]
    nearest = (np.concatenate([rest, after]) @ known.T).max(axis=1)
    far = np.zeros(len(nearest), np.float32)
    mixed = np.random.default_rng(seed + 2).permutation(len(nearest))  # equal ones in an order that means nothing
    far[mixed[np.argsort(nearest[mixed], kind="stable")][: max(1, round(_FAR * len(nearest)))]] = 1
    sides = Sides.of(len(rest), len(after), draws, seed + 1)
    return sides.null(far @ sides.contrast)
