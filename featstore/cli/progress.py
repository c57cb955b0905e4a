"""A run's progress on stderr: a bar for a terminal, now and then a line for a log."""

from __future__ import annotations

import sys
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, ClassVar

from featstore.cli import console, logs
from featstore.extract.progress import Reporter

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

__all__ = ["BarReporter", "JsonReporter", "LineReporter", "reporting"]

# A rate is that of the last half minute, so that an ETA follows what happens now.
_WINDOW_SECONDS = 30.0


@contextmanager
def reporting(*, quiet: bool) -> Iterator[Reporter]:
    """The reporter that fits this process's stderr, for the length of the block.

    Args:
        quiet: Show nothing.
    """
    if quiet:
        yield Reporter()
    elif logs.active():
        yield JsonReporter()
    elif sys.stderr.isatty():
        bar = BarReporter()
        try:
            yield bar
        finally:
            bar.close()
    else:
        yield LineReporter()


class _Counting(Reporter):
    """Counts a stage's items and estimates when it ends; what is shown is up to ``_show``."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._begin("", None)

    def stage(self, name: str, total: int | None = None) -> None:
        with self._lock:
            self._begin(name, total)
            self._show(begins=True)

    def advance(self, done: int, rejected: int = 0) -> None:
        with self._lock:
            self._done += done
            self._rejected += rejected
            self._sample()
            self._show()

    def at(self, name: str, done: int, total: int | None) -> None:
        with self._lock:
            begins = name != self._name
            if begins:
                self._begin(name, total)
            self._done, self._total = done, total
            self._sample()
            self._show(begins=begins)

    def _begin(self, name: str, total: int | None) -> None:
        self._name, self._total = name, total
        self._done = self._rejected = 0
        self._samples: deque[tuple[float, int]] = deque()

    def _sample(self) -> None:
        # The first sample is only a beginning: a resumed run starts with what was done before.
        now = time.monotonic()
        self._samples.append((now, self._done))
        while len(self._samples) > 2 and now - self._samples[0][0] > _WINDOW_SECONDS:
            self._samples.popleft()

    def _rate(self) -> float | None:
        if len(self._samples) < 2 or self._samples[-1][0] == self._samples[0][0]:
            return None
        (then, before), (now, after) = self._samples[0], self._samples[-1]
        rate = (after - before) / (now - then)
        return rate if rate > 0 else None

    def _speed(self) -> str:
        if (rate := self._rate()) is None:
            return ""
        said = f"{rate:,.1f} items/s"
        if self._total is not None:
            said += f", {_clock((self._total - self._done) / rate)} left"
        return said

    def _counts(self) -> str:
        if not self._done and self._total is None:
            return ""
        of = f" of {self._total:,}" if self._total is not None else ""
        rejected = f", {self._rejected:,} rejected" if self._rejected else ""
        return f"{self._done:,}{of}{rejected}"

    def _show(self, *, begins: bool = False) -> None:
        raise NotImplementedError


class LineReporter(_Counting):
    """Writes a plain line when a stage begins and every few seconds of it."""

    every: ClassVar[float] = 5.0

    def __init__(self) -> None:
        self._last = 0.0
        super().__init__()

    def message(self, text: str) -> None:
        console.complain(console.plain(text))

    def warning(self, text: str) -> None:
        console.complain(f"warning: {console.plain(text)}")

    def _show(self, *, begins: bool = False) -> None:
        now = time.monotonic()
        if begins or now - self._last >= self.every:
            self._last = now
            self._say()

    def _say(self) -> None:
        said = ", ".join(part for part in (self._counts(), self._speed()) if part)
        console.complain(f"{self._name}: {said}" if said else self._name)


class JsonReporter(LineReporter):
    """Writes the same as JSON objects: ``stage``, ``done``, ``total``, ``rejected``, ``items_per_s`` and ``eta_s``."""

    def message(self, text: str) -> None:
        logs.note("info", text, stage=self._name or None)

    def warning(self, text: str) -> None:
        logs.note("warning", text, stage=self._name or None)

    def _say(self) -> None:
        rate = self._rate()
        left = None if rate is None or self._total is None else max(0.0, (self._total - self._done) / rate)
        counted = self._done if self._done or self._total is not None else None
        logs.note(
            "info",
            f"{self._name}: {said}" if (said := self._counts()) else self._name,
            stage=self._name,
            done=counted,
            total=self._total,
            rejected=self._rejected or None,
            items_per_s=None if rate is None else round(rate, 1),
            eta_s=None if left is None else round(left),
        )


class BarReporter(_Counting):
    """Draws one bar, that of the current stage."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn

        self._progress: Progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.fields[said]}", markup=False),
            console=Console(file=sys.stderr, highlight=False),
            transient=True,
            refresh_per_second=8,
        )
        self._task: TaskID | None = None
        super().__init__()
        self._progress.start()

    def close(self) -> None:
        """Removes the bar."""
        self._progress.stop()

    def message(self, text: str) -> None:
        self._progress.console.print(console.plain(text), markup=False)

    def warning(self, text: str) -> None:
        self._progress.console.print(f"warning: {console.plain(text)}", markup=False, style="yellow")

    def _show(self, *, begins: bool = False) -> None:
        said = ", ".join(part for part in (self._counts(), self._speed()) if part)
        if begins or self._task is None:
            if self._task is not None:
                self._progress.remove_task(self._task)
            self._task = self._progress.add_task(self._name, total=self._total, said=said)
        self._progress.update(self._task, completed=self._done, total=self._total, said=said)


def _clock(seconds: float) -> str:
    whole = max(0, round(seconds))
    if whole < 90:
        return f"{whole} s"
    if whole < 5400:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
