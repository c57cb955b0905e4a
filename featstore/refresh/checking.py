"""A job's file against itself and, where a store is there, against what the job will find."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

from featstore import addresses, migrations, models
from featstore.errors import FeatstoreError, NotFoundError, SettingsError
from featstore.jobs.loading import load
from featstore.jobs.problems import Problem
from featstore.records import JobCheck, JobProblem, SourceRecord
from featstore.sources import source_uri
from featstore.storage import documents, shown
from featstore.tables import FeatureTable

if TYPE_CHECKING:
    from featstore.jobs import Job
    from featstore.layout import Layout
    from featstore.settings import MigrateSettings

__all__ = ["check"]


def check(layout: Layout, files: Sequence[str | os.PathLike[str]]) -> list[JobCheck]:
    """Checks jobs' files; nothing is run, fetched or written.

    Args:
        layout: A store, which need not be there: then it is not looked into.
        files: The TOML files.

    Returns:
        What is wrong with each, and what one should know before it runs.

    Raises:
        NotFoundError: There is no such file.
    """
    found: list[JobCheck] = []
    for file in files:
        try:
            job = load(file)
        except NotFoundError:
            raise
        except SettingsError as error:
            problems = error.context.get("problems")
            said = problems if isinstance(problems, tuple) else (Problem("", error.message),)
            found.append(JobCheck(file=str(file), job=None, table=None, digest=None, problems=_told(said)))
            continue
        twin = next((other.file for other in found if other.job == job.name), None)
        twice = () if twin is None else (Problem("job.name", f"'{job.name}' is the name of the job in {twin} too"),)
        found.append(
            JobCheck(
                file=str(file),
                job=job.name,
                table=job.table,
                digest=job.digest,
                problems=_told(twice),
                warnings=_warnings(layout, job),
            )
        )
    return found


def _told(problems: Sequence[Problem]) -> tuple[JobProblem, ...]:
    ordered = sorted(problems, key=lambda one: (one.line is None, one.line or 0))
    return tuple(JobProblem(path=one.path, line=one.line, text=one.text) for one in ordered)


def _warnings(layout: Layout, job: Job) -> tuple[str, ...]:
    """What the job will stumble over, or take long for, as things are now."""
    found = list(_files(job))
    if layout.storage.exists(layout.store):
        try:
            found += _store(layout, job)
        except FeatstoreError as error:
            found.append(error.message)
    return tuple(found)


def _files(job: Job) -> list[str]:
    found = []
    if job.extract is not None:
        source = job.extract.source
        if "://" in source and not source.startswith("file://"):
            found.append(f"source.uri: {shown(source)} cannot be read; a source is a path or a file:// URL")
        elif "://" not in source and "{" not in source and not os.path.lexists(source):
            found.append(f"source.uri: {source} is not there")
        if job.extract.weights is not None and not os.path.isfile(job.extract.weights):
            found.append(f"model.weights: {job.extract.weights} is not there")
    if job.migrate is not None:
        for key in ("weights", "queries", "qrels"):
            file = getattr(job.migrate, key)
            if file is not None and not os.path.isfile(file):
                found.append(f"migrate.{key}: {file} is not there")
    if job.finetune is not None:
        for key in ("weights", "labels"):
            file = getattr(job.finetune, key)
            if file is not None and not os.path.isfile(file):
                found.append(f"finetune.{key}: {file} is not there")
    for at, head in enumerate(job.heads):
        if head.settings.labels is not None and not os.path.isfile(head.settings.labels):
            found.append(f"head[{at}].labels: {head.settings.labels} is not there")
    if job.textfile is not None and not os.path.isdir(os.path.dirname(job.textfile)):
        found.append(f"metrics.textfile: the folder {os.path.dirname(job.textfile)} is not there")
    return found


def _store(layout: Layout, job: Job) -> list[str]:
    found = []
    space_id = None
    if job.extract is None:
        _, space_id = addresses.resolve(layout, addresses.Address(job.table, job.space))
    else:
        card = models.find(layout, models.requested(job.extract))
        if card is None:
            found.append(f"model.name: '{job.extract.model}' is not in the store; the first run fetches and exports it")
        else:
            space_id = card.space_id
        record = documents.find(layout.storage, layout.source(job.table), SourceRecord)
        uri = source_uri(job.extract.source, job.extract.source_root)
        if record is not None and uri not in (record.uri, *record.added) and not job.extract.add:
            found.append(f"source.uri: table '{job.table}' is kept in step with {record.uri}, and this is {shown(uri)}")
    if job.migrate is not None and job.finetune is None:
        found += _moving(layout, job, job.migrate)
    if space_id is not None and FeatureTable.exists(layout, job.table, space_id):
        columns = FeatureTable.open(layout, job.table, space_id).column_names
        order = None if job.migrate is None else job.migrate.priority
        if order is not None and order not in columns:
            found.append(f"migrate.priority: table '{job.table}' has no column '{order}' yet")
        tuned = job.finetune
        if tuned is not None and tuned.labels is None and tuned.label not in columns:
            found.append(f"finetune.label: table '{job.table}' has no column '{tuned.label}' yet")
        found += [
            f"head[{at}].label: table '{job.table}' has no column '{head.settings.label}' yet"
            for at, head in enumerate(job.heads)
            if head.settings.labels is None and head.settings.label not in columns
        ]
    return found


def _moving(layout: Layout, job: Job, migrate: MigrateSettings) -> list[str]:
    card = models.find(layout, models.requested(migrate))
    if card is None:
        return [f"migrate.to: '{migrate.to}' is not in the store; the first run fetches and exports it"]
    other = migrations.opened(layout, job.table)
    if other is not None and other.to_space != card.space_id:
        return [f"migrate.to: table '{job.table}' is on its way to {other.to_space}, and this is {card.space_id}"]
    return []
