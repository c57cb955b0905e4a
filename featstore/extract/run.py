"""One extract: scan, plan, shards, commit. The only place where their order is decided."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Literal

import pyarrow as pa

from featstore import addresses, founding, models
from featstore.encode import tuning
from featstore.encode.opening import Opening
from featstore.encode.workers import Clock
from featstore.errors import (
    DeadlineError,
    FeatstoreError,
    GateError,
    InterruptedRunError,
    SettingsError,
    StatedError,
    TooManyRejectsError,
)
from featstore.extract import chunks, late, leaving, members, opening, recovery, refusals, summary
from featstore.extract.finish import Pending, assemble, carried_rejects
from featstore.extract.plan import Plan, Staged
from featstore.extract.planned import Planned
from featstore.extract.portion import Portion
from featstore.extract.precision import fewer_bits
from featstore.extract.prepare import Preparation, implausible, new_run_id
from featstore.extract.progress import Reporter
from featstore.extract.shard import open_run, run_shard, source_options
from featstore.layout import Layout
from featstore.models import ModelRequest
from featstore.records import (
    ExtractResult,
    Manifest,
    Modality,
    ModelCard,
    OpenRun,
    SettingValue,
    ShardReceipt,
    SourceRecord,
)
from featstore.settings import ExtractSettings
from featstore.sources import Scan, Source, open_source
from featstore.storage import documents, locks
from featstore.tables import FeatureTable

__all__ = ["Ready", "extract", "model_of", "staging"]

# Too many rejects are an error only above this number, so that 1 of 20 is none.
_REJECT_ITEMS = 10


def extract(
    layout: Layout,
    settings: ExtractSettings,
    origins: dict[str, SettingValue],
    *,
    reporter: Reporter | None = None,
    dry_run: bool = False,
    until: datetime | None = None,
    only: Collection[str] | None = None,
    order: str | None = None,
    most: int | None = None,
) -> ExtractResult:
    """Brings a table in step with its source.

    Args:
        layout: The store.
        settings: What to do.
        origins: Where each setting came from, for the manifest.
        reporter: Told of progress.
        dry_run: Plan and report only; nothing is written and no model is loaded.
        until: As in ``staging``.
        only: As in ``staging``.
        order: As in ``staging``.
        most: As in ``staging``.

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
    if dry_run:
        return _rehearsed(layout, settings, origins, reporter or Reporter(), until, Portion(only, order, most))
    with staging(layout, settings, origins, reporter=reporter, until=until, only=only, order=order, most=most) as ready:
        result = ready.commit()
    still = addresses.standing(layout, result.table, result.space_id, result.version)
    if still is not None and result.status == "committed":
        (reporter or Reporter()).warning(still)
        result = replace(result, warnings=(*result.warnings, still))
    return _judge(settings, result)


@contextmanager
def staging(
    layout: Layout,
    settings: ExtractSettings,
    origins: dict[str, SettingValue],
    *,
    reporter: Reporter | None = None,
    until: datetime | None = None,
    only: Collection[str] | None = None,
    order: str | None = None,
    most: int | None = None,
) -> Iterator[Ready]:
    """Does all of an extract but its commit, and holds the table for the length of the block.

    Nothing is visible until ``Ready.commit`` is called. Left without it, what was embedded is kept, and the next run
    with the same plan goes on from there.

    Args:
        layout: The store.
        settings: What to do.
        origins: Where each setting came from, for the manifest.
        reporter: Told of progress.
        until: Items of a later ``event_ts`` are left alone: neither added nor changed nor removed. Those without
            one are taken.
        only: Ids of items not in the table yet that may be embedded; the others are left to later runs, and so are
            their twins. What has a vector, has changed or has gone is brought in step all the same.
        order: A metadata column: what has most of it is embedded first. Within a shard the source's order stays.
        most: Of the new items so many contents are embedded at most; the others are left to later runs.

    Yields:
        What would be committed.

    Raises:
        FeatstoreError: As for ``extract``, but for too many rejects, which are the caller's to judge.
    """
    reporter, portion = reporter or Reporter(), Portion(only, order, most)
    started = time.monotonic()
    name, settings, origins, request, modality, source = _opened(layout, settings, origins)
    models.check_options(modality, settings.model, request.options)
    models.check_backend(settings.backend, settings.device)
    if (
        source.kind != "list"
        and models.find(layout, request) is None
        and not layout.storage.exists(layout.source(name))
    ):
        _check_first(name, source, source.scan(limit=1))  # before a model is fetched and exported for nothing
    founding.found(layout)
    with locks.hold(layout.storage, layout.lock(name), purpose=f"extract into '{name}'", warn=reporter.warning):
        # Under the lock: another run may have made the table, or put a source beside, since this one began.
        record = opening.check_source(layout, name, source, modality, settings)
        found = Preparation(layout, settings, reporter, name, source, record, None, until, portion)
        _modelled(found, request)
        yield _Run(found, origins, started).stage()


