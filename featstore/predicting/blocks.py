"""What is handed from where vectors come from to where they are predicted on: some rows at a time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import pyarrow as pa

    from featstore.errors import ItemError
    from featstore.records import Reject

__all__ = ["OWN", "Block", "Taken"]

OWN = ("created_ts", "run_id")
"""Columns that say how a row came into a table, not what the item is."""


@dataclass(frozen=True)
class Block:
    """Some items in their order.

    Attributes:
        rows: ``item_id``, ``content_sha256`` and the metadata columns.
        vectors: (n, d) float32; rows of refused items are zero.
        errors: Why an item has no vector, by its row.
        stored: How many vectors the store had.
        embedded: How many vectors the model made; contents that are equal are computed once.
        told: How many items, and how many refused ones, the reporter has been told of already.
    """

    rows: pa.Table
    vectors: NDArray[np.float32]
    errors: Mapping[int, ItemError] = field(default_factory=dict)
    stored: int = 0
    embedded: int = 0
    told: tuple[int, int] = (0, 0)


@dataclass(frozen=True)
class Taken:
    """The items to predict on, found but not read yet.

    Attributes:
        name: The source's URI, or the table's address with its version.
        columns: What the rows of each block look like: a table without rows.
        total: How many items there are.
        blocks: The items; to be gone through once.
        rejects: What was refused while the source was listed.
        warnings: One sentence each.
    """

    name: str
    columns: pa.Table
    total: int
    blocks: Iterator[Block]
    rejects: Sequence[Reject] = ()
    warnings: Sequence[str] = ()
