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
left        new, its content without a vector and not in the run's portion              none
==========  ==========================================================================  ==========
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from featstore.extract.portion import Portion
from featstore.storage import hashing

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from featstore.settings import ExtractSettings

__all__ = ["Counts", "Plan", "Staged", "cut", "make"]

# What a scan says of an item besides its metadata.
SCAN_COLUMNS = ("item_id", "content_sha256", "locator", "size", "mtime_ns", "inode")
# Columns of the table that are no metadata of the source.
_OWN_COLUMNS = {"item_id", "content_sha256", "embedding", "created_ts", "run_id", "text", "_file", "_row"}

# Statuses as numbers, so that what has to be written comes last.
_UNCHANGED, _UPDATED, _CHANGED, _NEW = range(4)

# Rows that are copied at once to be hashed.
_BLOCK = 65_536


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
    left: int = 0


@dataclass(frozen=True)
class Staged:
    """A vector on disk that no commit names yet: from a run that was cut short."""

    content_sha256: str
    file: str
    row: int


@dataclass(frozen=True)
class Plan:
    """What one run will do.

    ``embed`` holds the items to embed, shard by shard and within one in the source's order, with the scan's columns,
    metadata and ``shard``; ``carry`` those whose vector exists, with ``from_file`` and ``from_row`` (null: the
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
    portion: Portion,
    settings: ExtractSettings,
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
        portion: Which of what could be embedded is, and in which order.
        settings: Of the run. With ``keep_text`` a row without its text is not as it should be.
        shard_items: A shard's largest number of items.
        shard_bytes: A shard's largest number of content bytes; one item at least.
        binding: What else the plan depends on (space, settings, base version), for its digest.

    Returns:
        The plan, its digest equal whenever all of the above is.
    """
    # Ids and hashes become numbers at once: all that follows then costs a few bytes an item, whatever the names.
    table = _Table.of(stored)
    left_over = pa.array([s.content_sha256 for s in staged], pa.string())
    with ThreadPoolExecutor(1, thread_name_prefix="featstore-plan") as beside:
        shas = beside.submit(_codes, items["content_sha256"], table.hashes, left_over, rejected["content_sha256"])
        id_codes = _codes(items["item_id"], table.ids, rejected["item_id"])
        sha_codes = shas.result()
    scan = pl.DataFrame({"at": pl.arange(items.num_rows, eager=True), "id": id_codes[0], "sha": sha_codes[0]})
    there = pl.DataFrame(
        {"stored_at": pl.arange(table.size, eager=True), "id": id_codes[1], "stored_sha": sha_codes[1]}
    )
    joined = scan.join(there, on="id", how="left", maintain_order="left")
    known = pl.col("stored_sha").is_not_null()
    same = known & (pl.col("stored_sha") == pl.col("sha"))
    differs = _metadata_differs(metadata, stored, joined["stored_at"], texts=settings.keep_text)
    joined = joined.with_columns(
        pl.when(same & pl.Series("differs", differs))
        .then(_UPDATED)
        .when(same)
        .then(_UNCHANGED)
        .when(known)
        .then(_CHANGED)
        .otherwise(_NEW)
        .cast(pl.Int8)
        .alias("status")
    )

    # Removed: in the table, not in the scan, and not merely unreadable today.
    gone = there.join(scan, on="id", how="anti")
    staying = _among(table.ids, gone["stored_at"], held)
    if removable is not None:
        staying |= ~_among(table.ids, gone["stored_at"], removable)
    gone = gone.filter(~staying)

    # Where the vector of a content lies: in the table (a place below ``size``), else in what an unfinished run left.
    pool = pl.DataFrame(
        {
            "place": pl.arange(table.size + len(staged), eager=True),
            "sha": pl.concat([pl.Series(sha_codes[1]), pl.Series(sha_codes[2])]),
        }
    ).unique("sha", keep="first", maintain_order=True)

    todo = joined.filter(pl.col("status") >= _CHANGED).join(pool, on="sha", how="left", maintain_order="left")
    refused = pl.DataFrame(
        {"id": id_codes[2], "sha": sha_codes[3], "code": pl.Series(values=rejected["code"], dtype=pl.String)}
    ).unique(["id", "sha"], keep="last", maintain_order=True)
    again = todo.filter(pl.col("place").is_null()).join(refused, on=["id", "sha"], how="inner")
    todo = todo.join(again.select("at"), on="at", how="anti", maintain_order="left")
    stored_vector = pl.col("place").is_not_null()
    lacking = todo.filter(~stored_vector).with_columns(changed=pl.col("status") == _CHANGED)
    embed = portion.chosen(lacking, items, metadata, settings)
    left = lacking.join(embed.select("sha"), on="sha", how="anti")
    todo = todo.join(left.select("at"), on="at", how="anti", maintain_order="left")
    twins = todo.join(embed.select("at"), on="at", how="anti", maintain_order="left")
    updated = joined.filter(pl.col("status") == _UPDATED).with_columns(place=pl.col("stored_at"))
    carry = pl.concat([twins.select("at", "place"), updated.select("at", "place")]).sort("at")

    # Rows that leave their file: replaced, of other content now (even when refused), or gone.
    replaced = joined.filter(pl.col("status").is_in([_CHANGED, _UPDATED]))
    drop = table.by_file(pl.concat([replaced["stored_at"], gone["stored_at"]]))

    renamed = twins.filter(pl.col("status") == _NEW).join(
        gone.select(sha=pl.col("stored_sha")).unique(), on="sha", how="semi"
    )
    # What was renamed has not gone: only its id leaves.
    lost = gone.join(renamed.select(stored_sha=pl.col("sha")).unique(), on="stored_sha", how="anti")
    counts = Counts(
        unchanged=joined.filter(pl.col("status") == _UNCHANGED).height,
        updated=updated.height,
        new=embed.filter(pl.col("status") == _NEW).height,
        changed=embed.filter(pl.col("status") == _CHANGED).height,
        renamed=renamed.height,
        twins=twins.height - renamed.height,
        rejected=again.height,
        removed=lost.height,
        left=left.height,
    )
    wanted = items.select(list(SCAN_COLUMNS))
    for column in metadata.column_names:
        wanted = wanted.append_column(column, metadata[column])
    shards = cut(_rows(items.select(["size"]), embed["at"])["size"], shard_items, shard_bytes)
    embed = embed.with_columns(shard=pl.Series(shards, dtype=pl.Int64))
    embed = embed.sort("shard", "at")  # no source likes to be read to and fro
    to_embed = _rows(wanted, embed["at"]).append_column("shard", pa.array(embed["shard"].to_numpy(), pa.int64()))
    files, rows = table.places(carry["place"], staged)
    to_carry = _rows(wanted, carry["at"]).append_column("from_file", files).append_column("from_row", rows)
    return Plan(
        embed=to_embed,
        carry=to_carry,
        drop=drop,
        counts=counts,
        shards=int(shards[-1]) + 1 if len(shards) else 0,
        removed=tuple(str(i) for i in table.ids.take(pa.array(lost["stored_at"].to_numpy())).to_pylist()),
        digest=_digest(to_embed, to_carry, drop, binding),
        again=dict(again["code"].value_counts(sort=True).iter_rows()),
    )


