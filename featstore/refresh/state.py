"""How a job's last runs went, for ``ls jobs``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from featstore.records import JobState
from featstore.storage import documents

if TYPE_CHECKING:
    from featstore.jobs import Job
    from featstore.layout import Layout
    from featstore.records import RefreshResult

__all__ = ["every", "keep", "note"]

# What counts as success: everything that was to be done is done, or there was nothing to do.
_GOOD = ("published", "nothing new", "ready", "abandoned", "kept")


def keep(layout: Layout, job: Job, result: RefreshResult) -> JobState:
    """Writes down how the job's last refresh went."""
    return note(
        layout,
        job,
        run_id=result.run_id,
        status=result.status,
        started_ts=result.started_ts,
        finished_ts=result.finished_ts,
        following=result.next[0] if result.next else None,
    )


def note(
    layout: Layout, job: Job, *, run_id: str, status: str, started_ts: str, finished_ts: str, following: str | None
) -> JobState:
    """Writes down how a job's last run went, whatever command ran it.

    Args:
        layout: The store.
        job: The job.
        run_id: The run.
        status: How it ended, in the words of ``RefreshResult`` or ``MigrationResult``.
        started_ts: When it began.
        finished_ts: When it ended.
        following: The command that one would go on with.

    Raises:
        IntegrityError: What was written down before is damaged.
        StorageError: The disk refused.
    """
    before = documents.find(layout.storage, layout.job(job.name), JobState)
    good = status in _GOOD
    published = finished_ts if status == "published" else None if before is None else before.last_published_ts
    success = finished_ts if good else None if before is None else before.last_success_ts
    made = JobState(
        job=job.name,
        file=job.file,
        table=job.table,
        digest=job.digest,
        last_run_id=run_id,
        last_status=status,
        last_started_ts=started_ts,
        last_finished_ts=finished_ts,
        last_success_ts=success,
        last_published_ts=published,
        failures=0 if good else 1 + (0 if before is None else before.failures),
        next=following,
        command=job.command,
    )
    documents.write(layout.storage, layout.job(job.name), made)
    return made


def every(layout: Layout) -> list[JobState]:
    """The jobs that have run in a store, by name.

    Raises:
        IntegrityError: A document is damaged.
    """
    paths = (path for path in layout.storage.files(layout.job()) if path.endswith(".json"))
    return [documents.read(layout.storage, path, JobState) for path in paths]
