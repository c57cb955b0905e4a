"""The items to embed as they lie in a run's plan file: a shard is read when its turn comes.

What is to be embedded may be millions of rows; while the model works, memory holds those of one shard.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from featstore.layout import Layout
from featstore.storage import frames

__all__ = ["Planned"]


class Planned:
    """A run's plan file."""

    def __init__(self, layout: Layout, run_id: str) -> None:
        self._file = frames.Groups(layout.storage, layout.plan(run_id))
        self._whole: pa.Table | None = None

    @classmethod
    def write(cls, layout: Layout, run_id: str, embed: pa.Table) -> Planned:
        """Writes it, one group of rows a shard.

        Args:
            layout: The store.
            run_id: The run.
            embed: The plan's items to embed, with ``shard`` from 0 on, in rising order.
        """
        shards = np.asarray(embed["shard"])
        starts = np.searchsorted(shards, np.arange(int(shards[-1]) + 2 if len(shards) else 1))
        frames.write_groups(layout.storage, layout.plan(run_id), embed, starts.tolist())
        return cls(layout, run_id)

    @property
    def rows(self) -> int:
        """All items."""
        return self._file.rows

    def shard(self, number: int, columns: Sequence[str] | None = None) -> pa.Table:
        """The items of one shard, without the column ``shard``.

        Raises:
            IntegrityError: The file was changed.
        """
        wanted = None if columns is None else [*columns, "shard"]
        if self._whole is None and number < self._file.groups:
            rows = self._file.read(number, wanted)
            if _only(rows, number):
                return rows.drop_columns(["shard"])
        if self._whole is None:  # of a version that knew no groups
            self._whole = self._file.all()
        mine = np.flatnonzero(np.asarray(self._whole["shard"]) == number)
        rows = self._whole.take(mine)
        return rows.drop_columns(["shard"]) if columns is None else rows.select(list(columns))


def _only(rows: pa.Table, number: int) -> bool:
    shards = np.asarray(rows["shard"])
    return bool(len(shards)) and bool((shards == number).all())
