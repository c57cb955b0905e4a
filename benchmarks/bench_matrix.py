"""How fast a feature table becomes one matrix, against np.load of the same vectors and pyarrow.

    python benchmarks/bench_matrix.py            # about two minutes, writes benchmarks/results/matrix.md
    python benchmarks/bench_matrix.py --quick    # a few seconds, prints only

Rounds are paired: each measures every way once, so that the ratios hold on a noisy machine. The files are
in the page cache. ``matrix()`` also reads the ids and checks that none occurs twice; np.load does not.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from measure import Row, machine, ratio, ratios, write

from featstore.layout import Layout
from featstore.storage import Storage
from featstore.tables import FeatureTable

ASKED = {"matrix(), verified before": 0.85, "matrix(verify=True)": 0.65}
WAYS = ("np.load", "matrix(), verified before", "matrix(verify=True)", "pyarrow", "pyarrow, one thread")


def build(folder: Path, rows: int, dim: int) -> tuple[FeatureTable, Path]:
    """Writes the same random vectors as a table of 8,192-row files and as .npy."""
    layout = Layout(Storage.at(folder / "store"))
    table = FeatureTable.staging(layout, "bench", "bench-00000000", dim)
    random = np.random.default_rng(0)
    vectors = random.standard_normal((rows, dim), np.float32)
    np.save(folder / "x.npy", vectors)
    now = datetime(2026, 1, 1, tzinfo=UTC)
    aligned = table.align(
        pa.table(
            {
                "item_id": [f"images/{i:08d}.jpg" for i in range(rows)],
                "content_sha256": [f"{i:064x}" for i in range(rows)],
                "label": [f"class {i % 10}" for i in range(rows)],
                "created_ts": pa.array([now] * rows),
                "run_id": ["bench"] * rows,
            }
        )
    )
    size = 8192
    parts = [
        table.write_part("bench", part, aligned.slice(start, size), vectors[start : start + size])
        for part, start in enumerate(range(0, rows, size))
    ]
    table.commit(run_id="bench", add=parts)
    return FeatureTable.open(layout, "bench", "bench-00000000"), folder / "x.npy"


def through_pyarrow(files: list[Path], dim: int, threads: bool = True) -> np.ndarray:
    """The way without featstore: read ids and vectors, checksums verified, and make one array."""
    table = pq.read_table(files, columns=["item_id", "embedding"], use_threads=threads, page_checksum_verification=True)
    table["item_id"].to_numpy()
    return table["embedding"].combine_chunks().flatten().to_numpy().reshape(-1, dim)


def measure(rows: int, dim: int, rounds: int) -> dict[str, list[float]]:
    """Seconds of each way, round by round."""
    with tempfile.TemporaryDirectory() as folder:
        table, npy = build(Path(folder), rows, dim)
        files = sorted(table.path.glob("_runs/*/*.parquet"))
        ways: dict[str, Callable[[], np.ndarray]] = {
            "np.load": lambda: np.load(npy),
            "matrix(), verified before": lambda: table.matrix()[1],
            "matrix(verify=True)": lambda: table.matrix(verify=True)[1],
            "pyarrow": lambda: through_pyarrow(files, dim),
            "pyarrow, one thread": lambda: through_pyarrow(files, dim, threads=False),
        }
        expected = ways["np.load"]()
        for name, way in ways.items():
            assert way().tobytes() == expected.tobytes(), name
        seconds: dict[str, list[float]] = {name: [] for name in ways}
        for number in range(rounds):
            # each way follows another one in each round: what one leaves behind must not tax always the same
            order = list(ways.items())
            for name, way in order[number % len(order) :] + order[: number % len(order)]:
                start = time.perf_counter()
                way()
                seconds[name].append(time.perf_counter() - start)
        return seconds


def report(rows: int, dim: int, seconds: dict[str, list[float]]) -> list[str]:
    """One table: median MB/s, and the ratios to np.load and pyarrow as median [min to max] over the rounds."""
    megabytes = rows * dim * 4 / 1e6
    lines = [
        f"### {rows:,} × {dim:,} float32 ({megabytes:.0f} MB)",
        "",
        "| way | MB/s | share of np.load | times pyarrow |",
        "|---|---|---|---|",
    ]
    for name in WAYS:
        rate = megabytes / statistics.median(seconds[name])
        lines.append(
            f"| {name} | {rate:,.0f} | {ratio(seconds['np.load'], seconds[name])} "
            f"| {ratio(seconds['pyarrow'], seconds[name])} |"
        )
    return [*lines, ""]


def main() -> int:
    """Runs the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="small, and nothing is written")
    parser.add_argument("--rounds", type=int, default=9, help="at least 7 for figures to be quoted")
    options = parser.parse_args()
    sizes = [(5_000, 384), (1_000, 2048)] if options.quick else [(200_000, 384), (50_000, 2048)]
    rounds = 2 if options.quick else options.rounds
    lines = [
        "# Loading a table into a matrix",
        "",
        f"`python benchmarks/bench_matrix.py --rounds {rounds}` · one run, {rounds} paired rounds, warm page cache · "
        "ratios are median [min–max], higher is faster · `matrix()` has two threads and also reads and checks the ids.",
        "",
        machine("numpy", "pyarrow", "deltalake"),
        "",
    ]
    kept = []
    for rows, dim in sizes:
        seconds = measure(rows, dim, rounds)
        lines += report(rows, dim, seconds)
        kept += [
            Row(
                work=f"`{way}`, {rows:,} × {dim:,}",
                beside="np.load",
                figures=ratios(seconds["np.load"], seconds[way]),
                asked=asked,
                fidelity="the same bytes",
            )
            for way, asked in ASKED.items()
        ]
    write("matrix", lines, keep=not options.quick, rows=kept)
    return 0


if __name__ == "__main__":
    sys.exit(main())
