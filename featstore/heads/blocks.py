"""Sums and products over many rows: block by block, on all cores, to the same bits however many there are.

The rows are cut into a fixed number of chunks, each chunk into blocks that stay in the processor's cache. Threads take
whole chunks, every product runs on one thread of its own, and the chunks' results are added in order. The vectors stay
as they are, in memory or on disk: a block of them is read, made float64 and, where asked, of length 1.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from featstore.errors import UsageError
from featstore.heads.threads import one_thread
from featstore.machine import available_cpus

__all__ = ["BLOCK", "Rows", "Workers", "blocks", "inverse_lengths", "product", "working"]

BLOCK = 512
_CHUNKS = 8

# Of as many values a copy in float64 is kept (128 MB), since it is read often; of more, blocks are made each time.
_KEPT = 16_000_000

# Logits of more values than that (320 MB) are kept in float32.
_EXACT = 40_000_000

_T = TypeVar("_T")


class Workers:
    """Threads that take chunks of rows."""

    def __init__(self) -> None:
        self._pool: ThreadPoolExecutor | None = None

    def over(self, count: int, work: Callable[[slice], _T], *, chunks: int = _CHUNKS) -> list[_T]:
        """Calls ``work`` with every chunk of ``count`` rows; the results in the chunks' order."""
        step = max(1, math.ceil(count / chunks / BLOCK)) * BLOCK
        parts = [slice(start, min(start + step, count)) for start in range(0, count, step)]
        if len(parts) < 3 or available_cpus() < 2:
            return [work(part) for part in parts]
        if self._pool is None:
            self._pool = ThreadPoolExecutor(min(available_cpus(), _CHUNKS), thread_name_prefix="heads")
        return list(self._pool.map(work, parts))

    def close(self) -> None:
        """Ends the threads."""
        if self._pool is not None:
            self._pool.shutdown()
            self._pool = None


@contextmanager
def working() -> Iterator[Workers]:
    """Workers, and every matrix product on the thread that asks for it: the bits depend on no number of cores."""
    workers = Workers()
    try:
        with one_thread():
            yield workers
    finally:
        workers.close()


@dataclass(frozen=True, eq=False)
class Rows:
    """Some rows of the vectors, as a fit reads them.

    Attributes:
        vectors: (n, d).
        at: (m,) which rows, ascending.
        lengths: (n,) inverse lengths, where the rows are to be of length 1.
    """

    vectors: NDArray[np.floating]
    at: NDArray[np.int64]
    lengths: NDArray[np.float64] | None = None

    def __len__(self) -> int:
        return len(self.at)

    def block(self, part: slice) -> NDArray[np.float64]:
        """(b, d) float64, a copy of its own."""
        rows = self.at[part]
        values = np.asarray(self.vectors[rows]).astype(np.float64)
        if self.lengths is not None:
            values *= self.lengths[rows, None]
        return values

    def kept(self) -> Rows:
        """The same rows, made float64 once where they are few enough."""
        if len(self) * self.vectors.shape[1] > _KEPT:
            return self
        return _Exact(self.block(slice(None)), np.arange(len(self)))


class _Exact(Rows):
    def block(self, part: slice) -> NDArray[np.float64]:
        return np.asarray(self.vectors[part], np.float64)


def blocks(chunk: slice, step: int = BLOCK) -> Iterator[slice]:
    """A chunk's blocks."""
    return (slice(at, min(at + step, chunk.stop)) for at in range(chunk.start, chunk.stop, step))


def inverse_lengths(workers: Workers, vectors: NDArray[np.floating]) -> NDArray[np.float64]:
    """1 / length of every vector; 1 for those of length 0.

    Raises:
        UsageError: A vector holds a value that is not finite.
    """
    found = np.empty(len(vectors))

    def work(chunk: slice) -> None:
        for part in blocks(chunk):
            values = np.asarray(vectors[part]).astype(np.float64)
            found[part] = np.vecdot(values, values)

    workers.over(len(vectors), work)
    if not np.isfinite(found).all():
        at = int(np.flatnonzero(~np.isfinite(found))[0])
        raise UsageError(
            f"the vector of row {at:,} holds a value that is not finite (NaN or infinite).",
            hint="See: featstore verify",
        )
    np.sqrt(found, out=found)
    return np.asarray(1 / np.where(found > 0, found, 1), np.float64)


def product(
    workers: Workers, rows: Rows, weights: NDArray[np.float64], bias: NDArray[np.float64]
) -> NDArray[np.floating]:
    """``x · weightsᵀ + bias`` for each row.

    Args:
        workers: To share the work.
        rows: m rows of d values.
        weights: (c, d).
        bias: (c,).

    Returns:
        (m, c) float64; float32 where that would take more than 320 MB.
    """
    exact = len(rows) * len(bias) <= _EXACT
    found = np.empty((len(rows), len(bias)), np.float64 if exact else np.float32)
    across = np.ascontiguousarray(weights.T)

    def work(chunk: slice) -> None:
        for part in blocks(chunk):
            found[part] = rows.block(part) @ across + bias

    workers.over(len(rows), work)
    return found
