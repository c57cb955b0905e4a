"""One refresh: extract, drift, heads, index, gates, and then all of it is published or nothing is."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Literal

from featstore import addresses, published
from featstore.errors import DeadlineError, FeatstoreError, GateError, InterruptedRunError, StatedError
from featstore.extract import staging
from featstore.extract.prepare import new_run_id
from featstore.extract.progress import Reporter
from featstore.index import build, own
from featstore.models import load_card
from featstore.records import ExtractResult, PublishedState, RefreshResult
from featstore.refresh import beside, drifting, gates, heads, metrics, moving, state
from featstore.refresh.deadline import Until, seconds_of
from featstore.refresh.following import follow, moves
from featstore.refresh.made import last_of, made_by, same_rows
from featstore.search.tuning import captions
from featstore.storage import documents, locks
from featstore.tables import FeatureTable, past
from featstore.training.keeping import adopt

if TYPE_CHECKING:
    from collections.abc import Callable

    from featstore.extract import Ready
    from featstore.jobs import Job
    from featstore.layout import Layout
    from featstore.records import (
        DriftReport,
        GateOutcome,
        HeadOutcome,
        IndexCard,
        Published,
    )

__all__ = ["Built", "Within", "refresh"]

_Status = Literal["published", "nothing new", "refused", "held", "interrupted", "failed"]


def refresh(
    layout: Layout,
    job: Job,
    *,
    as_of: str | datetime | None = None,
    deadline: str | float | None = None,
    reporter: Reporter | None = None,
    within: Within | None = None,
) -> RefreshResult:
    """Runs a job: brings its table, index and heads up to date beside what is published, then publishes all of it.

    Readers of the table, the index and the heads see what was there before until the one commit and the one swap at
    the end. Run again after a crash, it goes on: what was embedded is kept, and what was committed but not yet
    published is judged and published.

    While the table is on its way to another model, what is new is then brought into the new model's table as well;
    that this failed is a warning, since the next run goes on from there. A job that names the model which its table
    has left follows what is published.

    Args:
        layout: The store.
        job: What to do.
        as_of: The time to take for now, ISO 8601; items of a later ``event_ts`` are left for later runs. Before the
            one of what is published there is nothing to do.
        deadline: From when on no further shard or step is begun: seconds from now, or a text such as ``2h``.
        reporter: Told of progress.
        within: Of what larger step this is a part.

    Returns:
        What was done.

    Raises:
        GateError: A gate refused, or the source is not what it was; nothing is published. The candidate is kept,
            and ``context["result"]`` is the result.
        ConflictError: Another run holds the job or the table, or committed first.
        DeadlineError: The time is up; run it again to go on.
        InterruptedRunError: A signal stopped it; run it again to go on.
        FeatstoreError: What extract, index and train_head raise; nothing is published.
    """
    if job.command != "refresh" and within is None:
        raise moves(job)
    reporter = reporter or Reporter()
    if deadline is not None:
        reporter = Until(reporter, seconds_of(deadline))
    until = None if as_of is None else past.moment(as_of)
    with locks.hold(layout.storage, layout.job_lock(job.name), purpose=f"job '{job.name}'", warn=reporter.warning):
        if within is not None:
            return _Refresh(layout, job, until, reporter, within).go()
        notes: list[str] = []
        followed = follow(layout, job, notes.append)
        for note in notes:
            reporter.warning(note)
        run = _Refresh(layout, followed, until, reporter, Within(), notes=tuple(notes))
        return run.along(run.go())


@dataclass(frozen=True)
class Built:
    """What a refresh has made and would publish.

    Attributes:
        run_id: The run.
        before: What is published.
        candidate: The table as it would be.
        index: Its index, where the job keeps one.
        heads: Its heads; a new one lies in its ``folder``.
        verdicts: Of the job's own gates.
    """

    run_id: str
    before: Published | None
    candidate: FeatureTable
    index: IndexCard | None
    heads: tuple[HeadOutcome, ...]
    verdicts: tuple[GateOutcome, ...] = ()


@dataclass(frozen=True)
class Within:
    """What is said to a refresh that is a part of something larger.

    Attributes:
        also: Asked for further verdicts on what was built, before anything is published.
        publish: Whether to publish what passes, or to keep it for ``publish``.
        noted: Whether how it went is written down as the job's, for ``ls jobs``.
    """

    also: Callable[[Built], tuple[GateOutcome, ...]] = lambda _: ()
    publish: bool = True
    noted: bool = True


@dataclass
class _Refresh:
    layout: Layout
    job: Job
    until: datetime | None
    reporter: Reporter
    within: Within
    notes: tuple[str, ...] = ()
    started_ts: str = field(default_factory=lambda: _now())
    started: float = field(default_factory=time.monotonic)
    run_id: str = field(default_factory=new_run_id)
    spent: dict[str, float] = field(default_factory=dict)
    before: Published | None = None
    table: FeatureTable | None = None
    candidate: FeatureTable | None = None
    extracted: ExtractResult | None = None
    index: IndexCard | None = None
    drift: DriftReport | None = None
    outcomes: tuple[HeadOutcome, ...] = ()
    verdicts: tuple[GateOutcome, ...] = ()

    def go(self) -> RefreshResult:
        try:
            result = self._run()
        except GateError as error:
            self._take(error)
            found = error.context.get("result")
            if not isinstance(found, RefreshResult):  # an extract that would empty the table, an index without recall
                if (verdict := gates.raised(error, self.job)) is not None:
                    self.verdicts = (verdict,)
                    error.hint = gates.advice(verdict, self.job)
                found = self._result("refused", error=error.message)
                error.context["result"] = self._keep(found)
            raise
        except BaseException as error:
            self._take(error)
            interrupted = isinstance(error, InterruptedRunError | DeadlineError | KeyboardInterrupt)
            result = self._result("interrupted" if interrupted else "failed", error=str(error) or type(error).__name__)
            try:
                self._keep(result)
            except FeatstoreError as second:
                error.add_note(f"(how the job went could not be written down: {second.message})")
            if isinstance(error, StatedError):
                error.context["result"] = result
            raise
        try:
            return self._keep(result)
        except FeatstoreError as error:  # all was done, but for writing down how it went
            error.context["result"] = result
            raise

    def along(self, result: RefreshResult) -> RefreshResult:
        """Brings the table of the model that this one is on its way to in step; what is published is so already."""
        move = beside.along(self.layout, self.job, self.table)
        if move is None or self.table is None or result.status not in ("published", "nothing new"):
            return result
        reporter = self.reporter.afterwards() if isinstance(self.reporter, Until) else self.reporter
        begun = time.monotonic()
        try:
            reporter.stage("beside")
            made = beside.bring(self.layout, self.job, move, self.table.version, reporter=reporter, until=self.until)
            result = replace(result, beside=made, warnings=(*result.warnings, *made.warnings))
        except (InterruptedRunError, DeadlineError, KeyboardInterrupt) as error:
            stopped = replace(result, status="interrupted", finished_ts=_now(), beside_error=str(error) or None)
            state.keep(self.layout, self.job, stopped)  # the run itself stays published
            if isinstance(error, StatedError):
                error.context["result"] = replace(result, beside_error=error.message)
            raise
        except FeatstoreError as error:
            why = f"what is new is not in {move.to_space} yet: {error.message}"
            reporter.warning(why)
            result = replace(result, beside_error=error.message, warnings=(*result.warnings, why))
        spent = {**result.stage_seconds, "beside": round(time.monotonic() - begun, 3)}
        seconds = round(time.monotonic() - self.started, 3)
        return self._keep(replace(result, finished_ts=_now(), seconds=seconds, stage_seconds=spent))

    def _run(self) -> RefreshResult:
        if (why := self._too_early()) is not None:
            self.reporter.message(why)
            return self._result("nothing new")
        with self._staged() as ready:
            self.before = published.find(self.layout, self.job.table)
            self._look(ready)
            if (why := self._settled(ready)) is not None:
                self.reporter.message(why)
                if ready is not None:
                    self.extracted = ready.commit()
                    self._judge_rejects(self.extracted)
                return self._result("nothing new")
            self._build()
            self.verdicts = gates.judge(
                self.layout,
                self.job,
                before=self.before,
                table=self.table,
                candidate=self._made,
                extracted=self.extracted,
                index=self.index,
                heads=self.outcomes,
                drift=self.drift,
            )
            built = Built(self.run_id, self.before, self._made, self.index, self.outcomes, self.verdicts)
            self.verdicts += self.within.also(built)
            refused = [verdict for verdict in self.verdicts if verdict.status == "refused"]
            if refused:
                self._refuse(ready, gates.told(refused))
            held = self.before is not None and self.before.held
            if held or not self.within.publish:
                if ready is not None:
                    ready.refuse("publishing is held" if held else "it is left to be published by hand")
                if held:
                    self.reporter.warning(f"publishing of '{self.job.table}' is held; the candidate is kept")
                return self._result("held")
            return self._publish(ready)

    @property
    def as_of(self) -> str | None:
        """The time that is taken for now, ISO 8601 in UTC."""
        return None if self.until is None else self.until.isoformat().replace("+00:00", "Z")

    # ── the steps ───────────────────────────────────────────────────────────────────────────

    def _too_early(self) -> str | None:
        """Why a run at this time has nothing to do; None where it has."""
        before = published.find(self.layout, self.job.table)
        if before is None or before.state.as_of is None or self.until is None:
            return None
        if self.until >= past.moment(before.state.as_of):
            return None
        state = before.state
        self.candidate = FeatureTable.open(self.layout, self.job.table, state.space_id, state.table_version)
        return f"nothing is new: what is published of '{self.job.table}' is of {state.as_of}, after {self.as_of}"

    @contextmanager
    def _staged(self) -> Iterator[Ready | None]:
        """Holds the table, with all that is new in it staged."""
        job, settings = self.job, self.job.extract
        if settings is None:
            lock = self.layout.lock(job.table)
            with locks.hold(self.layout.storage, lock, purpose=f"job '{job.name}'", warn=self.reporter.warning):
                yield None
            return
        settings = replace(settings, name=job.table, max_removed_share=job.gates.max_removed_share)
        begun = time.monotonic()
        with staging(self.layout, settings, job.origins, reporter=self.reporter, until=self.until) as ready:
            self.spent["extract"] = time.monotonic() - begun
            yield ready

    def _look(self, ready: Ready | None) -> None:
        """What there is, and what there would be."""
        if ready is not None:
            self.extracted = ready.result
            self.run_id = ready.run_id or self.run_id
            self.table, self.candidate = ready.table, ready.candidate
        else:
            where = addresses.Address(self.job.table, self.job.space)
            name, space_id = addresses.resolve(self.layout, where)
            self.table = self.candidate = FeatureTable.open(self.layout, name, space_id)
        if self.candidate.version is None:
            raise GateError(
                f"every item of '{self.job.table}' was refused; there is nothing to publish.",
                hint=f"Look at them: featstore show {self.job.table} --rejects",
            )

    def _take(self, error: BaseException) -> None:
        """How far an extract had come that ended before it was staged: under its own run the next one goes on."""
        found = error.context.get("result") if isinstance(error, StatedError) else None
        if isinstance(found, ExtractResult):
            self.extracted = found
            self.run_id = found.run_id or self.run_id

    def _settled(self, ready: Ready | None) -> str | None:
        """Why there is nothing to do; None where there is."""
        before, made = self.before, self._made
        if (ready is not None and ready.pending) or before is None:
            return None
        current, last = before.state, last_of(self.job.name, before)
        same = current.space_id == last.space_id == made.space_id
        run = made_by(made)
        versions = (current.table_version, last.table_version)
        if same and last.job_digest == self.job.digest and all(same_rows(made, version) for version in versions):
            return f"nothing is new: version {made.version} of '{self.job.table}' is published"
        if run in before.rolled_back:  # of whatever space: a rolled back change of the model is taken back as well
            return (
                f"nothing is new: version {made.version} of '{self.job.table}' was taken back, and its inputs have "
                f"not changed; featstore publish {made.name}@{made.space_id}:{made.version} brings it back"
            )
        return None

    def _build(self) -> None:
        """Everything that is made of the candidate; none of it is seen by anybody yet."""
        layout, job, made = self.layout, self.job, self._made
        model = load_card(layout, made.space_id)
        if job.gates.max_drift_auc is not None or any(head.refit == "on-drift" for head in job.heads):
            with self._timed("drift"):  # seconds that only a job is charged with which goes by it
                self.drift = drifting.drift_of(layout, self.before, made, reporter=self.reporter)
        with self._timed("heads"):
            self.outcomes = heads.settle(
                layout,
                job,
                run_id=self.run_id,
                candidate=made,
                model=model,
                before=self.before,
                drift=self.drift,
                reporter=self.reporter,
            )
        if job.index is not None:
            with self._timed("index"):
                asked = captions(layout, made, progress=self.reporter.message)
                self.index = build(layout, made, job.index, queries=asked, reporter=self.reporter)

    def _judge_rejects(self, extracted: ExtractResult) -> None:
        """A source of which too much cannot be read is no quiet day."""
        verdict = gates.rejected(self.layout, self.job, extracted)
        self.verdicts = (verdict,)
        if verdict.status == "refused":
            why = gates.told([verdict])
            look = f"featstore show {self.job.table} --rejects"
            result = replace(self._result("refused", error=why), next=(look,))
            raise GateError(
                f"{why} Nothing else is new; what is published stays.",
                hint=f"Look at them: {look}",
                context={"result": self._keep(result)},
            )

    def _refuse(self, ready: Ready | None, why: str) -> None:
        if ready is not None:
            ready.refuse(why)
            self.extracted = ready.result
        result = self._keep(self._result("refused", error=why))
        raise GateError(
            f"{why} Nothing was published; the candidate is kept as run {self.run_id}.",
            hint="Then: " + "  or  ".join(result.next),
            context={"result": result},
        )

    def _publish(self, ready: Ready | None) -> RefreshResult:
        """The one commit, then the one swap."""
        layout, made = self.layout, self._made
        self.reporter.stage("publishing")
        mine = [head.name for head in self.job.heads]
        others = moving.others(layout, self.before, self.job.name, mine, made.space_id, warn=self.reporter.warning)
        if ready is not None:
            self.extracted = ready.commit()
        adopted = {outcome.head: self._adopted(outcome) for outcome in self.outcomes}
        now = FeatureTable.open(layout, made.name, made.space_id)
        state = PublishedState(
            space_id=made.space_id,
            table_version=now.version or 0,
            index_version=own(layout, now) if self.index is None else self.index.version,
            heads=others | {head: version for head, version in adopted.items() if version is not None},
            others=tuple(others),
            run_id=made_by(now),
            published_ts=_now(),
            job=self.job.name,
            job_digest=self.job.digest,
            as_of=self.as_of,
        )
        published.swap(layout, made.name, state, expected=self.before, keep=self.job.keep)
        self.outcomes = tuple(replace(o, version=adopted[o.head], folder=None) for o in self.outcomes)
        for outcome in self.outcomes:
            layout.storage.delete_folder(layout.staged_head(self.run_id, outcome.head))
        return self._result("published", now.version)

    def _adopted(self, outcome: HeadOutcome) -> int | None:
        return outcome.version if outcome.folder is None else adopt(self.layout, outcome.folder).version

    # ── what is said of it ──────────────────────────────────────────────────────────────────

    @property
    def _made(self) -> FeatureTable:
        assert self.candidate is not None
        return self.candidate

    @contextmanager
    def _timed(self, stage: str) -> Iterator[None]:
        begun = time.monotonic()
        yield
        self.spent[stage] = time.monotonic() - begun

    def _result(self, status: _Status, version: int | None = None, *, error: str | None = None) -> RefreshResult:
        current = published.find(self.layout, self.job.table)
        made = self.candidate
        return RefreshResult(
            job=self.job.name,
            run_id=self.run_id,
            status=status,
            table=self.job.table,
            space_id=None if made is None else made.space_id,
            version=version if version is not None else (None if made is None else made.version),
            published_version=None if current is None else current.state.table_version,
            started_ts=self.started_ts,
            finished_ts=_now(),
            seconds=round(time.monotonic() - self.started, 3),
            as_of=self.as_of,
            extract=self.extracted,
            index=self.index,
            heads=self.outcomes,
            drift=self.drift,
            gates=self.verdicts,
            stage_seconds={stage: round(seconds, 3) for stage, seconds in self.spent.items()},
            job_digest=self.job.digest,
            error=error,
            next=self._next(status),
            warnings=(*self.notes, *(() if self.extracted is None else self.extracted.warnings)),
        )

    def _next(self, status: _Status) -> tuple[str, ...]:
        if status not in ("refused", "held") or self.candidate is None:
            return ()
        return (f"featstore show {self.run_id}", f"featstore publish {self.run_id} --reason TEXT")

    def _keep(self, result: RefreshResult) -> RefreshResult:
        """Writes down how it went: for ``show``, for ``ls jobs``, for Prometheus."""
        if self.candidate is not None or result.status != "failed":
            documents.write(self.layout.storage, self.layout.refresh(result.run_id), result)
        if self.within.noted:
            state.keep(self.layout, self.job, result)
        metrics.write(self.layout, self.job, result, warn=self.reporter.warning)
        return result


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
