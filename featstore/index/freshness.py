"""Which row of a table stands behind each FAISS id, also when the table has moved since the index was made.

Data files never change, so rows of a file that both versions have are the same rows; only what lies in other
files is looked up by ``item_id`` and content. An item whose content has changed is another item here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from featstore.index import files

if TYPE_CHECKING:
    import pyarrow as pa

    from featstore.layout import Layout
    from featstore.records import IndexCard
    from featstore.tables import FeatureTable

__all__ = ["Alignment", "align"]

_KEY = ["item_id", "content_sha256"]


@dataclass(frozen=True)
class Alignment:
    """How an index fits a version of its table.

    ``rows`` has for each FAISS id its row in that version, -1 where the item is not in it; None says that each id
    is its own row. ``new`` are the rows that no id stands for, ascending. ``gone`` counts the items that the index
    was made from and this version lacks.
    """

    rows: NDArray[np.int64] | None
    new: NDArray[np.int64]
    gone: int

    @property
    def same(self) -> bool:
        """Whether the index has exactly the version's items."""
        return not len(self.new) and not self.gone


def align(layout: Layout, card: IndexCard, features: FeatureTable) -> Alignment:
    """Maps the ids of an index to the rows of an opened version; reads nothing where the two were made together.

    Raises:
        IntegrityError: A file of the index or the table is damaged.
    """
    there = features.file_rows
    nothing = np.zeros(0, np.int64)
    if there == card.files and list(there) == list(card.files):
        if card.ordered:
            return Alignment(None, nothing, 0)
        return Alignment(files.read_ids(layout, card, [])[1], nothing, 0)
    moved = _moved(card.files, there)
    lost = (moved < 0).any()
    known = np.zeros(len(features), np.bool_)
    known[moved[moved >= 0]] = True
    ids, before = files.read_ids(layout, card, _KEY if lost and not known.all() else [])
    rows = np.where(before >= 0, moved[before], -1)
    if ids.num_columns:
        labels, places = np.flatnonzero((before >= 0) & (rows < 0)), np.flatnonzero(~known)
        which, where = _matched(ids.take(labels), features.rows_at(places, _KEY))
        rows[labels[which]] = places[where]
        known[places[where]] = True
    gone = int(((before >= 0) & (rows < 0)).sum())
    return Alignment(rows, np.flatnonzero(~known), gone)


def _moved(before: dict[str, int], now: dict[str, int]) -> NDArray[np.int64]:
    """For each row of the earlier files its row among the later ones, -1 where its file is gone."""
    start = dict(zip(now, np.cumsum([0, *now.values()])[:-1].tolist(), strict=True))
    parts = [
        np.arange(count) + start[path] if now.get(path) == count else np.full(count, -1)
        for path, count in before.items()
    ]
    return np.concatenate([np.zeros(0, np.int64), *parts])


def _matched(left: pa.Table, right: pa.Table) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The places of equal ids and contents in both."""
    import polars as pl

    frames = [pl.from_arrow(table) for table in (left, right)]
    assert isinstance(frames[0], pl.DataFrame)
    assert isinstance(frames[1], pl.DataFrame)
    both = frames[0].with_row_index("left").join(frames[1].with_row_index("right"), on=_KEY, how="inner")
    return both["left"].cast(pl.Int64).to_numpy(), both["right"].cast(pl.Int64).to_numpy()
