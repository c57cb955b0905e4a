"""A store with a tiny table that can be fine-tuned, for the tests of the command line and of jobs."""

from __future__ import annotations

import shutil
from pathlib import Path

import finetune_world
import once

__all__ = ["ANY", "SMALL", "tunable"]

SMALL = [
    "--label", "label", "--epochs", "3", "--learning-rate", "1e-4", "--head-rate", "0.01", "--start", "random",
    "--depth", "1", "--batch", "8", "--crop-scale", "1", "--no-flip", "--test-share", "0.4", "--device", "cpu",
]  # fmt: skip
"""Flags by which training is over at once, and its end surely better than its beginning."""

ANY = ["--min-gain", "-0.99", "--max-forgetting", "1", "--max-rank-loss", "1", "--max-slower", "99"]
"""Flags by which every gate passes."""


def tunable(folder: Path) -> Path:
    """Makes a copy of the world in ``folder``: ``photos``, their ``labels.csv``, and a store that holds them."""
    shutil.copytree(once.once("finetune-world", _made), folder, dirs_exist_ok=True)
    return folder


def _made(root: Path) -> None:
    model = finetune_world.pretrained(root / "vit", steps=40)
    photos = finetune_world.pictures(root / "photos", most=200)
    named = photos / "labels.csv"
    named.write_text(named.read_text().replace("file,digit", "file,label"))
    finetune_world.table_of(root / "featstore-data", model, photos, "photos")
