"""What the tests of fine-tuning share: a tiny network that has really learned something, and labelled items beside it.

A vision transformer of 32 pixels learns the digits 0 to 4 for some seconds; the table holds the others. What it knows
of strokes carries over, and training it on carries further.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from sklearn.datasets import load_digits
from torch import nn

import featstore
from featstore.store import Store, Table

SIDE = 32
FAST: dict[str, Any] = {
    "epochs": 6,
    "patience": 8,
    "warmup": 0.3,
    "learning_rate": 5e-4,
    "batch": 16,
    "depth": 3,
    "unfreeze_every": 0,
    "crop_scale": 1.0,
    "flip": False,
    "device": "cpu",
    "workers": 2,
    "test_share": 0.4,
    "max_rank_loss": 0.5,
}
"""Settings by which the tiny network learns the other digits within seconds."""


def digits(classes: Sequence[int]) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Pictures (n, 32, 32, 3) of some digits, and which."""
    found = load_digits()
    at = np.isin(found.target, classes)
    grey = (found.images[at] * 255 / 16).astype(np.uint8)
    pictures = [Image.fromarray(one).resize((SIDE, SIDE), Image.Resampling.BILINEAR).convert("RGB") for one in grey]
    return np.stack([np.asarray(one) for one in pictures]), found.target[at].astype(np.int64)


def pretrained(folder: Path, *, steps: int = 120, seed: int = 0, width: int = 48) -> Path:
    """A folder with a tiny vision transformer that has learned to tell 0 to 4."""
    from transformers import ViTConfig, ViTModel

    torch.manual_seed(seed)
    config = ViTConfig(
        hidden_size=width, num_hidden_layers=3, num_attention_heads=4, intermediate_size=2 * width, image_size=SIDE,
        patch_size=8, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
    )  # fmt: skip
    network, head = ViTModel(config, add_pooling_layer=False), nn.Linear(width, 5)
    pixels, truth = digits(range(5))
    inputs = (torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255 - 0.5) / 0.5
    labels = torch.from_numpy(truth)
    optimizer = torch.optim.AdamW([*network.parameters(), *head.parameters()], lr=1e-3)
    for _ in range(steps):
        rows = torch.randint(0, len(labels), (64,))
        loss = nn.functional.cross_entropy(head(network(inputs[rows]).last_hidden_state[:, 0]), labels[rows])
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    folder.mkdir(parents=True, exist_ok=True)
    network.train(False).save_pretrained(folder)
    processor = {
        "image_processor_type": "ViTImageProcessor",
        "size": {"height": SIDE, "width": SIDE},
        "image_mean": [0.5, 0.5, 0.5],
        "image_std": [0.5, 0.5, 0.5],
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "do_resize": True,
        "resample": 2,
    }
    (folder / "preprocessor_config.json").write_text(json.dumps(processor))
    return folder


def pictures(folder: Path, classes: Sequence[int] = (5, 6, 7, 8, 9), *, most: int | None = None) -> Path:
    """A folder of PNG files and ``labels.csv`` with columns for three tasks: ``digit``, ``half`` and ``shuffled``."""
    folder.mkdir(parents=True, exist_ok=True)
    pixels, truth = digits(classes)
    pixels, truth = pixels[:most], truth[:most]
    mixed = np.random.default_rng(7).permutation(truth)
    rows = ["file,digit,half,shuffled"]
    for at, (picture, digit) in enumerate(zip(pixels, truth.tolist(), strict=True)):
        Image.fromarray(picture).save(folder / f"{at:04d}.png")
        rows.append(f"{at:04d}.png,d{digit},{'low' if digit < 7 else 'high'},d{mixed[at]}")
    (folder / "labels.csv").write_text("\n".join(rows) + "\n")
    return folder


def table_of(root: Path, model: Path, images: Path, name: str = "digits") -> tuple[Store, Table]:
    """A store with a table of such pictures."""
    store = featstore.open(root)
    table = store.extract(
        images / "labels.csv", model=str(model), name=name, image_column="file", id_column="file", device="cpu"
    )
    return store, table


def tree(store: Store, *folders: str) -> dict[str, bytes]:
    """Every file below some folders of a store, to see that nothing there has changed."""
    storage = store.layout.storage
    return {path: storage.read(path) for folder in folders for path in storage.files(folder)}
