"""Stores with tables of given vectors and labels, for the tests of training: no model has to run."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

import featstore
from featstore import founding
from featstore.extract import previews
from featstore.records import Artefact, ModelCard, Parity, WeightsInfo
from featstore.storage import documents
from featstore.store import Store
from featstore.tables import FeatureTable

NOW = datetime(2026, 5, 4, 3, 2, 1, tzinfo=UTC)
SPACE, OTHER = "tiny-0a1b2c3d", "other-1b2c3d4e"
_FILE = Artefact(file="none", sha256="0" * 64, bytes=0)


def store_at(folder: Path) -> Store:
    store = featstore.open(folder / "featstore-data")
    founding.found(store.layout)
    return store


def add_table(
    store: Store,
    vectors: NDArray[np.float32],
    *,
    name: str = "photos",
    space: str = SPACE,
    ids: Sequence[str] | None = None,
    contents: Sequence[str] | None = None,
    run: str = "run1",
    modality: Any = "image",
    **columns: Any,
) -> FeatureTable:
    """Adds a run with these vectors to a table, and the card of its model."""
    n, dim = vectors.shape
    add_card(store, space, dim, modality)
    ids = [f"item{at:05d}" for at in range(n)] if ids is None else ids
    contents = [content(item) for item in ids] if contents is None else contents
    rows = pa.table(
        {
            "item_id": list(ids),
            "content_sha256": list(contents),
            **columns,
            "created_ts": pa.array([NOW] * n, pa.timestamp("us", "UTC")),
            "run_id": [run] * n,
        }
    )
    table = FeatureTable.staging(store.layout, name, space, dim)
    part = table.write_part(run, 0, table.align(rows), np.ascontiguousarray(vectors, np.float32))
    table.commit(run_id=run, add=[part])
    return FeatureTable.open(store.layout, name, space)


def content(text: str) -> str:
    from featstore.storage import hashing

    return hashing.of_text(text)


def add_card(store: Store, space: str, dim: int, modality: Any = "image") -> ModelCard:
    """The card of a model that is not there: nothing is embedded with it."""
    card = ModelCard(
        space_id=space, digest=space[-8:] * 8, model=space.partition("-")[0], family="own", architecture="none",
        modality=modality, layer="out", pooling="none", normalize=False, precision="fp32", dim=dim,
        weights=WeightsInfo(source="none", sha256="0" * 64, tensors_sha256="0" * 64, parameters=1),
        onnx=_FILE, canaries=_FILE,
        parity=Parity(items=0, min_cosine=1, mean_cosine=1, batch_min_cosine=1, reference=""),
        versions={}, created_ts="2026-05-04T00:00:00Z",
    )  # fmt: skip
    if not store.layout.storage.exists(store.layout.model_card(space)):
        documents.write(store.layout.storage, store.layout.model_card(space), card)
    return card


def blobs(
    n: int, classes: int = 3, dim: int = 16, *, spread: float = 1.0, seed: int = 0
) -> tuple[NDArray[np.float32], list[str]]:
    """Vectors around one centre a class, and the classes' names."""
    generator = np.random.default_rng(seed)
    centres = np.random.default_rng(99).standard_normal((classes, dim)) * 2
    numbers = generator.integers(0, classes, n)
    found = centres[numbers] + spread * generator.standard_normal((n, dim))
    return found.astype(np.float32), [f"class{number}" for number in numbers.tolist()]


def labelled(folder: Path, *, heads: int = 0) -> Path:
    """A folder with a store: ``photos`` and ``paintings`` have the same labelled items; perhaps heads on ``photos``."""
    store = store_at(folder)
    x, y = blobs(120)
    add_table(store, x, label=y)
    add_table(store, x[:, ::-1], label=y, name="paintings", space=OTHER)
    for _ in range(heads):
        store.train_head("photos", kind="prototypes", curve=False, baselines=False)
    return folder


def keep_texts(store: Store, name: str, texts: dict[str, str]) -> None:
    """Beginnings of texts by content hash, as an extract would keep them."""
    previews.keep(store.layout, name, "pack", {key: text.encode() for key, text in texts.items()})
