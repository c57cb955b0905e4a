"""Exact nearest neighbours, one of each group: of the chunks of a text the best, of a product's pictures the best."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from featstore.neighbours.exact import nearest

__all__ = ["nearest_of_groups"]


def nearest_of_groups(
    own: int, vectors: NDArray[np.float32], groups: Sequence[object], k: int
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """The most similar row of each of the k groups that are nearest to a row, best first.

    Args:
        own: The row that is asked about; neither it nor its group is given.
        vectors: (n, d) float32.
        groups: The group of each row, as a string or number; a row whose group is None stands for itself.
        k: How many groups.

    Returns:
        Rows (m,) int64 and cosines (m,) float32; m is k, or the number of groups where there are fewer.
    """
    wanted = k
    while True:
        wanted = min(4 * wanted, len(vectors))
        rows, scores = nearest(vectors[own : own + 1], vectors, wanted)
        seen, kept = {groups[own]}, list[int]()
        for at, row in enumerate(rows[0].tolist()):
            group = groups[row]
            if row != own and len(kept) < k and (group is None or group not in seen):
                seen.add(group)
                kept.append(at)
        if len(kept) == k or wanted == len(vectors):
            return rows[0][kept], scores[0][kept]
