"""The plan: what has to be written, what is there already, what goes. Made once, then followed.

Every item of the scan is compared with the table by ``item_id`` and ``content_sha256``:

==========  ==========================================================================  ==========
status      meaning                                                                     vector
==========  ==========================================================================  ==========
unchanged   same id, same content, same metadata                                        stays
updated     same id and content, other metadata                                         carried
new         id not in the table                                                         embedded
changed     id in the table with other content                                          embedded
renamed     new id whose content belonged to an id that has gone                        carried
twin        new or changed id whose content is stored, or comes earlier in this scan    carried
rejected    refused before, same id and content, not asked to be retried                none
==========  ==========================================================================  ==========
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
import pyarrow as pa

from featstore.storage import hashing

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Counts", "Plan", "Staged", "cut", "make"]

# What a scan says of an item besides its metadata.
SCAN_COLUMNS = ("item_id", "content_sha256", "locator", "size", "mtime_ns", "inode")
# Columns of the table that are no metadata of the source.
_OWN_COLUMNS = {"item_id", "content_sha256", "embedding", "created_ts", "run_id", "text", "_file", "_row"}


@dataclass(frozen=True)
class Counts:
    """How many items of each status."""

    unchanged: int = 0
    updated: int = 0
    new: int = 0
    changed: int = 0
    renamed: int = 0
    twins: int = 0
    rejected: int = 0
    removed: int = 0


@dataclass(frozen=True)
class Staged:
    """A vector on disk that no commit names yet: from a run that was cut short."""

    content_sha256: str
    file: str
    row: int


@dataclass(frozen=True)
class Plan:
    """What one run will do.

    ``embed`` holds the items to embed in the source's order, with the scan's columns, metadata and
    ``shard``; ``carry`` those whose vector exists, with ``from_file`` and ``from_row`` (null: the
    vector that this run makes for the same content). ``drop`` maps a data file of the table to the
    rows that leave it. ``again`` counts, by reason, what was refused before and is not tried again.
    """

    embed: pa.Table
    carry: pa.Table
    drop: dict[str, NDArray[np.int64]]
    counts: Counts
    shards: int
    removed: tuple[str, ...] = ()
    digest: str = ""
    again: dict[str, int] = field(default_factory=dict)

    @property
    def empty(self) -> bool:
        """Whether the table is already what the source says."""
        return not (self.embed.num_rows or self.carry.num_rows or self.drop)


def make(
    items: pa.Table,
    stored: pa.Table | None,
    *,
    metadata: pa.Table,
    rejected: pa.Table,
    staged: Sequence[Staged] = (),
    removable: Sequence[str] | None = (),
    held: Sequence[str] = (),
    shard_items: int,
    shard_bytes: int,
    binding: dict[str, object],
) -> Plan:
    """Compares a scan with a table.

    Args:
        items: ``Scan.items``, in the source's order.
        stored: The table's rows with ``_file`` and ``_row``; None for a table not made yet.
        metadata: The scan's metadata as the table would hold it, same rows as ``items``.
        rejected: ``item_id``, ``content_sha256`` and ``code`` of what is not to be tried again.
        staged: Vectors left by an unfinished run of the same space.
        removable: Ids that leave when the scan lacks them; None means every id of the table.
        held: Ids that stay although the scan lacks them: unreadable now, not gone.
        shard_items: A shard's largest number of items.
        shard_bytes: A shard's largest number of content bytes; one item at least.
        binding: What else the plan depends on (space, settings, base version), for its digest.

    Returns:
        The plan, its digest equal whenever all of the above is.
    """
    scan = pl.DataFrame(
        {
            "at": pl.arange(items.num_rows, eager=True),
            "item_id": pl.Series(values=items["item_id"], dtype=pl.String),
            "sha": pl.Series(values=items["content_sha256"], dtype=pl.String),
        }
    )
    table = _stored_frame(stored)
    joined = scan.join(table, on="item_id", how="left", maintain_order="left")
    known = pl.col("stored_sha").is_not_null()
    same = known & (pl.col("stored_sha") == pl.col("sha"))
    changed_metadata = _metadata_differs(metadata, stored, joined)
    joined = joined.with_columns(
        pl.when(same & pl.Series("differs", changed_metadata))
        .then(pl.lit("updated"))
        .when(same)
        .then(pl.lit("unchanged"))
        .when(known)
        .then(pl.lit("changed"))
        .otherwise(pl.lit("new"))
        .alias("status")
    )

    # Removed: in the table, not in the scan, and not merely unreadable today.
    gone = table.join(scan, on="item_id", how="anti")
    if held:
        gone = gone.filter(~pl.col("item_id").is_in(list(held)))
    if removable is not None:
        gone = gone.filter(pl.col("item_id").is_in(list(removable)))

    # Where the vector of a content lies: in the table, else in what an unfinished run left.
    pool = (
        pl.concat(
            [
                table.select("stored_sha", "_file", "_row"),
                pl.DataFrame(
                    {
                        "stored_sha": [s.content_sha256 for s in staged],
                        "_file": [s.file for s in staged],
                        "_row": [s.row for s in staged],
                    },
                    schema={"stored_sha": pl.String, "_file": pl.String, "_row": pl.Int64},
                ),
            ]
        )
        .unique("stored_sha", keep="first", maintain_order=True)
        .rename({"stored_sha": "sha", "_file": "from_file", "_row": "from_row"})
    )

    todo = joined.filter(pl.col("status").is_in(["new", "changed"])).join(
        pool, on="sha", how="left", maintain_order="left"
    )
    refused = pl.DataFrame(
        {
            "item_id": pl.Series(values=rejected["item_id"], dtype=pl.String),
            "sha": pl.Series(values=rejected["content_sha256"], dtype=pl.String),
            "code": pl.Series(values=rejected["code"], dtype=pl.String),
        }
    ).unique(["item_id", "sha"], keep="last", maintain_order=True)
    again = todo.filter(pl.col("from_file").is_null()).join(refused, on=["item_id", "sha"], how="inner")
    todo = todo.join(again.select("item_id"), on="item_id", how="anti", maintain_order="left")
    first = pl.col("sha").is_first_distinct()
    stored_vector = pl.col("from_file").is_not_null()
    embed = todo.filter(~stored_vector).filter(first)
    twins = todo.filter(stored_vector | ~pl.col("at").is_in(embed["at"].implode()))
    updated = joined.filter(pl.col("status") == "updated").with_columns(
        pl.col("_file").alias("from_file"), pl.col("_row").alias("from_row")
    )
    carry = pl.concat(
        [twins.select("at", "status", "from_file", "from_row"), updated.select("at", "status", "from_file", "from_row")]
    ).sort("at")

    # Rows that leave their file: replaced, of other content now (even when refused), or gone.
    leaving = pl.concat(
        [
            joined.filter(pl.col("status").is_in(["changed", "updated"])).select("_file", "_row"),
            gone.select("_file", "_row"),
        ]
    )
    drop = _by_file(leaving)

    renamed = twins.filter(pl.col("status") == "new").join(
        gone.select(pl.col("stored_sha").alias("sha")).unique(), on="sha", how="semi"
    )
    # What was renamed has not gone: only its id leaves.
    lost = gone.join(renamed.select(pl.col("sha").alias("stored_sha")).unique(), on="stored_sha", how="anti")
    statuses = dict(joined["status"].value_counts().iter_rows())
    counts = Counts(
        unchanged=statuses.get("unchanged", 0),
        updated=updated.height,
        new=embed.filter(pl.col("status") == "new").height,
        changed=embed.filter(pl.col("status") == "changed").height,
        renamed=renamed.height,
        twins=twins.height - renamed.height,
        rejected=again.height,
        removed=lost.height,
    )
    wanted = items.select(list(SCAN_COLUMNS))
    for column in metadata.column_names:
        wanted = wanted.append_column(column, metadata[column])
    to_embed = wanted.take(pa.array(embed["at"].to_numpy()))
    shards = cut(np.asarray(to_embed["size"]), shard_items, shard_bytes)
    to_embed = to_embed.append_column("shard", pa.array(shards, pa.int64()))
    to_carry = wanted.take(pa.array(carry["at"].to_numpy()))
    to_carry = to_carry.append_column("from_file", carry["from_file"].to_arrow().cast(pa.string()))
    to_carry = to_carry.append_column("from_row", carry["from_row"].to_arrow())
    return Plan(
        embed=to_embed,
        carry=to_carry,
        drop=drop,
        counts=counts,
        shards=int(shards[-1]) + 1 if len(shards) else 0,
        removed=tuple(lost["item_id"].to_list()),
        digest=_digest(to_embed, to_carry, drop, binding),
        again=dict(again["code"].value_counts(sort=True).iter_rows()),
    )


def cut(sizes: NDArray[np.int64], most_items: int, most_bytes: int) -> NDArray[np.int64]:
    """Numbers contiguous shards: a new one where the next item would pass either limit.

    Args:
        sizes: (n,) bytes of each item.
        most_items: Items a shard holds at most.
        most_bytes: Bytes a shard holds at most, unless one item alone is larger.

    Returns:
        (n,) int64, the shard of each item, from 0.
    """
    shards = np.zeros(len(sizes), np.int64)
    shard = items = weight = 0
    for at, size in enumerate(sizes.tolist()):
        if items and (items == most_items or weight + size > most_bytes):
            shard, items, weight = shard + 1, 0, 0
        shards[at] = shard
        items, weight = items + 1, weight + size
    return shards


def _stored_frame(stored: pa.Table | None) -> pl.DataFrame:
    if stored is None:
        return pl.DataFrame(
            schema={
                "item_id": pl.String,
                "stored_sha": pl.String,
                "_file": pl.String,
                "_row": pl.Int64,
                "stored_at": pl.Int64,
            }
        )
    return pl.DataFrame(
        {
            "item_id": pl.Series(values=stored["item_id"], dtype=pl.String),
            "stored_sha": pl.Series(values=stored["content_sha256"], dtype=pl.String),
            "_file": pl.Series(values=stored["_file"], dtype=pl.String),
            "_row": pl.Series(values=stored["_row"], dtype=pl.Int64),
            "stored_at": pl.arange(stored.num_rows, eager=True),
        }
    )


def _metadata_differs(metadata: pa.Table, stored: pa.Table | None, joined: pl.DataFrame) -> NDArray[np.bool_]:
    """For each item of the scan: whether any metadata differs from the row stored under its id."""
    differs = np.zeros(joined.height, bool)
    if stored is None:
        return differs
    at = joined["stored_at"]
    found = at.is_not_null().to_numpy()
    where = pa.array(at.filter(at.is_not_null()).to_numpy())
    names = (set(metadata.column_names) | set(stored.column_names)) - _OWN_COLUMNS
    for name in sorted(names):
        now = pl.Series(values=metadata[name]).filter(pl.Series(found)) if name in metadata.column_names else None
        old = pl.Series(values=stored[name].take(where)) if name in stored.column_names else None
        if now is None or old is None:
            present = old if now is None else now
            assert present is not None
            unequal = present.is_not_null()
        else:
            unequal = ~now.eq_missing(old)
        differs[found] |= unequal.to_numpy()
    return differs


def _by_file(leaving: pl.DataFrame) -> dict[str, NDArray[np.int64]]:
    grouped = leaving.group_by("_file").agg(pl.col("_row").sort()).sort("_file")
    return {file: np.array(rows, np.int64) for file, rows in grouped.iter_rows()}


def _digest(embed: pa.Table, carry: pa.Table, drop: dict[str, NDArray[np.int64]], binding: dict[str, object]) -> str:
    parts = []
    for table in (embed, carry):
        sink = pa.BufferOutputStream()
        flat = table.combine_chunks().replace_schema_metadata(None)
        with pa.ipc.new_stream(sink, flat.schema) as writer:
            writer.write_table(flat)
        parts.append(hashing.of_bytes(memoryview(sink.getvalue()).cast("B")))
    dropped = {file: hashing.of_bytes(rows.tobytes()) for file, rows in drop.items()}
    return hashing.of_json({"embed": parts[0], "carry": parts[1], "drop": dropped, **binding})
