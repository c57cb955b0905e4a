"""Is it as fast as the model before? Both are timed in turn on the same items."""

from __future__ import annotations

import statistics
import time
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from featstore.finetune.gates.outcome import Gate
from featstore.records import GateOutcome

if TYPE_CHECKING:
    from featstore.encode import Encoder
    from featstore.encode.encoder import Read

__all__ = ["NAME", "latency"]

NAME = "latency"

_ROUNDS = 5

# A machine that is busy with something else slows one of the two by chance: what looks slower is timed again.
_TRIES = 3

# Items of a round: as many as take about so many seconds, but a batch of each thread at least.
_SECONDS = 0.5
_LEAST, _MOST = 8, 256


def latency(old: Encoder, new: Encoder, read: Read, count: int, most: float) -> GateOutcome:
    """Refuses where an item takes too many times as long as with the model before.

    Rounds take turns in which of the two comes first; their median ratio counts. One above the limit is measured
    three times, and the least of them counts.

    Args:
        old: The model before.
        new: The new one.
        read: Gives an item's content.
        count: How many items there are, at least one.
        most: The limit.
    """
    gate = Gate(NAME, most, "at most")
    first = min(count, _LEAST)
    for encoder in (old, new):
        _seconds(encoder, read, first)  # the first call of a runtime is its slowest
    each = _seconds(old, read, first) / first
    items = min(count, max(first, min(_MOST, round(_SECONDS / max(each, 1e-6)))))
    best, seconds = float("inf"), 0.0
    for _ in range(_TRIES):
        ratio, took = _ratio(old, new, read, items)
        if ratio < best:
            best, seconds = ratio, took
        if best <= most:
            break
    return gate.judged(best, f"times the time an item, now {1000 * seconds / items:.2f} ms; {items:,} items a round")


def _ratio(old: Encoder, new: Encoder, read: Read, items: int) -> tuple[float, float]:
    """The median over the rounds of new against old, and the median seconds of a round of the new one."""
    ratios, took = [], []
    for number in range(_ROUNDS):
        pair = (old, new) if number % 2 == 0 else (new, old)
        seconds = {id(encoder): _seconds(encoder, read, items) for encoder in pair}
        ratios.append(seconds[id(new)] / max(seconds[id(old)], 1e-9))
        took.append(seconds[id(new)])
    return statistics.median(ratios), statistics.median(took)


def _seconds(encoder: Encoder, read: Read, items: int) -> float:
    started = time.perf_counter()
    encoder.encode(read, items, _Nobody())
    return time.perf_counter() - started


class _Nobody:
    def decoded(self, row: int, content: NDArray[np.uint8] | str) -> None:
        pass

    def done(self, count: int, rejected: int) -> None:
        pass
