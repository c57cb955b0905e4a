"""The end of a run: carried vectors and rewritten files, all that the one commit names."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from featstore.encode.workers import Clock
from featstore.errors import ItemError, RetryableError
from featstore.extract.plan import Plan
from featstore.extract.planned import Planned
from featstore.extract.shard import stamp
from featstore.inputs import texts
from featstore.layout import Layout
from featstore.records import Manifest, Reject, ShardReceipt
from featstore.settings import ExtractSettings
from featstore.sources import Source
from featstore.storage import frames
from featstore.tables import FeatureTable, PartFile

__all__ = ["Pending", "assemble", "carried_rejects", "staged_rows"]

# Rows whose vectors are gathered at once: 16,384 × 2,048 float32 are 128 MiB.
_CARRY_ROWS = 16_384


def staged_rows(planned: Planned, receipts: Sequence[ShardReceipt]) -> Iterator[tuple[str, str, int]]:
    """Where each embedded content lies: its hash, data file and row."""
    for receipt in receipts:
        if receipt.file is None:
            continue
        rejected = {reject.item_id for reject in receipt.rejects}
        rows = planned.shard(receipt.shard, ["item_id", "content_sha256"])
        ids, contents = frames.strings(rows, "item_id"), frames.strings(rows, "content_sha256")
        kept = [content for item, content in zip(ids, contents, strict=True) if item not in rejected]
        yield from ((content, receipt.file, row) for row, content in enumerate(kept))


def carried_rejects(plan: Plan, receipts: Sequence[ShardReceipt]) -> list[Reject]:
    """Twins of contents that were refused in this run: refused for the same reason."""
    refused = {r.content_sha256: r for receipt in receipts for r in receipt.rejects}
    if not refused:
        return []
    rows = plan.carry.select(["item_id", "content_sha256", "from_file"]).to_pylist()
    found = []
    for row in rows:
        reason = refused.get(row["content_sha256"])
        if row["from_file"] is None and reason is not None:
            found.append(
                Reject(
                    item_id=row["item_id"],
                    content_sha256=row["content_sha256"],
                    stage=reason.stage,
                    code=reason.code,
                    message=f"same content as {reason.item_id}: {reason.message}",
                )
            )
    return found


@dataclass(frozen=True)
class Pending:
    """All that a run would commit: the data files it has written, and those that they replace."""

    add: tuple[PartFile, ...]
    remove: tuple[str, ...]

    def __bool__(self) -> bool:
        """Whether there is anything; where every item was refused there is not."""
        return bool(self.add or self.remove)


def assemble(
    layout: Layout,
    table: FeatureTable,
    plan: Plan,
    receipts: Sequence[ShardReceipt],
    manifest: Manifest,
    source: Source,
    settings: ExtractSettings,
    clock: Clock,
) -> Pending:
    """Writes what is left to write, so that all of the run can be committed at once.

    Args:
        layout: The store.
        table: The table, at the version the plan was made from.
        plan: The plan.
        receipts: Of all its shards.
        manifest: The run's.
        source: Where texts are read again for carried rows under ``keep_text``.
        settings: The run's.
        clock: Charged with the time of writing.

    Raises:
        IntegrityError: A stored vector that was to be carried is damaged.
        StorageError: The disk refused.
    """
    run_id = manifest.run_id
    drop = _but_unread(table, plan, receipts)
    parts = [
        PartFile(path=r.file, rows=r.rows, bytes=r.bytes, sha256=r.sha256 or "") for r in receipts if r.file is not None
    ]
    with clock.stage("write"):
        number = plan.shards
        for rows, vectors in _carried(layout, table, plan, receipts, manifest, source, settings):
            parts.append(table.write_part(run_id, number, rows, vectors))
            number += 1
        parts += table.rewrite_parts(run_id, number, drop)
    return Pending(tuple(parts), tuple(drop))


def _but_unread(table: FeatureTable, plan: Plan, receipts: Sequence[ShardReceipt]) -> dict[str, NDArray[np.int64]]:
    """What leaves the table, but for rows whose new content could not be read: unreadable now, not gone."""
    rejects = [*(r for receipt in receipts for r in receipt.rejects), *carried_rejects(plan, receipts)]
    unread = [reject.item_id for reject in rejects if reject.stage == "read"]
    if not unread or not plan.drop:
        return plan.drop
    rows = table.rows(["item_id"])
    rows = rows.filter(pc.is_in(rows["item_id"], value_set=pa.array(unread, pa.string())))
    staying: dict[str, list[int]] = {}
    for file, row in zip(frames.strings(rows, "_file"), np.asarray(rows["_row"]).tolist(), strict=True):
        staying.setdefault(file, []).append(row)
    found = {file: np.setdiff1d(leaving, staying.get(file, ())) for file, leaving in plan.drop.items()}
    return {file: leaving.astype(np.int64) for file, leaving in found.items() if len(leaving)}


def _made(layout: Layout, plan: Plan, receipts: Sequence[ShardReceipt], run_id: str) -> dict[str, tuple[str, int]]:
    """Where this run's vectors lie that more than one item takes, by content."""
    wanted = plan.carry.filter(pc.is_null(plan.carry["from_file"])) if plan.carry.num_rows else plan.carry
    shared = set(wanted["content_sha256"].to_pylist())
    if not shared:
        return {}
    found = staged_rows(Planned(layout, run_id), receipts)
    return {content: (file, row) for content, file, row in found if content in shared}


