"""How a job's last runs went, for ``ls jobs``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from featstore.records import JobState
from featstore.storage import documents

if TYPE_CHECKING:
    from featstore.jobs import Job
    from featstore.layout import Layout
    from featstore.records import RefreshResult

__all__ = ["every", "keep"]

# What counts as success: everything that was to be done is done, or there was nothing to do.
_GOOD = ("published", "nothing new")


def keep(layout: Layout, job: Job, result: RefreshResult) -> JobState:
    """Writes down how the job's last run went."""
    before = documents.find(layout.storage, layout.job(job.name), JobState)
    good = result.status in _GOOD
    published = (
        result.finished_ts if result.status == "published" else None if before is None else before.last_published_ts
    )
    success = result.finished_ts if good else None if before is None else before.last_success_ts
    made = JobState(
        job=job.name,
        file=job.file,
        table=job.table,
        digest=job.digest,
        last_run_id=result.run_id,
        last_status=result.status,
        last_started_ts=result.started_ts,
        last_finished_ts=result.finished_ts,
        last_success_ts=success,
        last_published_ts=published,
        failures=0 if good else 1 + (0 if before is None else before.failures),
        next=result.next[0] if result.next else None,
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
