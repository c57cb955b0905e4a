"""A refresh of a table of which 1 % has changed, beside what cannot be avoided; and one with nothing to do.

    python benchmarks/bench_refresh.py            # about 13 minutes, writes benchmarks/results/refresh.md
    python benchmarks/bench_refresh.py --quick    # a look

What cannot be avoided is embedding the changed texts, and one pass over the data files that they are in: reading
each, checking it and writing it anew. Both are timed in each round on the very texts and files of that round, by
the functions that a refresh uses, with the model loaded. The texts are product descriptions of 30 to 60 words, made
from a list of words; the vectors of the table as it was before are drawn at random around those of 2,000 texts, since
what they are does not matter to the cost and embedding them would take a quarter of an hour.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from filled import fill
from measure import Row, machine, median, rounds_of, write
from numpy.typing import NDArray

import featstore
from featstore import models
from featstore.encode.opening import open_encoder
from featstore.models import ModelRequest
from featstore.settings import ExtractSettings
from featstore.tables import FeatureTable

_LIST = """
light solid brushed steel cotton handle drawer with without large small blue green ivory oak walnut for kitchen
garden office travel outdoor waterproof folding portable wall mounted cordless rechargeable battery included
warranty year clean easy surface soft touch non slip base adjustable height angle lamp chair table bottle bag
jacket shoe sole leather vegan recycled plastic glass ceramic dishwasher safe oven proof heat resistant child
lock quiet motor speed setting timer display remote control app compatible standard fit most models assembled
"""
WORDS = _LIST.split()

JOB = """
[job]
name = "{name}"
table = "{table}"
[source]
uri = "{uri}"
id_column = "id"
text_column = "text"
label_column = "label"
[model]
name = "minilm"
{rest}
"""
INDEX = "[index]\nrecall = 0.95\n"


def described(number: int, seed: str) -> str:
    """A product's description of 30 to 60 words."""
    pick = random.Random(seed)
    return f"Product {number}: " + " ".join(pick.choices(WORDS, k=pick.randint(30, 60)))


class Nobody:
    """Is told of each item and does nothing."""

    def decoded(self, row: int, content: object) -> None:
        """An item was read."""

    def done(self, count: int, rejected: int) -> None:
        """A batch was encoded."""


class Texts:
    """The source: numbered descriptions in a JSONL or Parquet file, some of which are written anew."""

    def __init__(self, path: Path, count: int) -> None:
        self.path, self.versions = path, [0] * count
        self.write()

    @property
    def table(self) -> str:
        """What its table is called."""
        return f"products-{self.path.suffix[1:]}"

    def text(self, at: int) -> str:
        """The description of one product as it is now."""
        return described(at, f"{at}/{self.versions[at]}")

    def write(self) -> None:
        """Writes the file."""
        count = range(len(self.versions))
        rows = [{"id": f"{at:07d}", "text": self.text(at), "label": WORDS[at % 10]} for at in count]
        if self.path.suffix == ".parquet":
            pq.write_table(pa.Table.from_pylist(rows), self.path)
        else:
            self.path.write_text("".join(json.dumps(row) + "\n" for row in rows))

    def change(self, share: float, seed: int) -> list[str]:
        """Writes some of the descriptions anew; returns those."""
        rows = random.Random(seed).sample(range(len(self.versions)), round(share * len(self.versions)))
        for at in rows:
            self.versions[at] += 1
        self.write()
        return [self.text(at) for at in sorted(rows)]


def begin(store: featstore.Store, texts: Texts) -> FeatureTable:
    """The table as it was before: all items of the source, with vectors that are like those of texts."""
    card = models.ensure(store.layout, ModelRequest(model="minilm"))
    encoder = open_encoder(store.layout, card, ExtractSettings(source=".", model="minilm"))
    some = [texts.text(at).encode() for at in range(min(2000, len(texts.versions)))]
    around = encoder.encode(some.__getitem__, len(some), Nobody()).vectors
    generator = np.random.default_rng(0)

    def drawn(_: int, count: int) -> NDArray[np.float32]:
        vectors = around[generator.integers(0, len(around), count)]
        vectors = vectors + generator.normal(0, 0.03, vectors.shape).astype(np.float32)
        return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), np.float32)

    return fill(store, texts.table, texts.path, drawn)


def run(store: Path, job: Path) -> dict[str, float]:
    """One refresh as cron runs it: its seconds, also with the interpreter's start and the imports."""
    start = time.perf_counter()
    command = [sys.executable, "-m", "featstore.cli", "refresh", str(job), "--store", str(store), "--json"]
    found = json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)
    wall = time.perf_counter() - start
    own = {"status": found["status"], "seconds": found["seconds"], "stored": found["extract"]["stored"]}
    return {**found["stage_seconds"], **own, "wall": wall}


