"""Threads that take numbered pieces of work in order and stop together.

Decoding, tokenising and inference all release the interpreter's lock, so one thread per core that
does a batch from its first byte to its vectors keeps every core busy without queues between stages;
what is in flight is bounded by the number of threads.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from featstore.records import StageSeconds

__all__ = ["Clock", "run"]


class Clock:
    """Adds up the thread-seconds of each stage; one per thread, summed at the end."""

    def __init__(self) -> None:
        self.seconds = {"read": 0.0, "decode": 0.0, "infer": 0.0, "write": 0.0}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Charges the block's time to a stage."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] += time.perf_counter() - start

    @staticmethod
    def total(clocks: list[Clock]) -> StageSeconds:
        """The sum over several threads."""
        return StageSeconds(**{name: sum(c.seconds[name] for c in clocks) for name in clocks[0].seconds})


def run(pieces: int, work: Callable[[int, Clock], None], *, threads: int) -> list[Clock]:
    """Does ``work(piece, clock)`` for each piece, on several threads.

    A piece that raises stops all threads after the piece in hand; so does an exception in the
    calling thread, such as an interrupt. Either is raised here once every thread has ended.

    Args:
        pieces: How many pieces there are; each is done once, taken in order.
        work: Called with the piece's number and the thread's clock.
        threads: How many threads work; never more than pieces.

    Returns:
        The clock of each thread.
    """
    numbers = itertools.count()
    stop = threading.Event()
    failures: list[BaseException] = []
    clocks = [Clock() for _ in range(max(1, min(threads, pieces)))]

    def loop(clock: Clock) -> None:
        while not stop.is_set() and (piece := next(numbers)) < pieces:
            try:
                work(piece, clock)
            except BaseException as error:
                failures.append(error)
                stop.set()

    workers = [threading.Thread(target=loop, args=(clock,), name="featstore-encode", daemon=True) for clock in clocks]
    try:
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
    except BaseException:
        stop.set()
        for worker in workers:
            if worker.ident is not None:
                worker.join()
        raise
    if failures:
        raise failures[0]
    return clocks
