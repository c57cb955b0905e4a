"""What the tests of tables share: a store, rows, vectors."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from featstore.layout import Layout
from featstore.storage import Storage
from featstore.tables import FeatureTable

NAME, SPACE = "photos", "tiny-0a1b2c3d"
NOW = datetime(2026, 5, 4, 3, 2, 1, 123456, tzinfo=UTC)


def layout_at(folder: Path) -> Layout:
    return Layout(Storage.at(folder / "store"))


def vectors(rows: int, dim: int = 16, seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).standard_normal((rows, dim), np.float32)


def raw_rows(rows: int, *, start: int = 0, run: str = "run1", **metadata: object) -> pa.Table:
    columns: dict[str, object] = {
        "item_id": [f"folder/item {i:06d}.jpg" for i in range(start, start + rows)],
        "content_sha256": [f"{i:064x}" for i in range(start, start + rows)],
        **metadata,
        "created_ts": pa.array([NOW] * rows, pa.timestamp("us", "UTC")),
        "run_id": [run] * rows,
    }
    return pa.table(columns)


def filled(
    folder: Path, *, rows: int = 1000, dim: int = 16, parts: int = 3, **metadata: object
) -> tuple[Layout, FeatureTable, NDArray[np.float32]]:
    """A table with one committed run of several files."""
    layout = layout_at(folder)
    table = FeatureTable.staging(layout, NAME, SPACE, dim)
    x = vectors(rows, dim)
    aligned = table.align(raw_rows(rows, **(metadata or {"label": ["cat", "dog"] * (rows // 2)})))
    cuts = np.linspace(0, rows, parts + 1).astype(int)
    files = [
        table.write_part("run1", part, aligned.slice(a, b - a), x[a:b])
        for part, (a, b) in enumerate(itertools.pairwise(cuts))
    ]
    table.commit(run_id="run1", add=files, remove=[], details={})
    return layout, FeatureTable.open(layout, NAME, SPACE), x


def add_run(layout: Layout, run: str, rows: int, *, start: int, dim: int = 16, seed: int = 1) -> int:
    table = FeatureTable.staging(layout, NAME, SPACE, dim)
    part = table.write_part(run, 0, table.align(raw_rows(rows, start=start, run=run)), vectors(rows, dim, seed))
    return table.commit(run_id=run, add=[part], remove=[], details={})