def _carried(
    layout: Layout,
    table: FeatureTable,
    plan: Plan,
    receipts: Sequence[ShardReceipt],
    manifest: Manifest,
    source: Source,
    settings: ExtractSettings,
) -> Iterator[tuple[pa.Table, NDArray[np.float32]]]:
    refused = {reject.item_id for reject in carried_rejects(plan, receipts)}
    made = _made(layout, plan, receipts, manifest.run_id)
    for start in range(0, plan.carry.num_rows, _CARRY_ROWS):
        chunk = plan.carry.slice(start, _CARRY_ROWS)
        kept = [at for at, item in enumerate(chunk["item_id"].to_pylist()) if item not in refused]
        if not kept:
            continue
        chunk = chunk.take(pa.array(kept))
        places = [
            made[content] if file is None or row is None else (file, row)
            for file, row, content in zip(
                chunk["from_file"].to_pylist(),
                chunk["from_row"].to_pylist(),
                frames.strings(chunk, "content_sha256"),
                strict=True,
            )
        ]
        vectors = _gather(table, places)
        rows = stamp(chunk, manifest, _texts(source, chunk) if settings.keep_text else None)
        yield rows, vectors


def _gather(table: FeatureTable, places: Sequence[tuple[str, int]]) -> NDArray[np.float32]:
    """Vectors by file and row, from the table's own files and from those that no commit names yet."""
    live = set(table.files)
    rows_of: dict[str, list[int]] = {}
    for at, (file, _) in enumerate(places):
        rows_of.setdefault(file if file not in live else "", []).append(at)
    found = np.empty((len(places), table.dim), np.float32)
    for file, ats in rows_of.items():
        rows = np.array([places[at][1] for at in ats], np.int64)
        if file:
            found[ats] = table.read_part(file)[1][rows]
        else:
            found[ats] = table.vectors([places[at][0] for at in ats], rows)
    return found


def _texts(source: Source, rows: pa.Table) -> list[str]:
    reader = source.reader(rows)
    found = []
    for row in range(rows.num_rows):
        try:
            found.append(texts.decode(reader.read(row)))
        except ItemError as error:
            item = rows["item_id"][row].as_py()
            raise RetryableError(
                f"the text of '{item}' could not be read again for --keep-text: {error.message}",
                hint="Run the same command again.",
            ) from error
    return found
