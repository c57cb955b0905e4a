"""What a move is asked for: by a table's name and settings, or by a job's file."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path

from featstore import addresses
from featstore.errors import SettingsError, UsageError
from featstore.jobs import Gates, Job
from featstore.jobs.loading import load
from featstore.settings import MigrateSettings, resolve

__all__ = ["Asked", "asked"]

_SUFFIX = ".toml"


@dataclass(frozen=True)
class Asked:
    """A move as it is asked for.

    Attributes:
        name: The table.
        settings: Of the move.
        job: The job that says so, if one does.
        gates: What must hold, where no job says so.
    """

    name: str
    settings: MigrateSettings
    job: Job | None = None
    gates: Gates | None = None


def asked(
    what: str | os.PathLike[str] | Job, given: Mapping[str, object], environ: Mapping[str, str] | None = None
) -> Asked:
    """Resolves the settings of a move, and what must hold at its end.

    Args:
        what: A table's name, or a job: its TOML file or a ``Job``.
        given: Fields of ``MigrateSettings`` and of ``Gates``; those that are None count as not given. Over a job's own.
        environ: The environment; ``os.environ`` by default.

    Raises:
        NotFoundError: There is no such file.
        SettingsError: A setting is unknown, of the wrong type or out of range, or the job is not as it must be.
        UsageError: The job moves no table, or what is named is no table's plain name.
    """
    names = {item.name for item in fields(Gates)}
    said = {key: value for key, value in given.items() if value is not None}
    of_gates = {key: value for key, value in said.items() if key in names}
    of_move = {key: value for key, value in said.items() if key not in names}
    if isinstance(what, Job) or os.fspath(what).endswith(_SUFFIX):
        job = what if isinstance(what, Job) else load(what, environ=environ)
        if job.finetune is not None:
            raise UsageError(
                f"the job '{job.name}' makes the model first that it moves its table to.",
                hint=f"Run it with: featstore finetune {job.file or job.name}",
            )
        if job.migrate is None:
            raise UsageError(
                f"the job '{job.name}' moves no table: it has no section [migrate].",
                hint=f"Run it with: featstore refresh {job.file or job.name}",
            )
        if "to" in of_move:
            raise SettingsError("to: what a job moves its table to is said in its file.")
        own = {item.name: getattr(job.migrate, item.name) for item in fields(MigrateSettings)}
        settings = resolve(MigrateSettings, {**own, **of_move}, environ)[0]
        return Asked(job.table, settings, replace(job, gates=_gates(of_gates, job.gates)))
    name = os.fspath(what)
    where = addresses.parse(name)
    if where.model is not None or where.version is not None:
        raise UsageError(
            f"'{name}' is one version or space; what moves is what the table's name means.",
            hint=f"featstore migrate {where.name} --to MODEL",
        )
    if "to" not in of_move:
        more = f" {Path(name)} is no file that ends in .toml." if os.sep in name else ""
        raise UsageError(f"to which model should '{name}' move?{more}", hint=f"featstore migrate {name} --to MODEL")
    settings = resolve(MigrateSettings, of_move, environ)[0]
    return Asked(where.name, settings, None, _gates(of_gates, Gates()))


def _gates(given: Mapping[str, object], lower: Gates) -> Gates:
    if not given:
        return lower
    own = {item.name: getattr(lower, item.name) for item in fields(Gates)}
    return resolve(Gates, {**own, **given}, {})[0]
