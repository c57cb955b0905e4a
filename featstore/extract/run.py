"""One extract: scan, plan, shards, commit. The only place where their order is decided."""

from __future__ import annotations

import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import pyarrow as pa

from featstore import models
from featstore.encode.workers import Clock
from featstore.errors import FeatstoreError, GateError, InterruptedRunError, SettingsError, TooManyRejectsError
from featstore.extract import opening, recovery, refusals, summary
from featstore.extract.finish import carried_rejects, commit
from featstore.extract.plan import SCAN_COLUMNS, Plan, Staged, make
from featstore.extract.progress import Reporter
from featstore.extract.shard import open_run, run_shard, source_options
from featstore.layout import Layout
from featstore.models import ModelRequest
from featstore.records import (
    ExtractResult,
    Manifest,
    ModelCard,
    OpenRun,
    SettingValue,
    ShardReceipt,
    SourceRecord,
)
from featstore.settings import ExtractSettings
from featstore.sources import Scan, Source, open_source
from featstore.storage import documents, frames, locks
from featstore.tables import FeatureTable, RejectsTable

__all__ = ["extract"]

# A shard is what a killed run loses at most; each costs one file and one receipt.
_SHARD_ITEMS = {"image": 4096, "text": 16_384}
_SHARD_BYTES = 1 << 30

# More than this share of the table, and more than this many items, leave only when asked to.
_REMOVAL_SHARE = 0.2
_REMOVAL_ITEMS = 10

# Too many rejects are an error only above this number, so that 1 of 20 is none.
_REJECT_ITEMS = 10


def extract(
    layout: Layout,
    settings: ExtractSettings,
    origins: dict[str, SettingValue],
    *,
    reporter: Reporter | None = None,
    dry_run: bool = False,
) -> ExtractResult:
    """Brings a table in step with its source.

    Args:
        layout: The store.
        settings: What to do.
        origins: Where each setting came from, for the manifest.
        reporter: Told of progress.
        dry_run: Plan and report only; nothing is written and no model is loaded.

    Returns:
        What was done, or with ``dry_run`` would be.

    Raises:
        UsageError: The source, the model or a setting cannot be used as given.
        GateError: More items would leave the table than is plausible.
        TooManyRejectsError: The good items were stored, too many were not. Its
            ``context["result"]`` is the result.
        InterruptedRunError: A signal stopped the run; its ``context["result"]`` says how far it got.
        ConflictError: Another run holds the table or was faster.
    """
    reporter = reporter or Reporter()
    started = time.monotonic()
    name = opening.table_name(settings)
    settings, origins = opening.remembered(layout, name, settings, origins)
    request = ModelRequest(model=settings.model, weights=Path(settings.weights) if settings.weights else None)
    modality = models.modality_of(request)
    if settings.keep_text and modality != "text":
        raise SettingsError(f"--keep-text is for texts; the model '{settings.model}' takes images.")
    source = open_source(settings.source, modality=modality, options=source_options(settings))
    record = opening.check_source(layout, name, source, modality, settings)
    if dry_run:
        card = models.find(layout, request)
        return _Run(layout, settings, origins, reporter, started, name, source, record, card).rehearse()
    with locks.hold(layout.storage, layout.lock(name), purpose=f"extract into '{name}'", warn=reporter.warning):
        card = models.ensure(layout, request, progress=reporter.message)
        return _Run(layout, settings, origins, reporter, started, name, source, record, card).go()


