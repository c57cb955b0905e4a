"""A folder of a million texts to which 1 % was added, beside embedding that 1 % alone.

    python benchmarks/bench_new.py            # about 35 minutes, writes benchmarks/results/new.md
    python benchmarks/bench_new.py --quick    # a look

The folder holds short texts, whose vectors in the table before are drawn at random, since what they are does not
matter to the cost. What is added are product descriptions of 30 to 60 words. In each round 1 % more are written;
they are embedded alone, by the function that an extract uses with the model loaded; and then the whole folder is
extracted by a command of its own, as cron runs it, whose start, listing, comparing and commit all count.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

import numpy as np
from bench_refresh import described, embedding
from bench_rescan import folder_of, run
from filled import fill
from measure import Row, machine, median, rounds_of, write
from numpy.typing import NDArray

import featstore
from featstore.sources import SourceOptions

DIM = 384


def drawn(first: int, count: int) -> NDArray[np.float32]:
    """Vectors at unit length."""
    vectors = np.random.default_rng(first).standard_normal((count, DIM), np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def add(folder: Path, count: int, number: int) -> list[str]:
    """More descriptions in a subfolder of their own; returns them."""
    folder = folder / f"more-{number}"
    folder.mkdir()
    texts = [described(at, f"{number}/{at}") for at in range(count)]
    for at, text in enumerate(texts):
        (folder / f"{at:07d}.txt").write_text(text)
    return texts


def main() -> int:
    """Runs the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="small, and nothing is written")
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    count = 10_000 if options.quick else 1_000_000
    rounds = rounds_of(options.quick, options.rounds)
    embed: list[float] = []
    runs: list[dict[str, float | str]] = []
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        print(f"  making {count:,} files and their table", file=sys.stderr)
        source = folder_of(scratch / "files", count)
        store = featstore.open(scratch / "store")
        featstore.founding.found(store.layout)
        fill(store, "texts", source, drawn, SourceOptions())
        before = run(store.path, source, "texts", "minilm")
        assert before["status"] == "nothing new", before
        for number in range(rounds):
            texts = add(source, count // 100, number)
            embed.append(embedding(store, texts))
            runs.append(run(store.path, source, "texts", "minilm"))
            assert runs[-1]["stored"] == len(texts), runs[-1]
            print(f"  round {number + 1}/{rounds}: {embed[-1]:.1f} s alone, {runs[-1]['wall']:.1f} s", file=sys.stderr)
    whole = [float(one["wall"]) for one in runs]
    times = [wall / alone for wall, alone in zip(whole, embed, strict=True)]
    over = [wall - alone for wall, alone in zip(whole, embed, strict=True)]
    lines = [
        "# 1 % new in a folder",
        "",
        f"`python benchmarks/bench_new.py` · {rounds} rounds, medians · {count:,} text files, {count // 100:,} more of "
        "30 to 60 words in each round, MiniLM.",
        "",
        machine("onnxruntime-gpu", "pyarrow", "polars", "deltalake"),
        "",
        "| what | seconds |",
        "|---|---|",
        f"| embedding the new texts alone, the model loaded | {median(embed):.1f} |",
        f"| the whole command: start, listing, comparing, embedding, commit | {median(whole):.1f} |",
        f"| what is more, in the same round | {median(over):.1f} [{min(over):.1f}–{max(over):.1f}] |",
        "",
        f"The whole command over embedding alone, in the same round: {median(times):.2f} "
        f"[{min(times):.2f}–{max(times):.2f}].",
    ]
    rows = [
        Row(
            work=f"1 % new in {count:,} files: the whole command over embedding that 1 %",
            beside="",
            figures=times,
            asked=1.1,
            unit="times embedding",
        )
    ]
    write("new", lines, keep=not options.quick, rows=rows)
    return 0


if __name__ == "__main__":
    sys.exit(main())
