"""A fine-tuning as it is asked for, and in a job what comes after it: the move to the new model, with gates of its own.

Each step finds by itself what is done already. So a job that was stopped goes on, and one that finds no new labels
ends at once.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal

from featstore import addresses, migrations
from featstore.errors import DeadlineError, FeatstoreError, GateError, InterruptedRunError, StatedError
from featstore.extract.prepare import new_run_id
from featstore.extract.progress import Reporter
from featstore.finetune.asking import asked
from featstore.records import FinetuneResult, MigrationResult
from featstore.refresh import state
from featstore.refresh.deadline import Until, seconds_of

if TYPE_CHECKING:
    from featstore.finetune.asking import Asked
    from featstore.jobs import Job
    from featstore.layout import Layout
    from featstore.records import FinetunePlan

__all__ = ["finetune", "plan"]

_Ended = Literal["refused", "interrupted", "failed"]


def finetune(
    layout: Layout,
    what: str | os.PathLike[str] | Job,
    given: Mapping[str, Any],
    *,
    deadline: str | float | None = None,
    reporter: Reporter | None = None,
    environ: Mapping[str, str] | None = None,
) -> FinetuneResult:
    """Fine-tunes a table's backbone; a job then moves the table to it, where it has a section ``[migrate]``.

    Args:
        layout: The store.
        what: The table's address; or a job with a section ``[finetune]``: its TOML file or a ``Job``.
        given: Settings of the fine-tuning, over the job's.
        deadline: From when on no further step is begun: seconds from now, or a text such as ``8h``.
        reporter: Told of progress.
        environ: The environment; ``os.environ`` by default.

    Raises:
        GateError: A gate refused, of the fine-tuning or of the move; ``context["result"]`` is the result.
        DeadlineError: The time is up; run it again to go on.
        InterruptedRunError: A signal stopped it; run it again to go on.
        FeatstoreError: What the steps raise.
    """
    found = asked(what, given, environ)
    reporter = reporter or Reporter()
    if deadline is not None:
        reporter = Until(reporter, seconds_of(deadline))
    if found.job is None:
        from featstore.finetune import run

        return run.finetune(layout, found.address, found.settings, reporter=reporter)
    return _Work(layout, found, found.job, reporter).go()


def plan(
    layout: Layout,
    what: str | os.PathLike[str] | Job,
    given: Mapping[str, Any],
    *,
    reporter: Reporter | None = None,
    environ: Mapping[str, str] | None = None,
) -> FinetunePlan:
    """What ``finetune`` would do, by reading only.

    Raises:
        FeatstoreError: What ``finetune`` would raise before it begins.
    """
    from featstore.finetune.plan import plan as planned

    found = asked(what, given, environ)
    made = planned(layout, found.address, found.settings, reporter=reporter or Reporter())
    if found.job is None or found.job.migrate is None:
        return made
    after = "publishes it" if found.job.migrate.publish else "leaves publishing it to: featstore publish"
    then = f"embeds every item of '{found.job.table}' with it, makes index and heads anew, asks the gates and {after}"
    return replace(made, then=then)


@dataclass
class _Work:
    layout: Layout
    asked: Asked
    job: Job
    reporter: Reporter
    started: float = field(default_factory=time.monotonic)
    started_ts: str = field(default_factory=lambda: _now())
    run_id: str = field(default_factory=new_run_id)
    tuned: FinetuneResult | None = None
    moving: bool = False

    def go(self) -> FinetuneResult:
        try:
            result = self._run()
            if not self.moving:
                self._note(result.status, result.next)
            return result
        except BaseException as error:
            self._told(error)
            raise

    def _run(self) -> FinetuneResult:
        from featstore.finetune import run

        layout, reporter = self.layout, self.reporter
        self.tuned = tuned = run.finetune(layout, self.asked.address, self.asked.settings, reporter=reporter)
        space = tuned.space_id
        if self.job.migrate is None or space is None or self._there(space):
            return tuned
        from featstore.migrate import migrate

        self.moving = True
        settings = replace(self.job.migrate, to=space)
        job = replace(self.job, migrate=settings)
        return self._moved(tuned, migrate(layout, job.table, settings, job=job, reporter=reporter))

    def _there(self, space: str) -> bool:
        """Whether the table's name means the new space, and no move to it is open."""
        _, current = addresses.resolve(self.layout, addresses.parse(self.job.table))
        return current == space and migrations.opened(self.layout, self.job.table) is None

    def _moved(self, tuned: FinetuneResult, found: MigrationResult) -> FinetuneResult:
        return replace(
            tuned,
            status="published" if found.status == "published" else tuned.status,
            next=found.next,
            seconds=round(time.monotonic() - self.started, 3),
            migration=found,
        )

    # ── what is said of an end before the end ───────────────────────────────────────────────

    def _told(self, error: BaseException) -> None:
        """Puts what is there by now into the error, and notes how the job went, which the move does for itself."""
        stopped = isinstance(error, InterruptedRunError | DeadlineError | KeyboardInterrupt)
        status: _Ended = "refused" if isinstance(error, GateError) else "interrupted" if stopped else "failed"
        found = error.context.get("result") if isinstance(error, StatedError) else None
        if isinstance(error, StatedError) and self.tuned is not None:
            moved = found if isinstance(found, MigrationResult) else None
            error.context["result"] = replace(
                self.tuned,
                status=status,
                next=() if moved is None else moved.next,
                seconds=round(time.monotonic() - self.started, 3),
                error=error.message,
                migration=moved,
            )
        if not self.moving:
            try:
                self._note(status, found.next if isinstance(found, FinetuneResult) else ())
            except FeatstoreError as second:
                error.add_note(f"(how the job went could not be written down: {second.message})")

    def _note(self, status: str, following: tuple[str, ...]) -> None:
        """Writes down how the job went, for ``ls jobs``."""
        state.note(
            self.layout,
            self.job,
            run_id=self.run_id,
            status=status,
            started_ts=self.started_ts,
            finished_ts=_now(),
            following=following[0] if following else None,
        )


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