def cut(sizes: pa.ChunkedArray[Any], most_items: int, most_bytes: int) -> NDArray[np.int64]:
    """Numbers contiguous shards: a new one where the next item would pass either limit.

    Args:
        sizes: n int64, the bytes of each item.
        most_items: Items a shard holds at most.
        most_bytes: Bytes a shard holds at most, unless one item alone is larger.

    Returns:
        (n,) int64, the shard of each item, from 0.
    """
    ends = np.cumsum(sizes.to_numpy(), dtype=np.int64)
    shards = np.empty(len(ends), np.int64)
    start = shard = 0
    while start < len(ends):
        before = int(ends[start - 1]) if start else 0
        stop = int(np.searchsorted(ends, before + most_bytes, side="right"))
        stop = min(max(stop, start + 1), start + most_items)
        shards[start:stop] = shard
        start, shard = stop, shard + 1
    return shards


@dataclass(frozen=True)
class _Table:
    """The stored rows that the scan is compared with, without their metadata."""

    ids: pa.ChunkedArray[Any]
    hashes: pa.ChunkedArray[Any]
    files: pa.ChunkedArray[Any]
    rows: pa.ChunkedArray[Any]

    @classmethod
    def of(cls, stored: pa.Table | None) -> _Table:
        if stored is None:
            nothing = pa.chunked_array([pa.array([], pa.string())])
            return cls(nothing, nothing, nothing, pa.chunked_array([pa.array([], pa.int64())]))
        return cls(stored["item_id"], stored["content_sha256"], stored["_file"], stored["_row"])

    @property
    def size(self) -> int:
        return len(self.ids)

    def by_file(self, places: pl.Series) -> dict[str, NDArray[np.int64]]:
        """Row numbers by data file, both sorted."""
        at = pa.array(places.to_numpy())
        leaving = pl.DataFrame(
            {
                "file": pl.Series(values=self.files.take(at), dtype=pl.String),
                "row": pl.Series(values=self.rows.take(at), dtype=pl.Int64),
            }
        )
        grouped = leaving.group_by("file").agg(pl.col("row").sort()).sort("file")
        return {file: np.array(rows, np.int64) for file, rows in grouped.iter_rows()}

    def places(self, places: pl.Series, staged: Sequence[Staged]) -> tuple[pa.ChunkedArray[Any], pa.ChunkedArray[Any]]:
        """File and row of some places; null for a vector that is yet to be made."""
        at = places.to_arrow()
        files = [*self.files.chunks, pa.array([s.file for s in staged], pa.string())]
        rows = [*self.rows.chunks, pa.array([s.row for s in staged], pa.int64())]
        return pa.chunked_array(files, pa.string()).take(at), pa.chunked_array(rows, pa.int64()).take(at)


