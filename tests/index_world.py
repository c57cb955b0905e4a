"""What the tests of indexes share: a table whose items come, change and go, and the right answers."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from tables_kit import NAME, NOW, SPACE, layout_at

from featstore import neighbours
from featstore.index import TableIndex
from featstore.layout import Layout
from featstore.tables import FeatureTable


class World:
    """A table of vectors that a test decides on; each change is one commit, as an extract makes it."""

    def __init__(self, folder: Path, dim: int = 8) -> None:
        self.layout: Layout = layout_at(folder)
        self.dim = dim
        self.runs = 0
        self.items: dict[str, tuple[str, NDArray[np.float32]]] = {}

    @property
    def features(self) -> FeatureTable:
        return FeatureTable.open(self.layout, NAME, SPACE)

    def at(self, version: int) -> FeatureTable:
        return FeatureTable.open(self.layout, NAME, SPACE, version)

    def commit(self, put: Mapping[str, tuple[str, NDArray[np.float32]]], drop: Iterable[str] = ()) -> None:
        """Adds or replaces items (content and vector), and removes others."""
        self.runs += 1
        run = f"run{self.runs:05d}"
        table = FeatureTable.staging(self.layout, NAME, SPACE, self.dim)
        gone = {*drop, *(put.keys() & self.items.keys())}
        parts, removed = [], []
        if gone:
            there = table.rows(["item_id"])
            hit = np.array([item in gone for item in there["item_id"].to_pylist()])
            files, places = np.array(there["_file"].to_pylist(), object), there["_row"].to_numpy()
            for number, file in enumerate(sorted(set(files[hit]))):
                part = table.rewrite_part(run, 1 + number, file, places[hit & (files == file)])
                parts += [] if part is None else [part]
                removed.append(file)
        if put:
            rows = pa.table(
                {
                    "item_id": list(put),
                    "content_sha256": [content for content, _ in put.values()],
                    "created_ts": pa.array([NOW] * len(put), pa.timestamp("us", "UTC")),
                    "run_id": [run] * len(put),
                }
            )
            parts.insert(0, table.write_part(run, 0, table.align(rows), np.stack([v for _, v in put.values()])))
        table.commit(run_id=run, add=parts, remove=removed)
        self.items = {item: what for item, what in self.items.items() if item not in gone} | dict(put)


def clustered(n: int, dim: int, *, seed: int = 0, clusters: int = 20) -> NDArray[np.float32]:
    """Vectors in clusters, as embeddings lie."""
    random = np.random.default_rng(seed)
    centres = np.random.default_rng(7).standard_normal((clusters, dim))
    return (centres[random.integers(0, clusters, n)] + 0.6 * random.standard_normal((n, dim))).astype(np.float32)


def items(
    vectors: NDArray[np.float32], *, start: int = 0, salt: str = ""
) -> dict[str, tuple[str, NDArray[np.float32]]]:
    """Items of their own content each, ``i000001`` and so on."""
    return {
        f"i{at:06d}": (hashlib.sha256(f"{salt} {at}".encode()).hexdigest(), vector)
        for at, vector in enumerate(vectors, start)
    }


def right(
    features: FeatureTable, index: TableIndex, queries: NDArray[np.float32], k: int = 10, **more: object
) -> float:
    """The share of exact search's hits that an index has; every score it gives must be that row's cosine."""
    vectors = features.matrix()[1]
    rows, scores = index.search(queries, k, **more)  # type: ignore[arg-type]
    allowed = more.get("allowed")
    truth, best = neighbours.exact(queries, vectors, k, allowed=allowed)  # type: ignore[arg-type]
    assert rows.shape == scores.shape == (len(queries), k)
    there = rows >= 0
    assert (there == (truth >= 0)).all()
    assert np.isneginf(scores[~there]).all()
    if not there.any():
        return 1.0
    unit = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    asked = queries / np.linalg.norm(queries, axis=1, keepdims=True)
    assert np.allclose(scores[there], np.einsum("qd,qkd->qk", asked, unit[np.maximum(rows, 0)])[there], atol=1e-5)
    for found in rows:
        assert len(set(found[found >= 0].tolist())) == (found >= 0).sum()
    if allowed is not None:
        assert np.asarray(allowed)[rows[there]].all()
    assert (np.diff(np.where(there, scores, -2), axis=1) <= 1e-7).all()
    last = best[:, int(there[0].sum()) - 1 :][:, :1]
    return float((scores >= last - 1e-6)[there].mean())
