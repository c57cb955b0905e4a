"""How fast encoders are here: timed on the same items for all, whether or not their vectors were there already."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from featstore.encode.encoder import Encoder, Read

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["items_per_second", "side_by_side"]

_ROUNDS = 3
_SECONDS = 2.0

# Enough that every thread has some batches to do.
_PER_THREAD = {"image": 16, "text": 64}
_TEXTS = 16


def items_per_second(encoder: Encoder, read: Read, count: int) -> float:
    """The median rate over three rounds, from reading an item to its vector; writing is left out.

    Every round takes the first items, for a fast model as many as fill two seconds, after one round that warms up.
    A model for which the warm-up alone takes longer than all rounds should is judged by that.

    Args:
        encoder: The model, on its device and with as many threads as a run would use.
        read: Gives an item's content; called from several threads, in every round again.
        count: How many items there are, in an order that has nothing to do with their size.

    Returns:
        Items a second; 0 where there are none, or none could be read.
    """
    return statistics.median(side_by_side([encoder], read, count)[0])


def side_by_side(
    encoders: Sequence[Encoder],
    read: Read,
    count: int,
    *,
    rounds: int = _ROUNDS,
    seconds: float | None = None,
    alike: bool = False,
    done: Callable[[], None] = lambda: None,
) -> list[tuple[float, ...]]:
    """The rates of several encoders, round by round in turn, so that what else the machine does weighs on all of them.

    Args:
        encoders: The models, or one model run in several ways.
        read: As in ``items_per_second``.
        count: How many items there are.
        rounds: How often each is timed.
        seconds: How long a round of one encoder takes, about; 2 by default.
        alike: Time all on the same number of items, such as the slowest does in that time, and in every round.
        done: Called after each that was timed.

    Returns:
        For each encoder its items a second, round by round.
    """
    if not count:
        return [(0.0,) * rounds for _ in encoders]
    timed = [_Timed(encoder, read, count, rounds, _SECONDS if seconds is None else seconds) for encoder in encoders]
    sizes = _common(timed) if alike else [one.size() for one in timed]
    rates: list[list[float]] = [[] for _ in timed]
    for turn in range(rounds):
        first = turn % len(timed)  # each round begins with another
        for at in [*range(first, len(timed)), *range(first)]:
            size = sizes[at]
            rates[at].append(timed[at].first if size is None else timed[at].rate(size))
            done()
    return [tuple(found) for found in rates]


def _common(timed: Sequence[_Timed]) -> list[int | None]:
    step = math.lcm(*(one.step for one in timed))
    slowest = min(one.rate(step) for one in timed)
    return [max(1, math.ceil(slowest * timed[0].seconds / step)) * step] * len(timed)


@dataclass
class _Timed:
    encoder: Encoder
    read: Read
    most: int
    rounds: int
    seconds: float
    first: float = 0.0

    @property
    def step(self) -> int:
        """As many items as let each thread do the same number of batches, so that none waits for another at the end."""
        encoder = self.encoder
        return encoder.threads * (encoder.batch if encoder.backbone.card.modality == "image" else _TEXTS)

    def size(self) -> int | None:
        """Warms up, and says how many items a round takes; None for a model that is judged by its warm-up."""
        modality = self.encoder.backbone.card.modality
        least = min(self.most, max(self.step, self.encoder.threads * _PER_THREAD[modality]))
        self.first = self.rate(least)
        if least > self.rounds * self.seconds * self.first:
            return None
        return min(self.most, max(least, int(self.first * self.seconds)))

    def rate(self, size: int) -> float:
        started = time.perf_counter()
        found = self.encoder.encode(self.read, size, _Nobody())
        return (size - len(found.errors)) / max(time.perf_counter() - started, 1e-9)


class _Nobody:
    def decoded(self, row: int, content: NDArray[np.uint8] | str) -> None:
        pass

    def done(self, count: int, rejected: int) -> None:
        pass
