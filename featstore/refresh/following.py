"""A job that names a model which its table has left, or has not come to yet: it follows what is published."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from featstore import migrations, models, published
from featstore.errors import FeatstoreError, UsageError
from featstore.records import SettingValue
from featstore.settings import MODEL_OPTIONS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from featstore.jobs import Job
    from featstore.layout import Layout
    from featstore.records import Migration
    from featstore.settings import ExtractSettings

__all__ = ["follow", "led_by", "moves", "space_of"]

_MODEL = ("model", "weights", *MODEL_OPTIONS)


def follow(layout: Layout, job: Job, warn: Callable[[str], None]) -> Job:
    """The job, with the model of what is published where it names the other one of the table's move.

    A move to another model ends with one swap, and a roll-back with another; a job that runs every night and still
    names the model before must not take either back. A model that is neither of the two is a decision of its own.

    Args:
        layout: The store.
        job: A job that keeps a table.
        warn: Told which key of the job's file to change.

    Raises:
        IntegrityError: The document of the move or of what is published is damaged.
    """
    found, current = migrations.find(layout, job.table), published.find(layout, job.table)
    if job.extract is None or found is None or current is None or found.status == "abandoned":
        return job
    there = current.state.space_id
    if there not in (found.from_space, found.to_space):
        return job
    other = found.from_space if there == found.to_space else found.to_space
    if space_of(layout, job.extract, found) != other:
        return job
    extract, changed = led_by(layout, job.extract, found, there)
    why = "was moved to" if there == found.to_space else "is still in" if found.status == "open" else "is back in"
    where = "the job" if job.file is None else job.file
    warn(
        f"'{job.table}' {why} the space {there}, and {where} names the model of {other}: what is published is "
        f"followed. Write under [model]: {', '.join(_written(key, value) for key, value in changed.items())}"
    )
    origins = {key: SettingValue(value=value, origin="what is published") for key, value in changed.items()}
    return replace(job, extract=extract, origins={**job.origins, **origins})


def moves(job: Job) -> UsageError:
    """Why a job is not for ``refresh``: it makes another model or moves its table to one, with gates of its own."""
    what = "trains the model of" if job.command == "finetune" else "moves"
    whither = " further" if job.command == "finetune" else " to another model"
    return UsageError(
        f"the job '{job.name}' {what} '{job.table}'{whither}, which a refresh does not.",
        hint=f"Run it with: featstore {job.command} {job.file or 'FILE'}",
    )


def space_of(layout: Layout, extract: ExtractSettings, migration: Migration) -> str | None:
    """The space that an extract's model leads to; None where it is not in the store, and so in no table."""
    said = {key: getattr(extract, key) for key in _MODEL}
    for known, space_id in ((migration.before, migration.from_space), (migration.model, migration.to_space)):
        if said == {key: known.get(key) for key in _MODEL}:
            return space_id  # also where the file that the model came from has gone
    try:
        card = models.find(layout, models.requested(extract))
    except FeatstoreError:  # said where the model is opened
        return None
    return None if card is None else card.space_id


def led_by(
    layout: Layout, extract: ExtractSettings, migration: Migration, space_id: str
) -> tuple[ExtractSettings, dict[str, str | int | None]]:
    """An extract with the model of one of a move's two spaces, and what of it was changed.

    Where the settings of the move do not lead there from here, such as a path from another folder, the model is named
    by its space.
    """
    settings = migration.model if space_id == migration.to_space else migration.before
    made = _with(extract, settings)
    try:
        card = models.find(layout, models.requested(made))
    except FeatstoreError:
        card = None
    if card is None or card.space_id != space_id:
        made = _with(extract, {"model": space_id})
    return made, {key: value for key in _MODEL if (value := getattr(made, key)) != getattr(extract, key)}


def _with(extract: ExtractSettings, settings: Mapping[str, str | int | None]) -> ExtractSettings:
    changes: dict[str, object] = {key: settings.get(key) for key in _MODEL}
    return replace(extract, **changes)  # type: ignore[arg-type]


def _written(key: str, value: str | int | None) -> str:
    name = "name" if key == "model" else key
    if value is None:
        return f"no {name}"
    return f"{name} = {value}" if isinstance(value, int) else f'{name} = "{value}"'
