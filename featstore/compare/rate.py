"""How fast a model is here: timed on the same items for all, whether or not their vectors were there already."""

from __future__ import annotations

import statistics
import time
from typing import TYPE_CHECKING

from featstore.encode import Encoder
from featstore.sources import Source

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray

__all__ = ["items_per_second"]

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
        Items a second; 0 where there are none.
    """
    if not rows.num_rows:
        return 0.0
    reader = source.reader(rows)

    def rate(size: int) -> float:
        started = time.perf_counter()
        encoder.encode(reader.read, size, _Nobody())
        return size / max(time.perf_counter() - started, 1e-9)

    least = min(rows.num_rows, encoder.threads * _PER_THREAD[encoder.backbone.card.modality])
    first = rate(least)
    if least / first > _ROUNDS * _SECONDS:
        return first
    size = min(rows.num_rows, max(least, int(first * _SECONDS)))
    return statistics.median(rate(size) for _ in range(_ROUNDS))


class _Nobody:
    def decoded(self, row: int, content: NDArray[np.uint8] | str) -> None:
        pass

    def done(self, count: int, rejected: int) -> None:
        pass