def model_of(layout: Layout, settings: ExtractSettings, *, reporter: Reporter | None = None) -> ModelCard:
    """The model that an extract with these settings uses, made now if the store lacks it.

    A version in fewer bits is made of the source's items and proven on them, as the extract itself would do it.

    Args:
        layout: The store.
        settings: Of the extract.
        reporter: Told of progress.

    Raises:
        FeatstoreError: What ``extract`` raises before it embeds anything.
    """
    reporter = reporter or Reporter()
    request = models.requested(settings, table=opening.table_name(settings))
    if request.options.precision is None or models.find(layout, request) is not None:
        return models.ensure(layout, request, progress=reporter.message)
    name, settings, _, request, modality, source = _opened(layout, settings, {})
    record = opening.check_source(layout, name, source, modality, settings)
    with locks.hold(layout.storage, layout.lock(name), purpose=f"making a model for '{name}'", warn=reporter.warning):
        found = Preparation(layout, settings, reporter, name, source, record, None)
        _modelled(found, request)
    assert found.card is not None
    return found.card


def _modelled(found: Preparation, request: ModelRequest) -> None:
    """Gives a run its model, and cuts its source as the model does."""
    layout = found.layout
    card = models.find(layout, request) or models.ensure(layout, models.plain(request), progress=found.reporter.message)
    found.card = card
    found.source = chunks.wrap(found.source, layout, card, found.settings)
    if request.options.precision not in (None, card.precision):
        fewer_bits(found, card, request.options.precision)


def _rehearsed(
    layout: Layout,
    settings: ExtractSettings,
    origins: dict[str, SettingValue],
    reporter: Reporter,
    until: datetime | None,
    portion: Portion,
) -> ExtractResult:
    started = time.monotonic()
    name, settings, origins, request, modality, source = _opened(layout, settings, origins)
    record = opening.check_source(layout, name, source, modality, settings)
    known = models.find(layout, request)
    source = source if known is None else chunks.wrap(source, layout, known, settings)
    found = Preparation(layout, settings, reporter, name, source, record, known, until, portion)
    return _Run(found, origins, started).rehearse()


def _opened(
    layout: Layout, settings: ExtractSettings, origins: dict[str, SettingValue]
) -> tuple[str, ExtractSettings, dict[str, SettingValue], ModelRequest, Modality, Source]:
    """The source and what is meant to become of it, before anything is written."""
    name = opening.table_name(settings)
    settings, origins = opening.remembered(layout, name, settings, origins)
    request = models.requested(settings, table=name)
    modality = models.modality_of(request, layout)
    if settings.keep_text and modality != "text":
        raise SettingsError(f"--keep-text is for texts; the model '{settings.model}' takes images.")
    chunks.check(settings, modality)
    try:
        source = open_source(settings.source, modality=modality, options=source_options(settings))
    except FeatstoreError as error:
        if opening.lost(settings, error) and opening.known_source(layout, name, settings) is not None:
            raise GateError(
                f"{error.message} Table '{name}' is kept in step with {settings.source}, which is gone, empty or "
                "cannot be read; nothing was changed.",
                hint="Bring the source back. To give it up, make another table with --name.",
            ) from error
        raise
    return name, settings, origins, request, modality, source


def _check_first(name: str, source: Source, scan: Scan) -> None:
    if not scan.items.num_rows and not scan.rejects:
        ignored = sum(scan.ignored.values())
        raise GateError(
            f"{source.uri} holds no {source.modality}s" + (f" ({ignored:,} other files)" if ignored else "") + "; "
            f"the table '{name}' was not made.",
            hint="Check the path; is the disk or share mounted? A model of texts takes other files than one of images.",
        )


