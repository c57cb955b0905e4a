"""How far models agree on what is near what; needs no labels."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from featstore.neighbours import nearest_others

__all__ = ["farthest", "overlap"]


def overlap(
    spaces: Mapping[str, NDArray[np.float32]], queries: NDArray[np.int64], k: int = 10
) -> dict[str, dict[str, float]]:
    """The mean share of the k nearest neighbours that two models have in common.

    Two models that have nothing to do with each other share about k / (n - 1).

    Args:
        spaces: By ``space_id``, (n, dim) float32 of the same n items, no two of equal content.
        queries: (q,) int64 rows of the items to ask for.
        k: Neighbours of each.

    Returns:
        By both ``space_id``; 1.0 for a space with itself, nothing where there are no neighbours.
    """
    found = {space: nearest_others(vectors, queries, k)[0] for space, vectors in spaces.items()}
    if not all(rows.size for rows in found.values()):
        return {}
    return {
        one: {other: round(float((a[:, :, None] == b[:, None, :]).any(axis=2).mean()), 6) for other, b in found.items()}
        for one, a in found.items()
    }


def farthest(spaces: Mapping[str, NDArray[np.float32]], count: int) -> NDArray[np.int64]:
    """Items that are far from each other, all models taken together: each the one farthest from those before it.

    The first is item 0. A model's distances (1 - cosine) count in units of their mean, so that none outweighs the
    others because its vectors lie closer together.

    Args:
        spaces: By ``space_id``, (n, dim) float32 of the same n items.
        count: How many; at most n.

    Returns:
        (min(count, n),) int64 rows.
    """
    items = len(next(iter(spaces.values()))) if spaces else 0
    units = []
    for vectors in spaces.values():
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
        unit = vectors / np.where(lengths > 0, lengths, 1)
        mean = 1 - float(np.square(unit.mean(axis=0)).sum())
        units.append((unit, mean if mean > 0 else 1.0))
    chosen = [0] if items else []
    nearest_chosen = np.full(items, np.inf)
    while len(chosen) < min(count, items):
        distances = sum(((1 - unit @ unit[chosen[-1]]) / mean for unit, mean in units), np.zeros(items))
        nearest_chosen = np.minimum(nearest_chosen, distances)
        nearest_chosen[chosen] = -np.inf
        chosen.append(int(nearest_chosen.argmax()))
    return np.array(chosen, np.int64)
