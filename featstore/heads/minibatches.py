"""Rows in a shuffled order, some at a time, from arrays that need not fit into memory."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from featstore.errors import UsageError

__all__ = ["moments", "shuffled"]

# Rows read at once where all are walked through.
_WALK = 2_048

# An array on disk is read in stretches of so many neighbouring rows; so many stretches are shuffled together. Single
# rows at random would read a page each, and every page again in each epoch.
_STRETCH, _TOGETHER = 64, 256


def moments(vectors: NDArray[np.floating], rows: NDArray[np.int64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The mean of each value over the rows, and what brings its spread to 1 (0 for values that never vary).

    Args:
        vectors: (n, d), in memory or memory-mapped.
        rows: (m,) int64, in rising order.

    Returns:
        Mean and factor, (d,) float64 each.

    Raises:
        UsageError: A value is not finite.
    """
    dim = vectors.shape[1]
    shift = np.asarray(vectors[rows[:1]], np.float64)[0] if len(rows) else np.zeros(dim)
    total, squares = np.zeros(dim), np.zeros(dim)
    for start in range(0, len(rows), _WALK):
        block = np.asarray(vectors[rows[start : start + _WALK]], np.float64) - shift
        total += block.sum(axis=0)
        squares += np.einsum("nd,nd->d", block, block)
    if not np.isfinite(squares).all():
        raise UsageError("a vector holds a value that is not finite (NaN or infinite).", hint="See: featstore verify")
    count = max(1, len(rows))
    mean = total / count
    spread = np.sqrt(np.maximum(squares / count - mean**2, 0.0))
    alive = spread > 1e-6 * max(float(spread.max(initial=0.0)), 1e-300)
    return shift + mean, np.where(alive, 1 / np.where(alive, spread, 1.0), 0.0)


def shuffled(
    vectors: NDArray[np.floating], rows: NDArray[np.int64], batch: int, generator: np.random.Generator
) -> Iterator[NDArray[np.int64]]:
    """Row numbers in a random order, ``batch`` at a time.

    An array in memory is shuffled whole. Of one on disk, stretches of neighbouring rows are drawn, and what some of
    them hold is shuffled: what is read at once is bounded, and lies together on the disk.

    Args:
        vectors: What the rows are of.
        rows: (m,) int64, in rising order.
        batch: Rows at a time; the last ones may be fewer.
        generator: Of the order.
    """
    if not isinstance(vectors, np.memmap):
        order = generator.permutation(rows)
        yield from (order[start : start + batch] for start in range(0, len(order), batch))
        return
    stretches = generator.permutation(np.arange(0, len(rows), _STRETCH))
    kept = np.zeros(0, np.int64)
    for start in range(0, len(stretches), _TOGETHER):
        drawn = [rows[first : first + _STRETCH] for first in stretches[start : start + _TOGETHER].tolist()]
        kept = np.concatenate([kept, generator.permutation(np.concatenate(drawn))])
        whole = len(kept) // batch * batch
        yield from (kept[at : at + batch] for at in range(0, whole, batch))
        kept = kept[whole:]
    if len(kept):
        yield kept
