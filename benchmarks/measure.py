"""What the benchmarks share: paired rounds, ratios of medians, the machine in a line, files of results."""

from __future__ import annotations

import json
import os
import platform
import random
import statistics
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path

__all__ = ["RESULTS", "Row", "machine", "median", "paired", "ratio", "ratios", "rounds_of", "write", "write_part"]

RESULTS = Path(__file__).parent / "results"

# An installed package is compiled. A process that may keep no bytecode would be measured while it compiles.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)


@dataclass(frozen=True, kw_only=True)
class Row:
    """A line of the table of all benchmarks, ``results/speed.md``.

    Attributes:
        work: What is done.
        beside: What it is compared with in the same run; empty where a figure stands for itself.
        figures: Round by round: how many times as fast as the peer, or an amount of ``unit``.
        asked: What the median is to reach; None where nothing is asked.
        unit: ``×`` for a ratio, else that of the figures, of which less is better.
        bound: The share of what the bare computation allows on these cores, measured apart.
        fidelity: How the results agree.
        weak: Why the peer says little, where it does.
        section: The heading that it stands under in the benchmark's own report, where that is measured in parts.
    """

    work: str
    beside: str
    figures: Sequence[float]
    asked: float | None = None
    unit: str = "×"
    bound: float | None = None
    fidelity: str = ""
    weak: str = ""
    section: str = ""


def paired(ways: dict[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
    """Seconds of each way, round by round; each round has an order of its own, drawn anew but the same in each run.

    What a way leaves behind in the processor's caches and in memory is paid by the next, which must not always be the
    same one.

    Args:
        ways: Functions that do the work once and return its seconds.
        rounds: How often.
    """
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    order, drawn = list(ways.items()), random.Random(0)
    for number in range(rounds):
        drawn.shuffle(order)
        for name, way in order:
            seconds[name].append(way())
            print(f"  round {number + 1}/{rounds}  {name}: {seconds[name][-1]:.2f} s", file=sys.stderr, flush=True)
    return seconds


def ratios(base: Sequence[float], seconds: Sequence[float]) -> list[float]:
    """How many times faster than ``base``, round by round."""
    return [b / s for b, s in zip(base, seconds, strict=True)]


def ratio(base: Sequence[float], seconds: Sequence[float]) -> str:
    """How many times faster than ``base``, paired by round: median [min–max]."""
    found = ratios(base, seconds)
    return f"{statistics.median(found):.2f} [{min(found):.2f}–{max(found):.2f}]"


def median(seconds: Sequence[float]) -> float:
    """The median of some seconds."""
    return statistics.median(seconds)


def machine(*packages: str) -> str:
    """The processor with its widest instructions and the versions, without names or paths."""
    model = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
        flags = set(next(line.split(":", 1)[1] for line in lines if line.startswith("flags")).split())
        # One name stands for several generations, which differ in just what is measured here.
        known = {"AVX2": "avx2", "AVX-512": "avx512f", "VNNI": "avx512_vnni"}
        able = [shown for shown, flag in known.items() if flag in flags]
        model += f" ({able[-1]})" if able else ""
    except (OSError, StopIteration):
        pass
    versions = ", ".join(f"{name} {version(name)}" for name in packages)
    return f"{model}, {os.cpu_count()} cores · Python {platform.python_version()}, {versions}"


def write(name: str, lines: Sequence[str], *, keep: bool, rows: Sequence[Row] = ()) -> None:
    """Prints a report and, with ``keep``, writes it to ``benchmarks/results/NAME.md``.

    Args:
        name: Of the benchmark.
        lines: The report.
        keep: Whether its figures are to be quoted.
        rows: What the table of all benchmarks takes from it: ``results/NAME.json``.
    """
    text = "\n".join(lines) + "\n"
    print(text)
    if keep:
        RESULTS.mkdir(parents=True, exist_ok=True)
        (RESULTS / f"{name}.md").write_text(text)
        if rows:
            body = [asdict(row) | {"figures": [round(figure, 4) for figure in row.figures]} for row in rows]
            (RESULTS / f"{name}.json").write_text(json.dumps(body, indent=1, ensure_ascii=False) + "\n")


def write_part(name: str, lines: Sequence[str], *, keep: bool, rows: Sequence[Row]) -> None:
    """As ``write``, for a run that measured some parts only: what ``results/NAME.md`` says of others stays.

    A part is a section under ``###``; one of the same heading is replaced, with its rows.

    Args:
        name: Of the benchmark.
        lines: The report, its head first.
        keep: Whether its figures are to be quoted.
        rows: As for ``write``.

    Raises:
        SystemExit: The other parts were measured on another machine or with other versions.
    """
    kept, table = RESULTS / f"{name}.md", RESULTS / f"{name}.json"
    if not keep or not kept.is_file() or not table.is_file():
        return write(name, lines, keep=keep, rows=rows)
    head, before = _sections(kept.read_text().splitlines())
    own, now = _sections(lines)
    here = own[-2]
    if here not in head:
        print("\n".join(lines))
        raise SystemExit(f"the other parts of {name} were not measured on {here}: measure all of them")
    body = [line for section in (before | now).values() for line in section]
    others = [row for row in (Row(**row) for row in json.loads(table.read_text())) if f"### {row.section}" not in now]
    write(name, [*head, *body], keep=True, rows=[*others, *rows])


def _sections(lines: Sequence[str]) -> tuple[list[str], dict[str, list[str]]]:
    """What stands before the first section, and the sections by their heading."""
    head: list[str] = []
    found: dict[str, list[str]] = {}
    section = head
    for line in lines:
        if line.startswith("### "):
            section = found.setdefault(line, [])
        section.append(line)
    return head, found


def rounds_of(quick: bool, rounds: int) -> int:
    """Rounds to do: two for a look, at least seven for figures to be quoted."""
    return 2 if quick else max(7, rounds)
