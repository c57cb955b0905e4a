"""What a run says of itself at the end, and what it would say beforehand."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from featstore.extract.plan import Plan
from featstore.layout import Layout
from featstore.machine import available_cpus
from featstore.records import ExtractResult, Manifest, ModelCard, Reject, ShardReceipt, StageSeconds
from featstore.sources import Scan
from featstore.storage import documents

__all__ = ["rehearsal", "result", "truncation"]

# Bytes of a row besides its vector, about: id, hash, times, run.
_ROW_BYTES = 120

# More texts than this cut at the model's maximum are worth a warning.
_TRUNCATED_SHARE = 0.01

# How many of the newest runs are looked at for a measured rate.
_RECENT_RUNS = 50


def result(
    *,
    layout: Layout,
    name: str,
    card: ModelCard,
    run_id: str | None,
    scan: Scan,
    plan: Plan,
    receipts: Sequence[ShardReceipt],
    twins_refused: Sequence[Reject],
    status: str,
    version: int | None,
    resumed: int,
    finishing: float,
    written: int,
    seconds: float,
    embedding: tuple[int, float],
    device: str | None,
    backend: str | None,
    warnings: tuple[str, ...],
) -> ExtractResult:
    """Counts a run, so that seen = stored + reused + rejected + left.

    ``items_per_s`` is the rate of the embedding stage of this process, model loading and scanning left
    out; where nothing was embedded, the rate of the whole run. ``rates`` are items per second that each
    stage alone would reach on all threads; the lowest is the bottleneck. A run that did not finish counts what it did.
    """
    counts = plan.counts
    stored = sum(receipt.rows for receipt in receipts)
    refused = [r for receipt in receipts for r in receipt.rejects] + list(scan.rejects) + list(twins_refused)
    rejected = len(refused) + counts.rejected
    whole = status in ("committed", "nothing new")
    reused = counts.unchanged + ((counts.updated + counts.renamed + counts.twins - len(twins_refused)) if whole else 0)
    fresh = [receipt.seconds for receipt in receipts]
    spent = StageSeconds(
        read=sum(s.read for s in fresh),
        decode=sum(s.decode for s in fresh),
        infer=sum(s.infer for s in fresh),
        write=sum(s.write for s in fresh) + finishing,
    )
    stages = {"read": spent.read, "decode": spent.decode, "infer": spent.infer, "write": spent.write}
    threads = {"write": 1}
    cpus = available_cpus()
    rates = {
        stage: round(stored * threads.get(stage, cpus) / used, 1)
        for stage, used in stages.items()
        if stored and used > 0
    }
    codes = Counter(reject.code for reject in refused)
    codes.update(plan.again)
    return ExtractResult(
        run_id=run_id,
        table=name,
        space_id=card.space_id,
        version=version,
        dim=card.dim,
        seen=stored + reused + rejected + counts.left,
        stored=stored,
        reused=reused,
        rejected=rejected,
        removed=counts.removed,
        ignored=sum(scan.ignored.values()),
        seconds=round(seconds, 3),
        items_per_s=_rate(*embedding) or _rate(stored + reused, seconds),
        bottleneck=min(rates, key=lambda stage: rates[stage]) if rates else None,
        status=status,
        new=counts.new,
        changed=counts.changed,
        renamed=counts.renamed,
        twins=counts.twins,
        updated=counts.updated,
        left=counts.left,
        truncated=sum(receipt.truncated for receipt in receipts),
        tokens=sum(receipt.tokens for receipt in receipts),
        bytes_written=written,
        shards=plan.shards,
        resumed_shards=resumed,
        stage_seconds=StageSeconds(**{stage: round(used, 3) for stage, used in stages.items()}),
        rates=rates,
        reject_codes=dict(codes),
        device=device,
        backend=backend,
        path=str(layout.storage.local(layout.table(name, card.space_id))),
        warnings=warnings,
    )


def truncation(receipts: Sequence[ShardReceipt]) -> str | None:
    """A warning where more than 1 % of the texts were cut at what the model takes; None where they were not."""
    texts = sum(receipt.rows for receipt in receipts)
    cut = sum(receipt.truncated for receipt in receipts)
    if cut <= _TRUNCATED_SHARE * texts:
        return None
    return (
        f"{cut:,} of {texts:,} texts ({cut / max(1, texts):.1%}) are longer than the model takes, and what is behind "
        "their beginning is not in their vectors; --chunk-tokens makes several items of a text"
    )


def rehearsal(
    layout: Layout, name: str, card: ModelCard | None, scan: Scan, plan: Plan, warnings: tuple[str, ...] = ()
) -> ExtractResult:
    """What a run would do: ``seconds`` and ``bytes_written`` are estimates, 0 where nothing is known.

    The time is the number of items to embed over the rate that the newest run of this space had.
    """
    counts = plan.counts
    rate = _measured_rate(layout, card) if card else None
    dim = card.dim if card else 0
    rows = plan.embed.num_rows + plan.carry.num_rows
    rewritten = sum(len(leaving) for leaving in plan.drop.values())
    return ExtractResult(
        run_id=None,
        table=name,
        space_id=card.space_id if card else "",
        version=None,
        dim=dim,
        seen=scan.items.num_rows + len(scan.rejects),
        stored=plan.embed.num_rows,
        reused=counts.unchanged + plan.carry.num_rows,
        rejected=len(scan.rejects) + counts.rejected,
        removed=counts.removed,
        ignored=sum(scan.ignored.values()),
        seconds=round(plan.embed.num_rows / rate, 3) if rate else 0.0,
        items_per_s=rate or 0.0,
        bottleneck=None,
        status="dry run",
        new=counts.new,
        changed=counts.changed,
        renamed=counts.renamed,
        twins=counts.twins,
        updated=counts.updated,
        left=counts.left,
        shards=plan.shards,
        bytes_written=(rows + rewritten) * (dim * 4 + _ROW_BYTES) if dim else 0,
        path=str(layout.storage.local(layout.table(name, card.space_id))) if card else "",
        warnings=warnings,
    )


def _rate(items: int, seconds: float) -> float:
    return round(items / seconds, 1) if items and seconds > 0 else 0.0


def _measured_rate(layout: Layout, card: ModelCard) -> float | None:
    runs = [run for run in layout.storage.folders("runs") if run != "open"]
    for run_id in sorted(runs, reverse=True)[:_RECENT_RUNS]:
        manifest = documents.find(layout.storage, layout.manifest(run_id), Manifest)
        done = manifest.result if manifest and manifest.space_id == card.space_id else None
        if done is not None and done.stored and done.items_per_s:
            return done.items_per_s
    return None