@dataclass(frozen=True)
class _Done:
    """All that a run has done, but for its commit; ``manifest`` is None where there was nothing to do."""

    scan: Scan
    plan: Plan
    table: FeatureTable
    manifest: Manifest | None
    receipts: list[ShardReceipt]
    pending: Pending
    resumed: int
    unfinished: list[Manifest]
    clock: Clock


class Ready:
    """An extract that has done everything but commit."""

    def __init__(self, run: _Run, done: _Done) -> None:
        self._run, self._done = run, done
        self._candidate: FeatureTable | None = None

    @property
    def run_id(self) -> str | None:
        """The run; None where there was nothing to do."""
        return None if self._done.manifest is None else self._done.manifest.run_id

    @property
    def table(self) -> FeatureTable:
        """The table as it is."""
        return self._done.table

    @property
    def pending(self) -> Pending:
        """What ``commit`` would add and remove."""
        return self._done.pending

    @property
    def candidate(self) -> FeatureTable:
        """The table as it would be; the table itself where there is nothing to commit."""
        if self._candidate is None:
            done = self._done
            self._candidate = (
                done.table.with_staged(done.pending.add, done.pending.remove) if done.pending else done.table
            )
        return self._candidate

    @property
    def result(self) -> ExtractResult:
        """What the run did so far."""
        return self._run.result_of(self._done, "staged" if self._done.manifest is not None else "nothing new")

    def commit(self) -> ExtractResult:
        """Makes it visible, all at once.

        Raises:
            ConflictError: The table has moved since the plan was made.
            StorageError: The disk refused.
        """
        return self._run.commit(self._done, self._candidate)

    def refuse(self, why: str) -> None:
        """Leaves the table as it is and keeps what would have been committed; ``publish`` can do it later."""
        self._run.refuse(self._done, why)


