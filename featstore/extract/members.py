"""Which items of a table each of its sources has put there.

Kept only where a table has several sources; all items of another belong to its one source.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from featstore.errors import UsageError
from featstore.layout import Layout
from featstore.storage import frames
from featstore.tables import FeatureTable

__all__ = ["check", "keep", "known", "settle"]


def known(layout: Layout, name: str, space_id: str, uri: str) -> list[str] | None:
    """The ids that a source has put into a table; None where that was not noted.

    Raises:
        IntegrityError: The note is damaged.
    """
    path = layout.members(name, space_id, uri)
    return frames.strings(frames.read(layout.storage, path), "item_id") if layout.storage.exists(path) else None


def settle(layout: Layout, name: str, uri: str) -> None:
    """Notes that all of a table is of its one source, in each of its spaces; to be done before another comes."""
    for space_id in layout.storage.folders(f"features/{name}"):
        if FeatureTable.exists(layout, name, space_id):
            ids = FeatureTable.open(layout, name, space_id).rows(["item_id"])["item_id"]
            frames.write(layout.storage, layout.members(name, space_id, uri), pa.table({"item_id": ids}))


def keep(layout: Layout, table: FeatureTable, uri: str, scanned: pa.ChunkedArray[Any]) -> None:
    """Notes which items of a table are a source's: those of its scan, and those noted before that are still there."""
    before = known(layout, table.name, table.space_id, uri)
    mine = pa.chunked_array([*scanned.chunks, pa.array(before or [], pa.string())], pa.string())
    there = table.rows(["item_id"])["item_id"]
    there = there.filter(pc.is_in(there, value_set=mine.combine_chunks()))
    if before is None or set(before) != set(there.to_pylist()):
        path = layout.members(table.name, table.space_id, uri)
        frames.write(layout.storage, path, pa.table({"item_id": there}))


def check(
    name: str, uri: str, scanned: pa.ChunkedArray[Any], others: Iterable[tuple[str, pa.Array[Any] | None]]
) -> None:
    """Refuses a source whose items have ids of another one's: each run would replace the other's vectors.

    Args:
        name: The table.
        uri: The source.
        scanned: The ids of its items.
        others: The table's other sources, and the ids of their items where they are known.

    Raises:
        UsageError: They share an id.
    """
    for other, theirs in others:
        if theirs is None:
            continue
        shared = scanned.filter(pc.is_in(scanned, value_set=theirs)).to_pylist()
        if shared:
            raise UsageError(
                f"{len(shared):,} items of {uri} have the ids of items of {other}, which are in '{name}' already: "
                f"{', '.join(map(str, shared[:3]))}{', …' if len(shared) > 3 else ''}.",
                hint="Give this source a table of its own with --name, or take the folder above both as the source.",
            )
