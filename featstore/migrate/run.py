"""One move: backfill, bridge, index, heads, report, gates, and then one swap or everything as it was."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from featstore import bridge, migrations
from featstore.errors import (
    DeadlineError,
    FeatstoreError,
    GateError,
    IntegrityError,
    InterruptedRunError,
    SpaceMismatchError,
    StatedError,
    UsageError,
)
from featstore.extract.prepare import new_run_id
from featstore.extract.progress import Reporter
from featstore.migrate import backfill
from featstore.migrate.opening import Move, opened, purpose
from featstore.migrate.report import report
from featstore.records import MigrationResult, RefreshResult
from featstore.refresh import state
from featstore.refresh.deadline import Until, seconds_of
from featstore.refresh.run import Built, Within, refresh
from featstore.storage import locks
from featstore.tables import FeatureTable

if TYPE_CHECKING:
    from typing import Literal

    from featstore.jobs import Gates, Job
    from featstore.layout import Layout
    from featstore.records import GateOutcome, MigrationReport, SpaceBridgeCard
    from featstore.settings import MigrateSettings

__all__ = ["migrate"]

# What a refresh's end means to the move that it is the end of.
_ENDS: dict[str, Literal["published", "nothing new", "held"]] = {
    "published": "published",
    "nothing new": "nothing new",
    "held": "held",
}


def migrate(
    layout: Layout,
    name: str,
    settings: MigrateSettings,
    *,
    job: Job | None = None,
    gates: Gates | None = None,
    deadline: str | float | None = None,
    reporter: Reporter | None = None,
) -> MigrationResult:
    """Moves a table to another model: beside what is published, then all of it in one swap or nothing.

    Run again after a crash, a deadline or a refusal, it goes on from where it was.

    Args:
        layout: The store.
        name: The table.
        settings: The model to move to, and how.
        job: The job with the section ``[migrate]`` that says so; None takes index and heads as they are published.
        gates: What must hold, where there is no job.
        deadline: From when on no further shard or step is begun: seconds from now, or a text such as ``8h``.
        reporter: Told of progress.

    Raises:
        UsageError: The table cannot be moved to this model.
        GateError: A gate refused; nothing was published. ``context["result"]`` is the result.
        ConflictError: A move to another model is under way, or another run holds the table.
        DeadlineError: The time is up; run it again to go on.
        InterruptedRunError: A signal stopped it; run it again to go on.
        FeatstoreError: What extract, index and train_head raise; nothing was published.
    """
    reporter = reporter or Reporter()
    if deadline is not None:
        reporter = Until(reporter, seconds_of(deadline))
    with locks.hold(layout.storage, layout.migration_lock(name), purpose=purpose(name), warn=reporter.warning):
        return _Migration(layout, name, settings, job, gates, reporter).go()


@dataclass
class _Migration:
    layout: Layout
    name: str
    settings: MigrateSettings
    job: Job | None
    gates: Gates | None
    reporter: Reporter
    started: float = field(default_factory=time.monotonic)
    started_ts: str = field(default_factory=lambda: _now())
    run_id: str = field(default_factory=new_run_id)
    spent: dict[str, float] = field(default_factory=dict)
    move: Move | None = None
    items: int = 0
    stored: int = 0
    bridge: SpaceBridgeCard | None = None
    report: MigrationReport | None = None
    refreshed: RefreshResult | None = None
    warnings: tuple[str, ...] = ()

    def go(self) -> MigrationResult:
        try:
            return self._noted(self._run())
        except BaseException as error:
            found = error.context.get("result") if isinstance(error, StatedError) else None
            if isinstance(found, RefreshResult):
                self.refreshed = found
            interrupted = isinstance(error, InterruptedRunError | DeadlineError | KeyboardInterrupt)
            refused = isinstance(error, GateError)
            status: Literal["refused", "interrupted", "failed"]
            status = "refused" if refused else "interrupted" if interrupted else "failed"
            said = error.message if isinstance(error, StatedError) else str(error) or type(error).__name__
            try:
                self._ended(status, said)
            except FeatstoreError as second:
                error.add_note(f"(how the move went could not be written down: {second.message})")
            if isinstance(error, StatedError) and self.move is not None:
                error.context["result"] = self._result(status, error=said)
                if refused and self.report is not None:
                    error.hint = f"Look: {self._page}   Then: {'  or  '.join(self._next(status))}"
            raise

    def _run(self) -> MigrationResult:
        layout, reporter = self.layout, self.reporter
        self.move = move = opened(layout, self.name, self.settings, self.job, self.gates, reporter)
        for text in move.notes:
            self._warn(text)
        if move.before.state.space_id == move.card.space_id:
            if move.migration.status == "open":  # published, and then killed
                migrations.note(layout, move.migration, status="published", refused=None)
            return self._result("nothing new")
        with self._timed("backfill"):
            if self.settings.bridge:
                self._count(backfill.first(layout, move, reporter))
        if self.settings.bridge:
            with self._timed("bridge"):
                self.bridge = self._bridged(move)
        with self._timed("backfill"):
            found = backfill.rest(layout, move, reporter)
            for one in found:
                self._count(one)
            self.items = sum(one.seen for one in found)
        migrations.note(layout, move.migration, backfilled=True)
        self.refreshed = refresh(
            layout,
            move.job,
            reporter=reporter,
            within=Within(also=self._compared, publish=self.settings.publish, noted=False),
        )
        self.stored += 0 if self.refreshed.extract is None else self.refreshed.extract.stored
        status = _ENDS[self.refreshed.status]
        if status == "published":
            migrations.note(layout, move.migration, status="published", backfilled=True, refused=None)
        elif status == "nothing new" and move.earlier is not None:  # it was taken back, and stays so
            migrations.note(layout, move.earlier, backfilled=True)
        return self._result("ready" if status == "held" and not self.settings.publish else status)

    # ── the steps ───────────────────────────────────────────────────────────────────────────

    def _bridged(self, move: Move) -> SpaceBridgeCard | None:
        """What leads from the new space into the old one; learned once, and again where there is far more to go by."""
        state = move.before.state
        new = FeatureTable.staging(self.layout, self.name, move.card.space_id, move.card.dim)
        try:
            there = bridge.open_space_bridge(self.layout, move.card.space_id, state.space_id)
        except (IntegrityError, SpaceMismatchError):  # of no use to anybody: it is made anew
            there = None
        if there is not None and (there.card.table != self.name or 2 * there.card.items >= min(len(new), _ENOUGH)):
            return there.card
        old = FeatureTable.open(self.layout, self.name, state.space_id, state.table_version)
        try:
            return bridge.make_spaces(self.layout, new, old, reporter=self.reporter).card
        except (UsageError, GateError) as error:  # the move goes on without
            self._warn(f"there is no bridge to ask the published vectors by the new model: {error.message}")
            return None

    def _compared(self, built: Built) -> tuple[GateOutcome, ...]:
        assert self.move is not None
        before = self.move.before.state
        with self._timed("report"):
            self.report = report(
                self.layout,
                name=self.name,
                before=FeatureTable.open(self.layout, self.name, before.space_id, before.table_version),
                before_heads=before.heads,
                built=built,
                gates=self.move.job.gates,
                queries=self.settings.queries,
                qrels=self.settings.qrels,
                bridge=self.bridge,
                device=self.move.extract.device,
                reporter=self.reporter,
            )
        return self.report.gates

    # ── what is said of it ──────────────────────────────────────────────────────────────────

    def _count(self, result: object) -> None:
        self.stored += getattr(result, "stored", 0)

    def _warn(self, text: str) -> None:
        self.warnings = (*self.warnings, text)
        self.reporter.warning(text)

    @contextmanager
    def _timed(self, stage: str) -> Iterator[None]:
        begun = time.monotonic()
        try:
            yield
        finally:
            self.spent[stage] = self.spent.get(stage, 0.0) + time.monotonic() - begun

    def _ended(self, status: Literal["refused", "interrupted", "failed"], said: str) -> None:
        """Notes how an attempt ended that published nothing."""
        if self.move is not None and status == "refused":
            run = None if self.refreshed is None else self.refreshed.run_id
            backfilled = self.refreshed is not None
            migrations.note(self.layout, self.move.migration, refused=said, run_id=run, backfilled=backfilled)
        self._note(status, None if self.refreshed is None else self.refreshed.run_id, self._next(status))

    def _noted(self, result: MigrationResult) -> MigrationResult:
        self._note(result.status, result.run_id, result.next)
        return result

    def _note(self, status: str, run_id: str | None, following: tuple[str, ...]) -> None:
        """Writes down how a job's run went, for ``ls jobs``."""
        if self.job is not None:
            state.note(
                self.layout,
                self.job,
                run_id=run_id or self.run_id,
                status=status,
                started_ts=self.started_ts,
                finished_ts=_now(),
                following=following[0] if following else None,
            )

    def _result(
        self,
        status: Literal["published", "ready", "refused", "held", "nothing new", "interrupted", "failed"],
        *,
        error: str | None = None,
    ) -> MigrationResult:
        assert self.move is not None
        card = self.move.card
        there = FeatureTable.staging(self.layout, self.name, card.space_id, card.dim)
        stages = {**self.spent, **({} if self.refreshed is None else self.refreshed.stage_seconds)}
        return MigrationResult(
            name=self.name,
            status=status,
            from_space=self.move.migration.from_space,
            to_space=card.space_id,
            version=there.version,
            items=max(self.items, len(there)),
            embedded=len(there),
            stored=self.stored,
            seconds=round(time.monotonic() - self.started, 3),
            stage_seconds={stage: round(seconds, 3) for stage, seconds in stages.items()},
            run_id=None if self.refreshed is None else self.refreshed.run_id,
            report=self.report,
            gates=() if self.refreshed is None else self.refreshed.gates,
            error=error,
            next=self._next(status),
            warnings=self.warnings,
        )

    @property
    def _page(self) -> str:
        assert self.report is not None
        return str(self.layout.storage.local(self.report.html)) if self.report.html else f"featstore show {self.name}"

    def _next(self, status: str) -> tuple[str, ...]:
        if status == "published":
            return (f"featstore rollback {self.name}",)
        if status == "nothing new" and self.refreshed is not None:
            return (f"featstore publish {self.name}@{self.refreshed.space_id}:{self.refreshed.version} --reason TEXT",)
        if status in ("refused", "held", "ready") and self.refreshed is not None and self.refreshed.run_id is not None:
            publish = f"featstore publish {self.refreshed.run_id} --reason TEXT"
            return (publish, f"featstore migrate {self.name} --abandon")
        return ()


_ENOUGH = 50_000
"""Items that a bridge is learned from at most."""


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
