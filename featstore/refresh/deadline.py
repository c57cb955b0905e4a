"""A deadline: when the time is up nothing new is begun, and what is done is kept for the next run."""

from __future__ import annotations

import re
import threading
import time
from typing import TYPE_CHECKING

from featstore.errors import DeadlineError, SettingsError
from featstore.extract.progress import Reporter

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Until", "seconds_of"]

_PART = re.compile(r"(\d+(?:\.\d+)?)\s*([smhd])")
_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def seconds_of(text: str | float) -> float:
    """A length of time as a user gives it: ``45m``, ``2h``, ``1h30m``, or a number of seconds.

    Raises:
        SettingsError: It is none, or not above zero.
    """
    found = 0.0
    if isinstance(text, str):
        parts = _PART.findall(text)
        if parts and not _PART.sub("", text).strip():
            found = sum(float(number) * _UNITS[unit] for number, unit in parts)
        else:
            try:
                found = float(text)
            except ValueError:
                found = 0.0
    else:
        found = float(text)
    if not 0 < found < float("inf"):
        raise SettingsError(f"'{text}' is no length of time above zero.", hint="Write it as 90s, 45m, 2h, 1h30m or 3d.")
    return found


class Until(Reporter):
    """Passes on what it is told, and ends the run once the time is up.

    It does so where a piece of work is durable or a step begins, and only in the thread that made it: within a piece
    the run goes on, so that what is kept is always whole. What was decided on is published however late it is.

    Args:
        reporter: Told of progress.
        seconds: The time from now on.
        clock: For tests.
    """

    def __init__(self, reporter: Reporter, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._reporter, self._seconds, self._clock = reporter, seconds, clock
        self._end = clock() + seconds
        self._thread = threading.get_ident()
        self._published = False
        self._fate = "nothing was published"

    def afterwards(self) -> Until:
        """The same time for what is done once all is published: it ends there as well, and says so."""
        made = Until(self._reporter, self._seconds, self._clock)
        made._end, made._fate = self._end, "what was published stays"
        return made

    def stage(self, name: str, total: int | None = None) -> None:
        self._published = self._published or name == "publishing"
        self._check(f"'{name}' was not begun")
        self._reporter.stage(name, total)

    def between(self) -> None:
        self._check("no further shard was begun")
        self._reporter.between()

    def advance(self, done: int, rejected: int = 0) -> None:
        self._reporter.advance(done, rejected)

    def at(self, name: str, done: int, total: int | None) -> None:
        self._reporter.at(name, done, total)

    def message(self, text: str) -> None:
        self._reporter.message(text)

    def warning(self, text: str) -> None:
        self._reporter.warning(text)

    def _check(self, what: str) -> None:
        if self._published or threading.get_ident() != self._thread or self._clock() < self._end:
            return
        raise DeadlineError(
            f"the deadline of {self._seconds:,.0f} s has passed: {what}; {self._fate}.",
            hint="What is done is kept: run the same command again to go on from there.",
        )
