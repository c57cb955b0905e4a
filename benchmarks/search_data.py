"""Vectors for the search benchmark that have the shape of real embeddings, as many as are wanted.

They are made from real ones: 4,000 paragraphs of the descriptions of the installed Python packages through MiniLM
(384 values), and 1,500 photographs of the elpv-dataset package through EfficientNet-lite0 (1,280 values). A new vector
lies between a real one ``a`` and one of its 10 nearest ``b``, moved along the difference of two other real ones::

    w·a + (1 − w)·b + 0.5·(c − e),   w uniform in [0.5, 1]

so that the cloud keeps the clusters of the real one, and, since the movement is drawn from the data too, its spectrum.
Queries are drawn the same way and are not in the table. The vectors of 2,048 values are the 1,280 of the photographs
turned by a fixed random rotation into 2,048 dimensions: every cosine, and so every neighbour, stays as it is.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import random
import tempfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import featstore
from featstore.neighbours import nearest_others

__all__ = ["Sample", "image_like", "text_like"]

TEXTS, PICTURES = 4000, 1500
_MOVED = 0.5

Sample = tuple[NDArray[np.float32], NDArray[np.float32]]


def text_like(folder: Path, n: int, queries: int) -> Sample:
    """``n`` vectors of 384 values and queries of the same kind, all at unit length."""
    return _drawn(_kept(folder / "texts.npy", _texts), n, queries)


def image_like(folder: Path, n: int, queries: int) -> Sample:
    """``n`` vectors of 2,048 values and queries of the same kind, all at unit length."""
    vectors, asked = _drawn(_kept(folder / "pictures.npy", _pictures), n, queries)
    turn = np.linalg.qr(np.random.default_rng(1).standard_normal((2048, vectors.shape[1])))[0].astype(np.float32)
    return vectors @ turn.T, asked @ turn.T


def _drawn(real: NDArray[np.float32], n: int, queries: int) -> Sample:
    real = real / np.linalg.norm(real, axis=1, keepdims=True)
    near = nearest_others(real, np.arange(len(real)), 10)[0]
    chance = np.random.default_rng(0)
    vectors = np.empty((n + queries, real.shape[1]), np.float32)
    for start in range(0, len(vectors), 20_000):
        m = min(20_000, len(vectors) - start)
        a, c, e = chance.integers(0, len(real), (3, m))
        b = near[a, chance.integers(0, near.shape[1], m)]
        w = chance.uniform(0.5, 1, (m, 1)).astype(np.float32)
        made = w * real[a] + (1 - w) * real[b] + np.float32(_MOVED) * (real[c] - real[e])
        vectors[start : start + m] = made / np.linalg.norm(made, axis=1, keepdims=True)
    return vectors[:n], vectors[n:]


def _kept(path: Path, make: object) -> NDArray[np.float32]:
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        np.save(path, make())  # type: ignore[operator]
    return np.load(path)


def _texts() -> NDArray[np.float32]:
    found: dict[str, None] = {}
    for package in importlib.metadata.distributions():
        text = package.metadata.get_payload() or package.metadata.get("Description") or ""
        for part in str(text).split("\n\n"):
            if len(part.strip()) >= 40:
                found[" ".join(part.split())[:300]] = None
    texts = sorted(found)
    random.Random(0).shuffle(texts)
    with tempfile.TemporaryDirectory() as name:
        source = Path(name) / "texts.jsonl"
        source.write_text(
            "".join(json.dumps({"id": f"{i:06d}", "text": t}) + "\n" for i, t in enumerate(texts[:TEXTS]))
        )
        store = featstore.open(Path(name) / "store")
        return store.extract(source, model="minilm", name="texts", id_column="id").matrix()[1]


def _pictures() -> NDArray[np.float32]:
    spec = importlib.util.find_spec("elpv_dataset")
    assert spec is not None, "elpv-dataset is not installed: pip install 'featstore[demo]'"
    assert spec.origin is not None
    with tempfile.TemporaryDirectory() as name:
        store = featstore.open(Path(name) / "store")
        source = Path(spec.origin).parent / "data" / "images"
        return store.extract(source, model="efficientnet_lite0", name="pictures", limit=PICTURES).matrix()[1]
