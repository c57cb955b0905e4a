"""Items of two tables, matched by ``item_id``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

from featstore.tables import FeatureTable
from featstore.tables.columns import FIXED, VECTOR

__all__ = ["Match", "Place", "match", "updates"]

# What every run writes anew, and what the comparison itself is about.
_NOT_METADATA = frozenset({*FIXED, VECTOR}) - {"event_ts"}


@dataclass(frozen=True)
class Place:
    """Where common items lie in one table: ``row`` of ``rows()``, ``file`` and ``at`` as ``vectors()`` takes them."""

    row: NDArray[np.int64]
    file: NDArray[np.object_]
    at: NDArray[np.int64]

    def of(self, which: NDArray[Any]) -> Place:
        """The same for some of the items, by index or mask."""
        return Place(self.row[which], self.file[which], self.at[which])


@dataclass(frozen=True)
class Match:
    """What two tables have in common, in the order of ``item_id``, and what only one of them has.

    ``content`` is the hash in ``b``; ``changed`` says where it differs from that in ``a``. ``stirred`` says where the
    row is not the very same place of the very same file. ``renamed`` counts the added whose content was removed.
    """

    ids: NDArray[np.object_]
    content: NDArray[np.object_]
    changed: NDArray[np.bool_]
    stirred: NDArray[np.bool_]
    a: Place
    b: Place
    added: tuple[str, ...]
    removed: tuple[str, ...]
    renamed: int


def match(a: FeatureTable, b: FeatureTable) -> Match:
    """Matches the items of two tables.

    Raises:
        IntegrityError: A file is missing or damaged.
    """
    left, right = _frame(a), _frame(b)
    both = left.join(right, on="item_id", how="inner", suffix="_b").sort("item_id")
    added = right.join(left, on="item_id", how="anti").sort("item_id")
    removed = left.join(right, on="item_id", how="anti").sort("item_id")
    changed = (both["content_sha256"] != both["content_sha256_b"]).to_numpy()
    same_table = a.path == b.path
    stirred = ((both["_file"] != both["_file_b"]) | (both["_row"] != both["_row_b"])).to_numpy()
    return Match(
        ids=both["item_id"].to_numpy(),
        content=both["content_sha256_b"].to_numpy(),
        changed=np.array(changed, np.bool_),
        stirred=np.array(stirred if same_table else np.ones(len(both)), np.bool_),
        a=_place(both, ""),
        b=_place(both, "_b"),
        added=tuple(added["item_id"].to_list()),
        removed=tuple(removed["item_id"].to_list()),
        renamed=len(added.join(removed, on="content_sha256", how="semi")),
    )


def updates(a: FeatureTable, b: FeatureTable, found: Match) -> tuple[int, dict[str, int]]:
    """How many common items have other metadata, in all and by column; an absent column counts as nulls."""
    where = np.flatnonzero(found.stirred)
    if not len(where):
        return 0, {}
    rows_a, rows_b = found.a.row[where], found.b.row[where]
    any_differs = np.zeros(len(where), np.bool_)
    by_column: dict[str, int] = {}
    for name in dict.fromkeys([*a.column_names, *b.column_names]):
        if name not in _NOT_METADATA:
            differs = _differs(_values(a, name, rows_a), _values(b, name, rows_b))
            any_differs |= differs
            if differs.any():
                by_column[name] = int(differs.sum())
    return int(any_differs.sum()), by_column


def _frame(table: FeatureTable) -> pl.DataFrame:
    frame = pl.from_arrow(table.rows(["item_id", "content_sha256"]))
    assert isinstance(frame, pl.DataFrame)
    return frame.with_row_index("row")


def _place(both: pl.DataFrame, suffix: str) -> Place:
    return Place(
        row=both[f"row{suffix}"].cast(pl.Int64).to_numpy(),
        file=both[f"_file{suffix}"].to_numpy(),
        at=both[f"_row{suffix}"].to_numpy(),
    )


def _values(table: FeatureTable, name: str, rows: NDArray[np.int64]) -> pa.ChunkedArray[Any]:
    if name not in table.column_names:
        return pa.chunked_array([pa.nulls(len(rows), pa.string())])
    return table.rows([name])[name].take(rows)


def _differs(a: pa.ChunkedArray[Any], b: pa.ChunkedArray[Any]) -> NDArray[np.bool_]:
    if a.type != b.type:  # retyped since, or another table's: equal if they read the same
        a, b = a.cast(pa.string()), b.cast(pa.string())
    return np.array((~pl.Series(values=a).eq_missing(pl.Series(values=b))).to_numpy(), np.bool_)