def _codes(*columns: pa.ChunkedArray[Any] | pa.Array[Any]) -> list[NDArray[np.int32]]:
    """Numbers for strings: equal in all the columns where the strings are equal. A null is a value as any other."""
    chunks = [chunk for column in columns for chunk in getattr(column, "chunks", [column])]
    encoded: Any = pa.chunked_array(chunks, pa.string()).dictionary_encode(null_encoding="encode")
    numbers = np.concatenate([np.asarray(chunk.indices) for chunk in encoded.chunks] or [np.empty(0, np.int32)])
    return np.split(numbers, np.cumsum([len(column) for column in columns])[:-1])


def _among(ids: pa.ChunkedArray[Any], places: pl.Series, names: Sequence[str]) -> pl.Series:
    """For each place: whether its id is one of the names."""
    if not names or not len(places):
        return pl.repeat(False, len(places), dtype=pl.Boolean, eager=True)
    wanted = pc.is_in(ids.take(pa.array(places.to_numpy())), value_set=pa.array(names, pa.string()))
    return pl.Series(values=wanted, dtype=pl.Boolean)


def _rows(table: pa.Table, at: pl.Series) -> pa.Table:
    """Some rows; all of them as they are are not copied."""
    whole = len(at) == table.num_rows and bool(at.is_sorted())
    return table if whole else table.take(pa.array(at.to_numpy()))


def _metadata_differs(metadata: pa.Table, stored: pa.Table | None, at: pl.Series, *, texts: bool) -> NDArray[np.bool_]:
    """For each item of the scan: whether any metadata differs from the row ``at`` of the table (null: no row)."""
    differs = np.zeros(len(at), bool)
    if stored is None:
        return differs
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
    if texts:  # rows from before --keep-text
        lacking = stored["text"].take(where).is_null().to_numpy() if "text" in stored.column_names else True
        differs[found] |= lacking
    return differs


def _digest(embed: pa.Table, carry: pa.Table, drop: dict[str, NDArray[np.int64]], binding: dict[str, object]) -> str:
    parts = [
        [hashing.of_bytes(memoryview(_serialised(table.slice(start, _BLOCK))).cast("B")) for start in starts]
        for table in (embed, carry)
        for starts in [range(0, max(1, table.num_rows), _BLOCK)]
    ]
    dropped = {file: hashing.of_bytes(rows.tobytes()) for file, rows in drop.items()}
    return hashing.of_json({"embed": parts[0], "carry": parts[1], "drop": dropped, **binding})


def _serialised(rows: pa.Table) -> pa.Buffer:
    """The same bytes for the same rows, however they were chunked: a copy has no bits of its neighbours in it."""
    sink = pa.BufferOutputStream()
    flat = rows.take(pa.array(range(rows.num_rows), pa.int64())).combine_chunks().replace_schema_metadata(None)
    with pa.ipc.new_stream(sink, flat.schema) as writer:
        writer.write_table(flat)
    return sink.getvalue()