@dataclass
class _Run:
    layout: Layout
    settings: ExtractSettings
    origins: dict[str, SettingValue]
    reporter: Reporter
    started: float
    name: str
    source: Source
    record: SourceRecord
    card: ModelCard | None
    warnings: tuple[str, ...] = ()
    embedding: tuple[int, float] = (0, 0.0)
    device: str | None = None

    def rehearse(self) -> ExtractResult:
        """What ``go`` would do, by reading only."""
        scan, _ = self._scan()
        table = self._table() if self.card else None
        plan = self._plan(scan, table, [])
        self._guard(scan, plan, table)
        return summary.rehearsal(self.layout, self.name, self.card, scan, plan)

    def go(self) -> ExtractResult:
        """Does it all; the lock is held."""
        storage, layout = self.layout.storage, self.layout
        assert self.card is not None
        table = self._table()
        run_id = _new_run_id()
        opened = recovery.find_open(self.layout, self.name, table, self._warn)
        scan, cache = self._scan()
        if self.settings.retype:
            table = self._retyped(scan, table)
        unfinished = recovery.unfinished(self.layout, table) if opened else []
        plan = self._plan(
            scan, table, recovery.staged(self.layout, [m for m in unfinished if opened and m.run_id != opened.run_id])
        )
        resumed = opened is not None and opened.plan_digest == plan.digest
        if opened is not None and not resumed:
            plan = self._plan(scan, table, recovery.staged(self.layout, unfinished))
        self._guard(scan, plan, table)

        if opened is not None and resumed:
            run_id = opened.run_id
        if plan.empty:
            refusals.record(self.layout, table, run_id, scan.rejects, [])
            self._remember(cache, scan)
            recovery.close(self.layout, table, unfinished, but=run_id)
            return self._result(None, scan, plan, [], "nothing new", table.version, resumed=0, seconds_written=Clock())

        if opened is not None and resumed:
            manifest = documents.read(storage, layout.manifest(run_id), Manifest)
        else:
            manifest = self._begin(run_id, plan, table)
        clock, receipts, resumed_shards = Clock(), list[ShardReceipt](), 0
        try:
            receipts = recovery.finished_shards(self.layout, table, run_id, plan.shards) if resumed else []
            resumed_shards = len(receipts)
            self._embed(run_id, plan, receipts)
            self.reporter.stage("committing")
            rejects = [*scan.rejects, *carried_rejects(plan, receipts)]
            refusals.record(self.layout, table, run_id, rejects, receipts)
            version, written = commit(table, plan, receipts, manifest, self.source, self.settings, clock)
        except BaseException as error:
            self._end_badly(manifest, error, scan, plan, receipts, table, resumed_shards)
            raise
        result = self._result(
            run_id,
            scan,
            plan,
            receipts,
            "nothing new" if version == table.version else "committed",
            version,
            resumed=resumed_shards,
            seconds_written=clock,
            written=written,
        )
        self._remember(cache, scan)
        documents.write(
            storage, layout.manifest(run_id), replace(manifest, status="committed", finished_ts=_now(), result=result)
        )
        recovery.close(self.layout, table, unfinished, but=run_id)
        return self._judge(result)

    # ── before ──────────────────────────────────────────────────────────────────────────────

    def _table(self) -> FeatureTable:
        assert self.card is not None
        return FeatureTable.staging(self.layout, self.name, self.card.space_id, self.card.dim)

    def _retyped(self, scan: Scan, table: FeatureTable) -> FeatureTable:
        """The table, rewritten if a column of the source has another type than it had."""
        if table.version is not None and table.retype(_rows(scan), run_id=f"{_new_run_id()}-retype") is not None:
            return self._table()
        return table

    def _scan(self) -> tuple[Scan, str]:
        cache = self.layout.scan_cache(self.name, opening.source_key(self.source, self.settings))
        previous = None
        if self.layout.storage.exists(cache):
            try:
                previous = frames.read(self.layout.storage, cache)
            except FeatstoreError as error:
                self._warn(f"the cache of the last scan is not used: {error.message}")
        self.reporter.stage("scanning")
        scan = self.source.scan(
            previous=previous, rehash=self.settings.rehash, limit=self.settings.limit, progress=self.reporter.at
        )
        for warning in scan.warnings:
            self._warn(warning)
        self.previous = previous
        return scan, cache

    def _plan(self, scan: Scan, table: FeatureTable | None, staged: Sequence[Staged]) -> Plan:
        stored = None
        if table is None:
            metadata = scan.items.drop_columns(list(SCAN_COLUMNS))
        else:
            own = ["item_id", "content_sha256", "created_ts", "run_id"]
            metadata = table.align(_rows(scan), retype=self.settings.retype).drop_columns(own)
            if table.version is not None:
                stored = table.rows()
        held = [reject.item_id for reject in scan.rejects]
        if scan.unreachable and stored is not None:
            held += [i for i in frames.strings(stored, "item_id") if i.startswith(scan.unreachable)]
        refused = _nothing_refused()
        if self.card is not None and not self.settings.retry_rejects:
            refused = RejectsTable.read(self.layout, self.name, self.card.space_id)
        modality = self.record.modality
        return make(
            scan.items,
            stored,
            metadata=metadata,
            rejected=refused,
            staged=staged,
            removable=self._removable(),
            held=held,
            shard_items=self.settings.shard_items or _SHARD_ITEMS[modality],
            shard_bytes=_SHARD_BYTES,
            binding={
                "space": self.card.space_id if self.card else "",
                "version": table.version if table else None,
                "source": self.source.uri,
                "batch_size": self.settings.batch_size,
                "token_budget": self.settings.token_budget,
                "keep_text": self.settings.keep_text,
            },
        )

    def _removable(self) -> list[str] | None:
        """Which ids may leave: none of a limited run; in a table of several sources, only this one's."""
        if self.settings.limit is not None:
            return []
        if not self.record.added:
            return None
        if self.previous is None:
            self._warn("the table has several sources and this one's last scan is not known: nothing is removed")
            return []
        return frames.strings(self.previous, "item_id")

    def _guard(self, scan: Scan, plan: Plan, table: FeatureTable | None) -> None:
        """Refuses a run that would empty the table because its source is not what it was."""
        removed = plan.counts.removed
        if not removed or self.settings.allow_removals or table is None:
            return
        stored = len(table)
        if scan.items.num_rows and (removed <= _REMOVAL_ITEMS or removed <= _REMOVAL_SHARE * stored):
            return
        what = f"{removed:,} of {stored:,} items would leave '{self.name}'"
        why = "its source is empty" if not scan.items.num_rows else f"more than {_REMOVAL_SHARE:.0%}"
        raise GateError(
            f"{what}: {why}. Nothing was changed. Missing now: {', '.join(plan.removed[:3])}"
            + (", …" if removed > 3 else ""),
            hint=f"If {self.source.uri} is really complete, run again with --allow-removals.",
            context={
                "result": self._result(
                    None, scan, plan, [], "refused", table.version, resumed=0, seconds_written=Clock()
                )
            },
        )

    # ── the work ────────────────────────────────────────────────────────────────────────────

    def _begin(self, run_id: str, plan: Plan, table: FeatureTable) -> Manifest:
        """Writes down what is going to be done, before any of it is."""
        assert self.card is not None
        storage, layout = self.layout.storage, self.layout
        manifest = Manifest(
            run_id=run_id,
            status="running",
            name=self.name,
            space_id=self.card.space_id,
            source=self.source.uri,
            base_version=table.version,
            plan_digest=plan.digest,
            shards=plan.shards,
            started_ts=_now(),
            settings=self.origins,
            versions=models.versions(),
        )
        frames.write(storage, layout.plan(run_id), plan.embed)
        documents.write(storage, layout.manifest(run_id), manifest)
        documents.write(storage, layout.source(self.name), self.record)
        documents.write(
            storage,
            layout.open_run(self.name, self.card.space_id),
            OpenRun(
                run_id=run_id,
                name=self.name,
                space_id=self.card.space_id,
                plan_digest=plan.digest,
                base_version=table.version,
            ),
        )
        return manifest

    def _embed(self, run_id: str, plan: Plan, receipts: list[ShardReceipt]) -> None:
        """Runs the shards that have no receipt yet; appends theirs."""
        done = {receipt.shard for receipt in receipts}
        pending = [shard for shard in range(plan.shards) if shard not in done]
        if not pending:
            return
        self.reporter.stage("loading the model")
        context = open_run(self.layout, run_id, self.reporter)
        self.reporter.stage("embedding", plan.embed.num_rows)
        self.reporter.advance(sum(r.rows + len(r.rejects) for r in receipts), sum(len(r.rejects) for r in receipts))
        self.device = context.encoder.backbone.device
        started, finished = time.monotonic(), 0
        for shard in pending:
            receipt = run_shard(context, shard)
            receipts.append(receipt)
            finished += receipt.rows + len(receipt.rejects)
            self.embedding = (finished, time.monotonic() - started)
        receipts.sort(key=lambda receipt: receipt.shard)

    # ── after ───────────────────────────────────────────────────────────────────────────────

    def _remember(self, cache: str, scan: Scan) -> None:
        """Keeps the scan for the next run, if it says anything new."""
        if self.settings.limit is None and (self.previous is None or not self.previous.equals(scan.items)):
            frames.write(self.layout.storage, cache, scan.items)
        path = self.layout.source(self.name)
        if documents.find(self.layout.storage, path, SourceRecord) != self.record:
            documents.write(self.layout.storage, path, self.record)

    def _end_badly(
        self,
        manifest: Manifest,
        error: BaseException,
        scan: Scan,
        plan: Plan,
        receipts: Sequence[ShardReceipt],
        table: FeatureTable,
        resumed: int,
    ) -> None:
        """Notes how the run ended; the error itself goes on to the caller whatever happens here."""
        interrupted = isinstance(error, InterruptedRunError | KeyboardInterrupt)
        status: Literal["interrupted", "failed"] = "interrupted" if interrupted else "failed"
        result = self._result(
            manifest.run_id, scan, plan, receipts, status, table.version, resumed=resumed, seconds_written=Clock()
        )
        if isinstance(error, FeatstoreError):
            error.context.setdefault("result", result)
        try:
            documents.write(
                self.layout.storage,
                self.layout.manifest(manifest.run_id),
                replace(
                    manifest, status=status, finished_ts=_now(), result=result, error=str(error) or type(error).__name__
                ),
            )
        except FeatstoreError as second:
            error.add_note(f"(the manifest could not be updated: {second.message})")

    def _judge(self, result: ExtractResult) -> ExtractResult:
        if result.rejected > _REJECT_ITEMS and result.rejected > self.settings.max_reject_share * result.seen:
            codes = ", ".join(f"{code} {n}" for code, n in sorted(result.reject_codes.items(), key=lambda c: -c[1])[:3])
            raise TooManyRejectsError(
                f"{result.rejected:,} of {result.seen:,} items were rejected "
                f"({result.rejected / result.seen:.1%}; allowed {self.settings.max_reject_share:.1%}): {codes}. "
                "The others are stored.",
                hint=f"Look at them: featstore show {self.name} --rejects. Allow them: --max-reject-share.",
                context={"result": result},
            )
        return result

    def _warn(self, text: str) -> None:
        self.warnings = (*self.warnings, text)
        self.reporter.warning(text)

    def _result(
        self,
        run_id: str | None,
        scan: Scan,
        plan: Plan,
        receipts: Sequence[ShardReceipt],
        status: str,
        version: int | None,
        *,
        resumed: int,
        seconds_written: Clock,
        written: int = 0,
    ) -> ExtractResult:
        assert self.card is not None
        return summary.result(
            layout=self.layout,
            name=self.name,
            card=self.card,
            run_id=run_id,
            scan=scan,
            plan=plan,
            receipts=receipts,
            twins_refused=carried_rejects(plan, receipts),
            status=status,
            version=version,
            resumed=resumed,
            finishing=seconds_written.seconds["write"],
            written=written,
            seconds=time.monotonic() - self.started,
            embedding=self.embedding,
            device=self.device,
            warnings=self.warnings,
        )


def _rows(scan: Scan) -> pa.Table:
    """The scan as rows for a table to align; the run's own columns are filled in later."""
    rows = scan.items.drop_columns([c for c in SCAN_COLUMNS if c not in ("item_id", "content_sha256")])
    now = pa.scalar(datetime.now(UTC), pa.timestamp("us", tz="UTC"))
    rows = rows.append_column("created_ts", pa.repeat(now, rows.num_rows))
    return rows.append_column("run_id", pa.repeat("", rows.num_rows))


def _nothing_refused() -> pa.Table:
    return pa.table({name: pa.array([], pa.string()) for name in ("item_id", "content_sha256", "code")})


def _new_run_id() -> str:
    return f"{datetime.now(UTC):%Y%m%dT%H%M%S}-{secrets.token_hex(3)}"


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
