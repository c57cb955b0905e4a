"""How fast a model is here: timed on the same items for all, whether or not their vectors were there already."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from featstore.encode import Encoder
from featstore.sources import Source

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray

__all__ = ["items_per_second", "side_by_side"]

_ROUNDS = 3
_SECONDS = 2.0

# Enough that every thread has some batches to do.
_PER_THREAD = {"image": 16, "text": 64}


def items_per_second(encoder: Encoder, source: Source, rows: pa.Table) -> float:
    """The median rate over three rounds, from reading an item to its vector; writing is left out.

    Every round takes the first items, for a fast model as many as fill two seconds, after one round that warms up.
    A model for which the warm-up alone takes longer than all rounds should is judged by that.

    Args:
        encoder: The model, on its device and with as many threads as a run would use.
        source: Where the items are.
        rows: Rows of its scan, in an order that has nothing to do with their size.

    Returns:
        Items a second; 0 where there are none, or none could be read.
    """
    return side_by_side([encoder], source, rows)[0]


def side_by_side(encoders: Sequence[Encoder], source: Source, rows: pa.Table) -> list[float]:
    """The same of several models, round by round in turn, so that what else the machine does weighs on all of them.

    Args:
        encoders: The models.
        source: Where the items are.
        rows: Rows of its scan.
    """
    if not rows.num_rows:
        return [0.0] * len(encoders)
    timed = [_Timed(encoder, source, rows) for encoder in encoders]
    sizes = [one.size() for one in timed]
    rates: list[list[float]] = [[] for _ in timed]
    for _ in range(_ROUNDS):
        for one, size, found in zip(timed, sizes, rates, strict=True):
            found.append(one.first if size is None else one.rate(size))
    return [statistics.median(found) for found in rates]


@dataclass
class _Timed:
    encoder: Encoder
    source: Source
    rows: pa.Table
    first: float = 0.0

    def __post_init__(self) -> None:
        self._reader = self.source.reader(self.rows)

    def size(self) -> int | None:
        """Warms up, and says how many items a round takes; None for a model that is judged by its warm-up."""
        most = self.rows.num_rows
        least = min(most, self.encoder.threads * _PER_THREAD[self.encoder.backbone.card.modality])
        self.first = self.rate(least)
        if least > _ROUNDS * _SECONDS * self.first:
            return None
        return min(most, max(least, int(self.first * _SECONDS)))

    def rate(self, size: int) -> float:
        started = time.perf_counter()
        found = self.encoder.encode(self._reader.read, size, _Nobody())
        return (size - len(found.errors)) / max(time.perf_counter() - started, 1e-9)


class _Nobody:
    def decoded(self, row: int, content: NDArray[np.uint8] | str) -> None:
        pass

    def done(self, count: int, rejected: int) -> None:
        pass
