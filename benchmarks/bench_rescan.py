"""A run with nothing to do, and how memory grows with the source.

    python benchmarks/bench_rescan.py            # about 20 minutes, writes benchmarks/results/rescan.md
    python benchmarks/bench_rescan.py --quick    # a look

Each measured run is a process of its own, so that its CPU seconds and its largest memory are the system's
figures. The texts are numbered sentences: short, so that many can be embedded in minutes.
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

from measure import machine, median, rounds_of, write

RUN = """
import sys, json, featstore
table = featstore.open(sys.argv[1]).extract(sys.argv[2], model="minilm", name=sys.argv[3])
run = table.last_run
print(json.dumps({"status": run.status, "stored": run.stored, "reused": run.reused, "rate": run.items_per_s}))
"""


def run(store: Path, source: Path, name: str) -> dict[str, float | str]:
    """One extract in a process of its own: its result, wall and CPU seconds and largest memory in MB."""
    start = time.perf_counter()
    child = subprocess.Popen([sys.executable, "-c", RUN, str(store), str(source), name], stdout=subprocess.PIPE)
    assert child.stdout is not None
    printed = child.stdout.read()
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        raise SystemExit("the extract failed")
    megabytes = usage.ru_maxrss / (1e3 if sys.platform == "linux" else 1e6)
    cpu = usage.ru_utime + usage.ru_stime
    return {**json.loads(printed), "wall": time.perf_counter() - start, "cpu": cpu, "memory": megabytes}


def folder_of(path: Path, count: int) -> Path:
    """A folder of text files, a thousand to a subfolder."""
    for at in range(count):
        if at % 1000 == 0:
            (path / f"{at // 1000:04d}").mkdir(parents=True)
        (path / f"{at // 1000:04d}" / f"{at:07d}.txt").write_text(f"item number {at}")
    return path


def table_of(path: Path, count: int) -> Path:
    """The same as one JSONL file."""
    with path.open("w") as file:
        for at in range(count):
            file.write(json.dumps({"id": f"{at:07d}", "text": f"row number {at}", "shop": f"shop {at % 97}"}) + "\n")
    return path


def main() -> int:
    """Runs the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="small, and nothing is written")
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    files, small, shards, large = (2_000, 500, 1_000, 4_000) if options.quick else (100_000, 2_000, 20_000, 200_000)
    rounds = rounds_of(options.quick, options.rounds)
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        store = scratch / "store"
        print(f"  making and embedding {files:,} files", file=sys.stderr)
        source = folder_of(scratch / "files", files)
        first = run(store, source, "files")
        again = [run(store, source, "files") for _ in range(rounds)]
        assert all(r["status"] == "nothing new" and r["reused"] == files for r in again)
        few = run(store, table_of(scratch / "few.jsonl", small), "few")
        some = run(store, table_of(scratch / "some.jsonl", shards), "some")
        print(f"  embedding {large:,} rows", file=sys.stderr)
        many = run(store, table_of(scratch / "many.jsonl", large), "many")
    lines = [
        "# Nothing to do, and memory",
        "",
        f"`python benchmarks/bench_rescan.py` · one run, {rounds} rounds · each a whole process.",
        "",
        machine("pyarrow", "polars", "deltalake"),
        "",
        "| run | wall s | CPU s | largest memory, MB |",
        "|---|---|---|---|",
        f"| {files:,} text files, all new | {first['wall']:.1f} | {first['cpu']:.1f} | {first['memory']:.0f} |",
        f"| the same again, nothing new (median of {rounds}) | {median([r['wall'] for r in again]):.2f} "
        f"| {median([r['cpu'] for r in again]):.2f} | {max(r['memory'] for r in again):.0f} |",
        f"| {small:,} rows of a table, all new | {few['wall']:.1f} | {few['cpu']:.1f} | {few['memory']:.0f} |",
        f"| {shards:,}: two shards | {some['wall']:.1f} | {some['cpu']:.1f} | {some['memory']:.0f} |",
        f"| {large:,} rows of a table, all new | {many['wall']:.1f} | {many['cpu']:.1f} | {many['memory']:.0f} |",
    ]
    write("rescan", lines, keep=not options.quick)
    return 0


if __name__ == "__main__":
    sys.exit(main())
