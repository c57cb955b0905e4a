"""What is near an item before the fine-tuning, and what is after it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from featstore.neighbours import nearest_others

__all__ = ["Nearest", "Neighbours", "nearest"]

_SHOWN = 6


@dataclass(frozen=True)
class Neighbours:
    """An item, and the nearest others by the old and by the new vectors, the nearest first."""

    item_id: str
    before: tuple[str, ...]
    after: tuple[str, ...]

    @property
    def named(self) -> tuple[str, ...]:
        """Every item that it names, itself first."""
        return (self.item_id, *self.before, *self.after)


@dataclass(frozen=True)
class Nearest:
    """How far neighbourhoods changed.

    Attributes:
        overlap: The mean share of an item's nearest that stay; 1 where there are no others.
        changed: The items whose neighbours changed most.
    """

    overlap: float
    changed: tuple[Neighbours, ...]


def nearest(
    ids: Sequence[str],
    before: NDArray[np.float32],
    after: NDArray[np.float32],
    *,
    k: int = 10,
    queries: int = 8,
    asked: int = 1_000,
    seed: int = 0,
) -> Nearest:
    """Finds the nearest others of the same items in both spaces, by exact cosine.

    Args:
        ids: (n,) the items.
        before: (n, d) float32, their old vectors.
        after: (n, e) float32, their new ones.
        k: How many neighbours are compared, fewer where there are not so many items.
        queries: How many items to show.
        asked: How many items are asked about at most; more are drawn by chance.
        seed: Of the drawing.
    """
    if len(ids) < 2:
        return Nearest(1.0, ())
    rows = np.arange(len(ids), dtype=np.int64)
    if len(ids) > asked:
        rows = np.sort(np.random.Generator(np.random.PCG64(seed)).choice(rows, asked, replace=False))
    old, new = (nearest_others(vectors, rows, k)[0] for vectors in (before, after))
    shares = (old[:, :, None] == new[:, None, :]).any(axis=2).mean(axis=1)
    most = [at for at in np.argsort(shares, kind="stable")[:queries].tolist() if shares[at] < 1]

    def names(found: NDArray[np.int64]) -> tuple[str, ...]:
        return tuple(str(ids[at]) for at in found[:_SHOWN].tolist())

    changed = tuple(Neighbours(str(ids[int(rows[at])]), names(old[at]), names(new[at])) for at in most)
    return Nearest(float(shares.mean()), changed)