@dataclass
class _Run:
    preparation: Preparation
    origins: dict[str, SettingValue]
    started: float
    embedding: tuple[int, float] = (0, 0.0)
    device: str | None = None
    backend: str | None = None

    def __post_init__(self) -> None:
        found = self.preparation
        self.layout, self.settings, self.reporter = found.layout, found.settings, found.reporter
        self.name, self.source, self.record, self.card = found.name, found.source, found.record, found.card

    def rehearse(self) -> ExtractResult:
        """What ``go`` would do, by reading only."""
        if self.card is None and self.settings.chunk_tokens is not None:
            self.preparation.warn("whole texts are counted: how many chunks they make, the model is yet to say")
        scan = self.preparation.scan()
        table = self.preparation.table() if self.card else None
        plan = self.preparation.plan(scan, table, [])
        self._guard(scan, plan, table)
        warnings = self.preparation.warnings
        return summary.rehearsal(self.layout, self.name, self.card, scan, plan, warnings)

    def stage(self) -> Ready:
        """Does all but the commit; the lock is held."""
        assert self.card is not None
        with Opening(self.layout, self.card, tuning.applied(self.layout, self.card, self.settings)) as model:
            if self.preparation.touched():  # there will be something to embed: the model is ready when it is known what
                model.begin()
            return self._stage(model)

    def _stage(self, model: Opening) -> Ready:
        storage, layout = self.layout.storage, self.layout
        table = self.preparation.table()
        run_id = new_run_id()
        opened = recovery.find_open(self.layout, self.name, table, self.preparation.warn)
        self._choose(opened)
        scan = self.preparation.scan()
        if self.preparation.first_beside:
            members.settle(self.layout, self.name, self.record.uri)
        if self.settings.retype:
            table = self.preparation.retyped(scan, table)
        unfinished = recovery.unfinished(self.layout, table) if opened else []
        plan = self.preparation.plan(
            scan, table, self._staged([m for m in unfinished if opened and m.run_id != opened.run_id])
        )
        resumed = opened is not None and opened.plan_digest == plan.digest
        if opened is not None and not resumed:
            plan = self.preparation.plan(scan, table, self._staged(unfinished))
        self._guard(scan, plan, table)
        leaving.prepare(self.layout, table, scan, self.settings)
        scan = self.preparation.put_away(scan)

        if opened is not None and resumed:
            run_id = opened.run_id
        if plan.empty:
            refusals.record(self.layout, table, run_id, scan.rejects, [])
            done = _Done(scan, plan, table, None, [], Pending((), ()), 0, unfinished, Clock())
            self._finish(done, None)
            return Ready(self, done)

        if opened is not None and resumed:
            manifest = documents.read(storage, layout.manifest(run_id), Manifest)
            Planned.write(layout, run_id, plan.embed)  # what lies there may be damaged, or of a version without groups
        else:
            manifest = self._begin(run_id, plan, table)
        # Scan and plan are on disk; what they took, and the several times as much of comparing, is the model's now.
        plan = replace(plan, embed=plan.embed.schema.empty_table())
        pa.default_memory_pool().release_unused()
        clock, receipts, resumed_shards = Clock(), list[ShardReceipt](), 0
        try:
            receipts = recovery.finished_shards(self.layout, table, run_id, plan.shards) if resumed else []
            resumed_shards = len(receipts)
            self._embed(run_id, plan, receipts, model)
            if (cut := summary.truncation(receipts)) is not None:
                self.preparation.warn(cut)
            self.reporter.stage("committing")
            rejects = [*scan.rejects, *carried_rejects(plan, receipts)]
            refusals.record(self.layout, table, run_id, rejects, receipts)
            pending = assemble(self.layout, table, plan, receipts, manifest, self.source, self.settings, clock)
        except BaseException as error:
            self._end_badly(manifest, error, scan, plan, receipts, table, resumed_shards)
            raise
        return Ready(self, _Done(scan, plan, table, manifest, receipts, pending, resumed_shards, unfinished, clock))

    def commit(self, done: _Done, candidate: FeatureTable | None = None) -> ExtractResult:
        """The one commit, and what is remembered after it."""
        manifest = done.manifest
        if manifest is None:
            return self.result_of(done, "nothing new")
        try:
            version = done.table.version
            if done.pending:
                leaving.keep(self.layout, done.table, done.pending, manifest, candidate)
                version = done.table.commit(
                    run_id=manifest.run_id,
                    add=done.pending.add,
                    remove=done.pending.remove,
                    details={"operation": "extract", "source": self.source.uri},
                )
        except BaseException as error:
            self._end_badly(manifest, error, done.scan, done.plan, done.receipts, done.table, done.resumed)
            raise
        result = self.result_of(done, "nothing new" if version == done.table.version else "committed", version)
        self._finish(done, replace(manifest, status="committed", finished_ts=_now(), result=result, error=None))
        return result

    def _finish(self, done: _Done, manifest: Manifest | None) -> None:
        self._remember(done.scan)
        if manifest is not None:
            documents.write(self.layout.storage, self.layout.manifest(manifest.run_id), manifest)
        recovery.close(self.layout, done.table, done.unfinished, but=manifest.run_id if manifest else "")

    def refuse(self, done: _Done, why: str) -> None:
        """Keeps what would have been committed, for whoever publishes it all the same."""
        manifest = done.manifest
        if manifest is None:
            return
        mine = done.scan.items["item_id"] if self.record.added else None
        late.keep(self.layout, manifest, done.table, done.pending, mine)
        result = self.result_of(done, "refused")
        refused = replace(manifest, status="refused", finished_ts=_now(), result=result, error=why)
        documents.write(self.layout.storage, self.layout.manifest(manifest.run_id), refused)

    def result_of(self, done: _Done, status: str, version: int | None = None) -> ExtractResult:
        """What to say of the run."""
        return self._result(
            None if done.manifest is None else done.manifest.run_id,
            done.scan,
            done.plan,
            done.receipts,
            status,
            done.table.version if version is None else version,
            resumed=done.resumed,
            seconds_written=done.clock,
            written=sum(part.bytes for part in done.pending.add),
        )

    def _guard(self, scan: Scan, plan: Plan, table: FeatureTable | None) -> None:
        """Refuses a run that would make nothing, or empty the table because its source is not what it was."""
        if table is None or table.version is None:
            if self.preparation.later and not scan.items.num_rows:
                raise GateError(
                    f"all {len(self.preparation.later):,} items of {self.source.uri} are later than "
                    f"{self.preparation.until}; the table '{self.name}' was not made."
                )
            _check_first(self.name, self.source, scan)
        why = implausible(self.preparation, scan, plan, table)
        if why is not None and table is not None:
            refused = self._result(None, scan, plan, [], "refused", table.version, resumed=0, seconds_written=Clock())
            raise GateError(
                f"{why}. Nothing was changed.",
                hint=f"If {self.source.uri} is really complete, run again with --allow-removals.",
                context={
                    "result": refused,
                    "missing": plan.removed[:10],
                    "removed": plan.counts.removed,
                    "stored": len(table),
                },
            )

    def _choose(self, opened: OpenRun | None) -> None:
        """Settles what nobody said of how the model is run: as an unfinished run began, else as ``models bench`` chose.

        Batches are part of a plan; a choice that was kept after the plan was made must not keep it from being resumed.
        """
        assert self.card is not None
        begun = opened and documents.find(self.layout.storage, self.layout.manifest(opened.run_id), Manifest)
        if begun:
            unsaid = [name for name in tuning.CHOSEN if getattr(self.settings, name) is None]
            then = {name: begun.settings[name] for name in unsaid if name in begun.settings}
            chosen = {name: value for name, value in then.items() if value.origin in ("default", tuning.ORIGIN)}
        else:
            settings = tuning.applied(self.layout, self.card, self.settings)
            found = {name: getattr(settings, name) for name in tuning.CHOSEN}
            chosen = {
                name: SettingValue(value=value, origin=tuning.ORIGIN)
                for name, value in found.items()
                if value != getattr(self.settings, name)
            }
        self.settings = replace(self.settings, **{name: value.value for name, value in chosen.items()})  # type: ignore[arg-type]
        self.preparation.settings = self.settings
        self.origins = {**self.origins, **chosen}

    def _staged(self, runs: Sequence[Manifest]) -> list[Staged]:
        return recovery.staged(self.layout, runs, self.preparation.warn)

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
        Planned.write(layout, run_id, plan.embed)
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

    def _embed(self, run_id: str, plan: Plan, receipts: list[ShardReceipt], model: Opening) -> None:
        """Runs the shards that have no receipt yet; appends theirs."""
        done = {receipt.shard for receipt in receipts}
        pending = [shard for shard in range(plan.shards) if shard not in done]
        if not pending:
            return
        self.reporter.stage("loading the model")
        context = open_run(self.layout, run_id, self.reporter, model)
        self.reporter.stage("embedding", context.planned.rows)
        self.reporter.advance(sum(r.rows + len(r.rejects) for r in receipts), sum(len(r.rejects) for r in receipts))
        self.device, self.backend = context.encoder.backbone.device, context.encoder.backbone.runtime
        started, finished = time.monotonic(), 0
        for shard in pending:
            self.reporter.between()
            receipt = run_shard(context, shard)
            receipts.append(receipt)
            finished += receipt.rows + len(receipt.rejects)
            self.embedding = (finished, time.monotonic() - started)
        receipts.sort(key=lambda receipt: receipt.shard)

    # ── after ───────────────────────────────────────────────────────────────────────────────

    def _remember(self, scan: Scan) -> None:
        """Keeps the scan for the next run, if it says anything new."""
        self.preparation.remember()
        if self.record.added and (table := self.preparation.table()).version is not None:
            members.keep(self.layout, table, self.source.uri, scan.items["item_id"])
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
        interrupted = isinstance(error, InterruptedRunError | DeadlineError | KeyboardInterrupt)
        status: Literal["interrupted", "failed"] = "interrupted" if interrupted else "failed"
        result = self._result(
            manifest.run_id, scan, plan, receipts, status, table.version, resumed=resumed, seconds_written=Clock()
        )
        if isinstance(error, StatedError):
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
            backend=self.backend,
            warnings=self.preparation.warnings,
        )


def _judge(settings: ExtractSettings, result: ExtractResult) -> ExtractResult:
    tried = result.seen - result.left
    if result.rejected > _REJECT_ITEMS and result.rejected > settings.max_reject_share * tried:
        codes = ", ".join(f"{code} {n}" for code, n in sorted(result.reject_codes.items(), key=lambda c: -c[1])[:3])
        raise TooManyRejectsError(
            f"{result.rejected:,} of {tried:,} items were rejected "
            f"({result.rejected / tried:.1%}; allowed {settings.max_reject_share:.1%}): {codes}. "
            "The others are stored.",
            hint=f"Look at them: featstore show {result.table}@{result.space_id} --rejects. "
            "Allow them: --max-reject-share.",
            context={"result": result},
        )
    return result


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
