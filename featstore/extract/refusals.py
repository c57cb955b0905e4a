"""Rejects of a run, on their way to the rejects table."""

from __future__ import annotations

from collections.abc import Sequence

from featstore.layout import Layout
from featstore.records import Reject, ShardReceipt
from featstore.tables import FeatureTable, RejectsTable

__all__ = ["record"]


def record(
    layout: Layout,
    table: FeatureTable,
    run_id: str,
    rejects: Sequence[Reject],
    receipts: Sequence[ShardReceipt],
) -> None:
    """Adds what is not there yet for the same item, content and reason.

    Args:
        layout: The store.
        table: The table that the items were meant for.
        run_id: The run.
        rejects: Those that belong to no shard; they are filed under shard -1.
        receipts: The shards with theirs.
    """
    rows = [(-1, reject) for reject in rejects]
    rows += [(receipt.shard, reject) for receipt in receipts for reject in receipt.rejects]
    if not rows:
        return
    known = RejectsTable.read(layout, table.name, table.space_id)
    columns = (known[c].to_pylist() for c in ("item_id", "content_sha256", "code"))
    keys = set(zip(*columns, strict=True))
    fresh = [(shard, r) for shard, r in rows if (r.item_id, r.content_sha256, r.code) not in keys]
    if fresh:
        RejectsTable.append(layout, table.name, run_id=run_id, space_id=table.space_id, rejects=fresh)
