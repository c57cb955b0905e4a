"""The first answer of a fresh process: CPU seconds of all its threads, user and system.

    python benchmarks/bench_cold.py                    # about 3 minutes, writes benchmarks/results/cold.md
    python benchmarks/bench_cold.py --items 1000000    # about 20 minutes, writes benchmarks/results/cold-1000000.md
    python benchmarks/bench_cold.py --quick            # a look

A table of 20,000 texts under MiniLM with an index; then the command line as a shell starts it, each time a new
process: a search by a text, one by an item of the table, and beside them ``featstore --help``, ``ls``, ``models list``
and an interpreter that only imports the libraries a search by text cannot do without. Files are in the page cache.
The vectors have the shape of texts' (``search_data``); embedding a million texts would take hours and change nothing.
CPU seconds, since a process that lets threads spin is no faster for it.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from filled import fill
from measure import Row, machine, median, rounds_of, write
from search_data import text_like

import featstore

ASKED = 1.5
LIBRARIES = "import numpy, pyarrow.parquet, onnxruntime, tokenizers, faiss, deltalake, pydantic"


def process(arguments: list[str]) -> tuple[float, float]:
    """CPU and wall seconds of one process."""
    start = time.perf_counter()
    child = subprocess.Popen([sys.executable, *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    assert child.stderr is not None
    said = child.stderr.read()
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        raise SystemExit(f"{' '.join(arguments)} failed: {said.decode()}")
    return usage.ru_utime + usage.ru_stime, time.perf_counter() - start


def table_of(store: featstore.Store, folder: Path, count: int) -> str:
    """Numbered texts as a table with an index, unless it is there; returns the index's kind."""
    source = folder / "texts.jsonl"
    if source.exists():
        return store.index("texts").kind
    rows = (
        {"id": f"{at:07d}", "text": f"row {at} of shop {at % 97}", "label": f"shop {at % 97}"} for at in range(count)
    )
    source.write_text("".join(json.dumps(row) + "\n" for row in rows))
    featstore.founding.found(store.layout)
    vectors, _ = text_like(folder, count, 0)
    fill(store, "texts", source, lambda start, some: vectors[start : start + some])
    return store.index("texts").kind


def main() -> int:
    """Runs the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="few texts, two rounds, nothing is written")
    parser.add_argument("--rounds", type=int, default=9, help="at least 7 for figures to be quoted")
    parser.add_argument("--items", type=int, default=20_000, help="of the table that is searched")
    parser.add_argument("--keep", type=Path, help="a folder whose store is made once and used again")
    options = parser.parse_args()
    count = 1_000 if options.quick else options.items
    usual = options.items == parser.get_default("items")
    rounds = rounds_of(options.quick, options.rounds)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) if options.keep is None else options.keep
        path = folder / "store"
        kind = table_of(featstore.open(path), folder, count)
        cli, at = ["-m", "featstore.cli"], ["--store", str(path)]
        ways = {
            "search NAME --text": [*cli, "search", "texts", "--text", "row 5 of a shop", *at],
            "search NAME --id": [*cli, "search", "texts", "--id", "0000005", *at],
            "ls": [*cli, "ls", *at],
            "models list": [*cli, "models", "list", *at],
            "--help": [*cli, "--help"],
            "the libraries alone": ["-c", LIBRARIES],
        }
        found: dict[str, list[tuple[float, float]]] = {way: [] for way in ways}
        for arguments in ways.values():
            process(arguments)
        for number in range(rounds):
            for way, arguments in ways.items():
                found[way].append(process(arguments))
                print(f"  round {number + 1}/{rounds}  {way}: {found[way][-1][0]:.2f} s CPU", file=sys.stderr)
    lines = [
        "# The first answer of a fresh process",
        "",
        f"`python benchmarks/bench_cold.py{'' if usual else f' --items {count}'}` · {count:,} texts × 384 with an "
        f"index ({kind}) · {rounds} processes of each kind, in turn; medians [min–max].",
        "",
        machine("onnxruntime-gpu", "faiss-cpu", "numpy", "pyarrow"),
        "",
        "| process | CPU s | wall s |",
        "|---|---|---|",
    ]
    for way, each in found.items():
        cpu, wall = np.array(each).T
        lines.append(f"| {way} | {median(cpu):.2f} [{cpu.min():.2f}–{cpu.max():.2f}] | {median(wall):.2f} |")
    rows = [
        Row(
            work=f"first answer, cold: `{way}`, {count:,} texts",
            beside="",
            figures=[cpu for cpu, _ in found[way]],
            asked=ASKED,
            unit="s CPU",
        )
        for way in list(ways)[:2]
    ]
    write("cold" if usual else f"cold-{count}", lines, keep=not options.quick, rows=rows)
    return 0


if __name__ == "__main__":
    sys.exit(main())
