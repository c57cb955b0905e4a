"""Small networks and learnable contents for the tests of fine-tuning: made here, from seeds."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
from model_fixtures import PIXELS, SIDE, bert_folder
from PIL import Image

from featstore.extract.progress import Reporter
from featstore.finetune.examples import Examples, Start
from featstore.finetune.network import Trained, defaults, train, tuned_blocks, vectors
from featstore.finetune.network.batches import Batch, inputs
from featstore.finetune.network.learner import Learner
from featstore.finetune.network.preparing import prepared
from featstore.layout import Layout
from featstore.models.catalog import ModelRequest, resolve
from featstore.models.original import Original
from featstore.models.vision import image_graph
from featstore.models.words import load
from featstore.records import FinetuneEpoch
from featstore.settings import FinetuneSettings
from featstore.storage import Storage

CLASSES = 3
SETTINGS = FinetuneSettings(workers=2, device="cpu", epochs=2, batch=8, warmup=0.0, schedule="constant")
PLAIN: dict[str, Any] = {"crop_scale": 1.0, "flip": False}
"""No augmentation."""


def pictured(name: str = "test_vit", seed: int = 0) -> Original:
    """One of timm's networks for tests, untrained, for pictures of 64 pixels."""
    torch.manual_seed(seed)
    options = {"img_size": SIDE} if "vit" in name else {}
    network = timm.create_model(name, num_classes=0, **options).eval()
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.normal_(module.running_mean, std=0.1)
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)
    return Original(
        graph=image_graph(network, PIXELS), state=dict(network.state_dict()), model=name, slug=name, family="timm",
        architecture=name, modality="image", layer="penultimate", pooling="mean", normalize=False, source="test",
        weights_sha256="0" * 64, libraries=("torch", "timm"), image=PIXELS,
    )  # fmt: skip


def written(folder: Path, **options: Any) -> Original:
    """A tiny BERT."""
    place = folder if folder.is_dir() else bert_folder(folder, **options)
    request = ModelRequest(model=str(place))
    return load(resolve(request.model), request, lambda _: None)


def pictures(count: int, *, seed: int = 0, side: int = 72) -> Examples:
    """PNG files of stripes: across, down or in squares, in random colours, phases and widths."""
    chance = np.random.default_rng(seed)
    truth = np.arange(count) % CLASSES
    files = []
    for kind in truth:
        width, phase = chance.integers(4, 9), chance.integers(0, 16, 2)
        y, x = (np.arange(side)[:, None] + phase[0]) // width % 2, (np.arange(side)[None] + phase[1]) // width % 2
        shape = (y + 0 * x, x + 0 * y, y ^ x)[kind]
        light, dark = chance.integers(150, 256, 3), chance.integers(0, 100, 3)
        pixels = np.where(shape[..., None] == 1, light, dark) + chance.integers(-20, 21, (side, side, 3))
        file = io.BytesIO()
        Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(file, "PNG")
        files.append(file.getvalue())
    return Examples(read=files.__getitem__, truth=truth.astype(np.int64))


def sentences(count: int, *, seed: int = 0) -> Examples:
    """Texts of one to twelve words, of which one tells the class."""
    chance = np.random.default_rng(seed)
    truth = np.arange(count) % CLASSES
    filler = ("the", "quick", "brown", "on", "a", "that", "over", "it")
    lines = []
    for kind in truth:
        words = [filler[i] for i in chance.integers(0, len(filler), chance.integers(0, 12))]
        words.insert(int(chance.integers(0, len(words) + 1)), ("cat", "dog", "fox")[kind])
        lines.append(" ".join(words))
    return Examples(read=lines.__getitem__, truth=truth.astype(np.int64))


def fitted(original: Original, examples: Examples, *, unit: bool = False) -> Start:
    """A linear head by least squares on the vectors."""
    found = vectors(original, examples).astype(np.float64)
    if unit:
        found /= np.linalg.norm(found, axis=1, keepdims=True)
    wide = np.hstack([found, np.ones((len(found), 1))])
    target = 4.0 * (np.eye(CLASSES)[examples.truth] - 1 / CLASSES)
    solved = np.linalg.solve(wide.T @ wide + 1e-2 * np.eye(wide.shape[1]), wide.T @ target)
    return Start(weight=solved[:-1].T.astype(np.float32), bias=solved[-1].astype(np.float32), unit=unit)


class Watcher(Reporter):
    """Remembers what it is told, and may end the run at a step."""

    def __init__(self, at: int | None = None, error: BaseException | None = None) -> None:
        self.steps = 0
        self.warnings: list[str] = []
        self.messages: list[str] = []
        self.durable = 0
        self._at, self._error = at, error

    def advance(self, done: int, rejected: int = 0) -> None:
        self.steps += done
        if self._at is not None and self._error is not None and self.steps >= self._at:
            raise self._error

    def message(self, text: str) -> None:
        self.messages.append(text)

    def warning(self, text: str) -> None:
        self.warnings.append(text)

    def between(self) -> None:
        self.durable += 1


def trained(
    original: Original,
    folder: Path,
    learned: Examples,
    judged: Examples,
    *,
    head: Start | None = None,
    reporter: Reporter | None = None,
    stop: Callable[[int, float], bool] | None = None,
    observe: Callable[[FinetuneEpoch], None] | None = None,
    **changed: Any,
) -> Trained:
    """Trains with the settings of these tests, changed as given."""
    settings = defaults(replace(SETTINGS, **changed), original, n_train=len(learned))
    return train(
        original, head or fitted(original, learned), learned, judged, settings,
        blocks=tuned_blocks(original, settings, n_train=len(learned)), layout=Layout(Storage.at(folder)),
        folder="finetunes/t/k", reporter=reporter or Reporter(), stop=stop, observe=observe,
    )  # fmt: skip


def copied(original: Original) -> dict[str, torch.Tensor]:
    """Everything that the network's state has, as it is now."""
    return {name: tensor.clone() for name, tensor in original.state.items()}


@contextmanager
def learning(
    original: Original, examples: Examples, *, epoch: int = 0, warn: Callable[[str], None] = print, **changed: Any
) -> Iterator[tuple[Learner, Batch]]:
    """A network that is ready for a step of an epoch, and all examples as one batch for it."""
    changed = {**PLAIN, "batch": len(examples), **changed}
    settings = defaults(replace(SETTINGS, **changed), original, n_train=len(examples))
    blocks = tuned_blocks(original, settings, n_train=len(examples))
    start = fitted(original, examples)
    with prepared(original, start, examples.truth, settings, blocks, warn) as ready:
        given = inputs(original, examples, settings, augment=True)
        ready.learner.begin(epoch)
        [batch] = given.batches([np.arange(len(examples))])
        yield ready.learner, batch


def gradients(learner: Learner) -> dict[str, torch.Tensor]:
    """The gradients as they lie in the network and its head, by name."""
    found = {f"head.{name}": p for name, p in learner.head.named_parameters()} | dict(learner.graph.named_parameters())
    return {name: p.grad.clone() for name, p in found.items() if p.grad is not None}


def values(learner: Learner) -> dict[str, torch.Tensor]:
    """The weights of the network and its head, by name, as ``gradients`` has them."""
    found = {f"head.{name}": p for name, p in learner.head.named_parameters()} | dict(learner.graph.named_parameters())
    return {name: p.detach().clone() for name, p in found.items()}
