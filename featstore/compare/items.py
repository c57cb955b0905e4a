"""The items that are compared: those of the sample whose vectors every model has."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from featstore.layout import Layout
from featstore.records import ModelCard
from featstore.storage import frames
from featstore.tables import FeatureTable

__all__ = ["Items", "gather"]


@dataclass(frozen=True)
class Items:
    """n items in the order of their contents' hashes, which is as good as a random one.

    Attributes:
        rows: Their rows of the scan.
        ids: Their ids.
        contents: Their contents' hashes.
        labels: Their labels as text; None where there is none.
        groups: Their groups as text; None where there is none.
        vectors: By ``space_id``, (n, dim) float32.
    """

    rows: pa.Table
    ids: list[str]
    contents: list[str]
    labels: list[str | None]
    groups: list[str | None]
    vectors: dict[str, NDArray[np.float32]]

    def __len__(self) -> int:
        return len(self.ids)


def gather(layout: Layout, name: str, cards: Sequence[ModelCard], sample: pa.Table) -> Items:
    """Reads the sample's vectors from each model's table.

    Args:
        layout: The store.
        name: The table's name.
        cards: The models.
        sample: Rows of a scan.

    Returns:
        The items that every table holds with the content that the scan saw.

    Raises:
        IntegrityError: A table is damaged.
    """
    order = pc.sort_indices(sample, sort_keys=[("content_sha256", "ascending"), ("item_id", "ascending")])
    sample = sample.take(order)
    ids, contents = frames.strings(sample, "item_id"), frames.strings(sample, "content_sha256")
    opened = {card.space_id: FeatureTable.staging(layout, name, card.space_id, card.dim) for card in cards}
    places = {space_id: _places(table, ids) for space_id, table in opened.items()}
    kept = [
        at
        for at, (item, content) in enumerate(zip(ids, contents, strict=True))
        if all(found.get(item, ("", "", 0))[0] == content for found in places.values())
    ]
    rows = sample.take(pa.array(kept, pa.int64()))
    vectors = {space_id: _read(table, places[space_id], [ids[at] for at in kept]) for space_id, table in opened.items()}
    return Items(
        rows=rows,
        ids=[ids[at] for at in kept],
        contents=[contents[at] for at in kept],
        labels=_texts(rows, "label"),
        groups=_texts(rows, "group"),
        vectors=vectors,
    )


def _places(table: FeatureTable, ids: Sequence[str]) -> Mapping[str, tuple[str, str, int]]:
    """Content, file and row of some items, by id."""
    if table.version is None:
        return {}
    rows = table.rows(["item_id", "content_sha256"])
    rows = rows.filter(pc.is_in(rows["item_id"], value_set=pa.array(ids, pa.string())))
    columns = (rows[column].to_pylist() for column in ("item_id", "content_sha256", "_file", "_row"))
    return {item: (content, file, row) for item, content, file, row in zip(*columns, strict=True)}


def _read(table: FeatureTable, places: Mapping[str, tuple[str, str, int]], ids: Sequence[str]) -> NDArray[np.float32]:
    if not ids:
        return np.empty((0, table.dim), np.float32)
    return table.vectors([places[item][1] for item in ids], np.array([places[item][2] for item in ids], np.int64))


def _texts(rows: pa.Table, column: str) -> list[str | None]:
    if column not in rows.column_names:
        return [None] * rows.num_rows
    return [None if value is None else str(value) for value in rows[column].to_pylist()]