def embedding(store: featstore.Store, texts: list[str]) -> float:
    """Seconds of embedding some texts, the model loaded and warm."""
    card = models.ensure(store.layout, ModelRequest(model="minilm"))
    encoder = open_encoder(store.layout, card, ExtractSettings(source=".", model="minilm"))
    contents = [text.encode() for text in texts]
    encoder.encode(contents.__getitem__, min(64, len(contents)), Nobody())
    start = time.perf_counter()
    encoder.encode(contents.__getitem__, len(contents), Nobody())
    return time.perf_counter() - start


def one_pass(store: featstore.Store, name: str, space_id: str) -> float:
    """Seconds of reading, checking and writing anew every data file of the table's newest version."""
    table = FeatureTable.open(store.layout, name, space_id)
    start = time.perf_counter()
    for number, (file, count) in enumerate(table.file_rows.items()):
        table.rewrite_part("pass", number, file, np.arange(0, count, 100))
    seconds = time.perf_counter() - start
    store.layout.storage.delete_folder(store.layout.run_files(name, space_id, "pass"))
    return seconds


def main() -> int:
    """Runs the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="small, and nothing is written")
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    count = 5_000 if options.quick else 100_000
    rounds = rounds_of(options.quick, options.rounds)
    kinds = ("parquet", "jsonl", "index")
    done: dict[str, list[dict[str, float]]] = {kind: [] for kind in (*kinds, "idle")}
    least: dict[str, list[float]] = {"parquet": [], "jsonl": []}
    embed: list[float] = []
    passes: list[float] = []
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        store = featstore.open(scratch / "store")
        featstore.founding.found(store.layout)
        sources = {suffix: Texts(scratch / f"products.{suffix}", count) for suffix in least}
        sources["index"] = sources["parquet"]
        jobs = {}
        for kind in kinds:
            texts = sources[kind]
            if kind != "index":
                print(f"  making a table of {count:,} from {texts.path.name}", file=sys.stderr)
                space_id = begin(store, texts).space_id
            jobs[kind] = scratch / f"{kind}.toml"
            rest = INDEX if kind == "index" else ""
            jobs[kind].write_text(JOB.format(name=kind, table=texts.table, uri=texts.path, rest=rest))
            print(f"  first refresh of {kind}: {run(store.path, jobs[kind])}", file=sys.stderr)
        for number in range(rounds):
            for place, kind in enumerate(kinds):
                changed = sources[kind].change(0.01, 3 * number + place)
                if kind in least:
                    embed.append(embedding(store, changed))
                    passes.append(one_pass(store, sources[kind].table, space_id))
                    least[kind].append(embed[-1] + passes[-1])
                done[kind].append(run(store.path, jobs[kind]))
                assert done[kind][-1]["status"] == "published", done[kind][-1]
                assert done[kind][-1]["stored"] == len(changed)
                print(f"  round {number + 1}/{rounds} {kind}: {done[kind][-1]}", file=sys.stderr)
            done["idle"].append(run(store.path, jobs["index"]))
            assert done["idle"][-1]["status"] == "nothing new", done["idle"][-1]

    def of(kind: str, what: str = "seconds") -> float:
        return median([one.get(what, 0.0) for one in done[kind]])

    ratios = {
        kind: [one["seconds"] / low for one, low in zip(done[kind], lows, strict=True)] for kind, lows in least.items()
    }
    lines = [
        "# A refresh of 1 %",
        "",
        f"`python benchmarks/bench_refresh.py` · {rounds} rounds, medians · {count:,} texts × 384, "
        f"{count // 100:,} of them changed, in all data files.",
        "",
        machine("onnxruntime-gpu", "pyarrow", "deltalake", "faiss-cpu"),
        "",
        "| what | seconds |",
        "|---|---|",
        f"| embedding the changed texts, the model loaded | {median(embed):.2f} |",
        f"| one pass over the files they are in | {median(passes):.2f} |",
        f"| refresh from Parquet: extract, gates, publish | {of('parquet'):.2f} |",
        f"| refresh from JSON lines | {of('jsonl'):.2f} |",
        f"| refresh from Parquet, an index kept at recall 0.95 | {of('index'):.2f} |",
        f"| – its index | {of('index', 'index'):.2f} |",
        f"| refresh with nothing new, with the start of the interpreter and imports | {of('idle', 'wall'):.2f} |",
        f"| that start and those imports, about | {of('parquet', 'wall') - of('parquet'):.2f} |",
        "",
        "Refresh without an index over embedding and pass of the same round: "
        + "; ".join(f"from {kind} {median(r):.2f} [{min(r):.2f}–{max(r):.2f}]" for kind, r in ratios.items())
        + ".",
    ]
    rows = [
        Row(
            work=f"1 % new in {count:,} texts from {kind}: the whole refresh over embedding that 1 % and one pass",
            beside="",
            figures=found,
            asked=1.1,
            unit="times its parts",
        )
        for kind, found in ratios.items()
    ]
    write("refresh", lines, keep=not options.quick, rows=rows)
    return 0


if __name__ == "__main__":
    sys.exit(main())
