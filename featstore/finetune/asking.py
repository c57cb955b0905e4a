"""What a fine-tuning is asked for: by a table's address and settings, or by a job's file."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, fields

from featstore import addresses
from featstore.errors import UsageError
from featstore.jobs import Job
from featstore.jobs.loading import load
from featstore.settings import FinetuneSettings, resolve

__all__ = ["Asked", "asked"]

_SUFFIX = ".toml"


@dataclass(frozen=True)
class Asked:
    """A fine-tuning as it is asked for.

    Attributes:
        address: Of the table.
        settings: Of the fine-tuning.
        job: The job that says so, if one does.
    """

    address: str
    settings: FinetuneSettings
    job: Job | None = None


def asked(
    what: str | os.PathLike[str] | Job, given: Mapping[str, object], environ: Mapping[str, str] | None = None
) -> Asked:
    """Resolves the settings of a fine-tuning.

    Args:
        what: A table's address; or a job with a section ``[finetune]``: its TOML file or a ``Job``.
        given: Fields of ``FinetuneSettings``; those that are None count as not given. Over a job's own.
        environ: The environment; ``os.environ`` by default.

    Raises:
        NotFoundError: There is no such file.
        SettingsError: A setting is unknown, of the wrong type or out of range, or the job is not as it must be.
        UsageError: The job trains nothing further, or what is named is no address.
    """
    if not isinstance(what, Job) and not os.fspath(what).endswith(_SUFFIX):
        address = os.fspath(what)
        addresses.parse(address)
        return Asked(address, resolve(FinetuneSettings, given, environ)[0])
    job = what if isinstance(what, Job) else load(what, environ=environ)
    if job.finetune is None:
        raise UsageError(
            f"the job '{job.name}' trains no backbone further: it has no section [finetune].",
            hint=f"Run it with: featstore {job.command} {job.file or job.name}",
        )
    own = {item.name: getattr(job.finetune, item.name) for item in fields(FinetuneSettings)}
    said = {key: value for key, value in given.items() if value is not None}
    settings = resolve(FinetuneSettings, {**own, **said}, {})[0]  # the environment had its say where it was read
    return Asked(job.table if job.space is None else f"{job.table}@{job.space}", settings, job)
