"""How each job stands: when it last succeeded, what is published, and what to do next."""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from featstore import published
from featstore.errors import NotFoundError, SettingsError
from featstore.jobs.loading import load
from featstore.records import JobStanding, JobState
from featstore.refresh import state
from featstore.storage import documents

if TYPE_CHECKING:
    from featstore.jobs import Job
    from featstore.layout import Layout

__all__ = ["files_of", "standings"]


def standings(
    layout: Layout,
    files: Sequence[str | os.PathLike[str]] | None = None,
    *,
    older_than: float | None = None,
    now: datetime | None = None,
) -> list[JobStanding]:
    """The jobs that have run in a store, or those of some files, by name.

    Args:
        layout: The store.
        files: Jobs' files, or folders of them: those jobs are listed and no others, also where they never ran.
        older_than: Seconds since the last success from which on a job is stale.
        now: For tests.

    Raises:
        NotFoundError: There is no such file or folder, or no job in it.
        IntegrityError: A document of the store is damaged.
    """
    now = now or datetime.now(UTC)
    if files is None:
        return [_standing(layout, each, None, older_than, now) for each in state.every(layout)]
    found = []
    for file in files_of(files):
        try:
            job = load(file)
        except SettingsError as error:
            if isinstance(error, NotFoundError):
                raise
            found.append(_unreadable(file, error, older_than))
            continue
        known = documents.find(layout.storage, layout.job(job.name), JobState)
        found.append(_standing(layout, known, job, older_than, now))
    return sorted(found, key=lambda standing: standing.job)


def files_of(paths: Sequence[str | os.PathLike[str]]) -> list[Path]:
    """The files that are named, and the ``.toml`` files of the folders that are.

    Raises:
        NotFoundError: There is no such file or folder, or no job in it.
    """
    found: list[Path] = []
    for path in map(Path, paths):
        inside = sorted(file for file in path.glob("*.toml") if file.is_file()) if path.is_dir() else [path]
        if not inside:
            raise NotFoundError(
                f"{path} has no job: no file in it ends in .toml.",
                hint="Make one of a table: featstore jobs new NAME -o FILE.toml",
            )
        found += [file for file in inside if file not in found]
    return found


def _standing(
    layout: Layout, known: JobState | None, job: Job | None, older_than: float | None, now: datetime
) -> JobStanding:
    table = job.table if job is not None else known.table if known is not None else ""
    current = published.find(layout, table)
    success = None if known is None else known.last_success_ts
    age = None if success is None else max(0.0, (now - datetime.fromisoformat(success)).total_seconds())
    notes = []
    if known is not None and job is not None and known.digest != job.digest:
        notes.append("says something else than at its last run")
    if current is not None and current.held:
        notes.append("publishing is held")
    return JobStanding(
        job=job.name if job is not None else known.job if known is not None else "",
        file=job.file if job is not None else known.file if known is not None else None,
        table=table,
        status="never run" if known is None else known.last_status,
        last_run_id=None if known is None else known.last_run_id,
        last_started_ts=None if known is None else known.last_started_ts,
        last_success_ts=success,
        last_published_ts=None if known is None else known.last_published_ts,
        age_seconds=None if age is None else round(age, 1),
        stale=None if older_than is None else age is None or age > older_than,
        published_version=None if current is None else current.state.table_version,
        failures=0 if known is None else known.failures,
        next=_next(known, job),
        note="; ".join(notes) or None,
    )


def _next(known: JobState | None, job: Job | None) -> str | None:
    if known is not None and known.next is not None:
        return known.next
    file = job.file if job is not None else known.file if known is not None else None
    if file is not None and (known is None or known.last_status in ("failed", "interrupted", "refused")):
        if job is not None:
            return f"featstore {job.command} {_near(file)}"
        return f"featstore {'refresh' if known is None else known.command} {_near(file)}"
    return None


def _unreadable(file: Path, error: SettingsError, older_than: float | None) -> JobStanding:
    return JobStanding(
        job=file.stem,
        file=os.path.abspath(file),
        table="",
        status="unreadable",
        last_run_id=None,
        last_started_ts=None,
        last_success_ts=None,
        last_published_ts=None,
        age_seconds=None,
        stale=None if older_than is None else True,
        published_version=None,
        failures=0,
        next=f"featstore jobs check {_near(str(file))}",
        note=error.message,
    )


def _near(file: str) -> str:
    """A path as one would type it: from the working folder, where it lies below."""
    relative = os.path.relpath(file)
    return os.path.abspath(file) if relative.startswith("..") else relative
