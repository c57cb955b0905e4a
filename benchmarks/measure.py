"""What the benchmarks share: paired rounds, ratios of medians, the machine in a line, one file of results."""

from __future__ import annotations

import os
import platform
import statistics
import sys
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path

__all__ = ["machine", "median", "paired", "ratio", "rounds_of", "write"]


def paired(ways: dict[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
    """Seconds of each way, round by round; each round begins with another way.

    Args:
        ways: Functions that do the work once and return its seconds.
        rounds: How often.
    """
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    order = list(ways.items())
    for number in range(rounds):
        for name, way in order[number % len(order) :] + order[: number % len(order)]:
            seconds[name].append(way())
            print(f"  round {number + 1}/{rounds}  {name}: {seconds[name][-1]:.2f} s", file=sys.stderr, flush=True)
    return seconds


def ratio(base: Sequence[float], seconds: Sequence[float]) -> str:
    """How many times faster than ``base``, paired by round: median [min–max]."""
    found = [b / s for b, s in zip(base, seconds, strict=True)]
    return f"{statistics.median(found):.2f} [{min(found):.2f}–{max(found):.2f}]"


def median(seconds: Sequence[float]) -> float:
    """The median of some seconds."""
    return statistics.median(seconds)


def machine(*packages: str) -> str:
    """The processor and the versions, without names or paths."""
    model = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        pass
    versions = ", ".join(f"{name} {version(name)}" for name in packages)
    return f"{model}, {os.cpu_count()} cores · Python {platform.python_version()}, {versions}"


def write(name: str, lines: Sequence[str], *, keep: bool) -> None:
    """Prints a report and, with ``keep``, writes it to ``benchmarks/results/NAME.md``."""
    text = "\n".join(lines) + "\n"
    print(text)
    if keep:
        path = Path(__file__).parent / "results" / f"{name}.md"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def rounds_of(quick: bool, rounds: int) -> int:
    """Rounds to do: two for a look, at least seven for figures to be quoted."""
    return 2 if quick else max(7, rounds)
