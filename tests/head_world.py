"""Heads made by hand, for the tests of what is done with heads once they are there."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

import featstore
from featstore.heads import conformal, keeping, opening
from featstore.heads.bootstrap import Measure
from featstore.heads.head import Head
from featstore.layout import Layout
from featstore.models import load_card
from featstore.records import Artefact, Conformal, HeadCard
from featstore.storage import documents, frames
from featstore.tables import FeatureTable

NOTHING = Artefact(file="predictions.parquet", sha256="0" * 64, bytes=0)


def weighted(measure: Measure, weights: NDArray[np.float64]) -> dict[str, float]:
    """A measure's values at one weight for each item."""
    return {name: float(values[0]) for name, values in measure(weights[None]).items()}


def prototypes(vectors: NDArray[np.float32], labels: list[str], **settings: float) -> Head:
    """The nearest class mean, on vectors of length 1."""
    unit = vectors.astype(np.float64) / np.linalg.norm(vectors, axis=1, keepdims=True)
    classes = tuple(sorted(set(labels)))
    means = np.stack([unit[[label == one for label in labels]].mean(axis=0) for one in classes])
    arrays = {"weights": 20 * means, "bias": -10 * (means**2).sum(axis=1)}
    known = {"temperature": 1.5, **settings}
    return Head("classification", "prototypes", classes, vectors.shape[1], "unit", arrays, known)


def linear(task: str, classes: tuple[str, ...], dim: int, *, input: str = "standard", seed: int = 0) -> Head:
    generator = np.random.default_rng(seed)
    count = len(classes) or 1
    arrays: dict[str, Any] = {
        "weights": generator.standard_normal((count, dim)) / np.sqrt(dim),
        "bias": generator.standard_normal(count),
    }
    if input in ("standard", "centred"):
        arrays |= {"mean": generator.standard_normal(dim) * 0.1, "factor": generator.uniform(0.5, 2.0, dim)}
    if task == "multilabel":
        arrays["thresholds"] = generator.uniform(0.3, 0.7, count)
    kind: Any = "ridge" if task == "regression" else "logistic"
    return Head(task, kind, classes, dim, input, arrays, {} if task == "regression" else {"temperature": 1.3})  # type: ignore[arg-type]


def mlp(task: str, classes: tuple[str, ...], dim: int, *, hidden: int = 24, seed: int = 0) -> Head:
    head = linear(task, classes, dim, seed=seed)
    generator = np.random.default_rng(seed + 1)
    arrays = {
        **head.arrays,
        "hidden_weights": generator.standard_normal((hidden, dim)) / np.sqrt(dim),
        "hidden_bias": generator.standard_normal(hidden),
        "weights": generator.standard_normal((len(classes) or 1, hidden)) / 4,
    }
    return dataclasses.replace(head, kind="torch-mlp", arrays=arrays)


def card_of(head: Head, /, **fields: Any) -> HeadCard:
    """A card for a head, its figures left empty."""
    found: dict[str, Any] = {
        "head": "kinds", "version": 1, "table": "photos", "space_id": "tiny-0a1b2c3d", "space_digest": "0" * 64,
        "table_version": 0, "dim": head.dim, "model": "tiny", "label": "label", "labels_from": "label",
        "task": head.task, "kind": head.kind, "classes": head.classes, "input": head.input, "settings": head.settings,
        "class_weights": None, "n_train": 1000, "n_test": 0, "n_unlabelled": 0, "n_excluded": 0, "n_groups": 1000,
        "folds": 5, "conflicts": 0, "leakage": 0, "split_id": "s", "split_origin": "made", "test_scored": 1, "seed": 0,
        "metrics": {}, "validation": {}, "training": {}, "fit": "", "baselines": {}, "candidates": (),
        "classes_figures": (), "conformal": None, "learning_curve": (), "advice": (), "shots": (), "previous": None,
        "head_file": NOTHING, "predictions": NOTHING, "versions": {}, "featstore": featstore.__version__,
        "created_ts": f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}", "seconds": 0.0, "warnings": (),
    }  # fmt: skip
    return HeadCard(**{**found, **fields})


def keep(layout: Layout, head: Head, /, **fields: Any) -> HeadCard:
    """Puts a head into a store as a training does: files first, the card last."""
    card = card_of(head, **fields)
    file = layout.head(card.head, card.version, keeping.HEAD_FILE)
    said = layout.head(card.head, card.version, opening.PREDICTIONS)
    frames.write(layout.storage, said, pa.table({"item_id": pa.array([], pa.string())}))
    content = layout.storage.read(said)
    card = dataclasses.replace(
        card,
        head_file=keeping.write(head, layout.storage, file),
        predictions=dataclasses.replace(NOTHING, sha256=_sha(content), bytes=len(content)),
    )
    documents.write(layout.storage, layout.head(card.head, card.version, opening.CARD), card)
    return card


def train(
    layout: Layout, features: FeatureTable, labels: list[str], name: str = "kinds", version: int = 1
) -> tuple[HeadCard, Head]:
    """A head of prototypes on all items of a table, in the order of its rows."""
    _, vectors = features.matrix()
    head = prototypes(vectors, labels)
    truth = np.array([head.classes.index(label) for label in labels])
    model = layout.model_card(features.space_id)
    digest = load_card(layout, features.space_id).digest if layout.storage.exists(model) else "0" * 64
    card = keep(
        layout, head, head=name, version=version, table=features.name, space_id=features.space_id,
        space_digest=digest, table_version=features.version, n_train=len(labels),
        conformal=calibrated(head.probabilities(vectors), truth),
    )  # fmt: skip
    return card, head


def calibrated(probabilities: NDArray[np.float64], truth: NDArray[np.int64]) -> Conformal:
    return conformal.calibrate(probabilities, truth, np.arange(len(truth)))


def headed(folder: Path) -> Path:
    """Gives the command line's world a head, ``kinds``; returns the folder."""
    store = featstore.open(folder / "featstore-data")
    (table,) = store.tables()
    train(store.layout, table.features, [("round", "square")[at % 2] for at in range(len(table))])
    return folder


def _sha(content: bytes) -> str:
    from featstore.storage import hashing

    return hashing.of_bytes(content)
