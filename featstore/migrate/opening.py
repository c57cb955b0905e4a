"""What a move is of: the table as it is published, the job that the move ends with, and the document that notes it."""

from __future__ import annotations

import os
from dataclasses import dataclass, fields, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from featstore import addresses, founding, migrations, models, published
from featstore.errors import ConflictError, NotFoundError, SettingsError, UsageError
from featstore.extract import model_of
from featstore.heads import opening as heads
from featstore.jobs import Gates, HeadJob, Job
from featstore.jobs.meaning import digest
from featstore.models import load_card
from featstore.records import Migration, ModelCard
from featstore.refresh import moving
from featstore.refresh.drafting import draft, from_here
from featstore.refresh.made import made_by
from featstore.settings import MODEL_OPTIONS, ExtractSettings, resolve
from featstore.storage import locks
from featstore.tables import FeatureTable, companion

if TYPE_CHECKING:
    from featstore.extract.progress import Reporter
    from featstore.layout import Layout
    from featstore.records import Published
    from featstore.settings import MigrateSettings

__all__ = ["MODEL", "Move", "abandon", "check_kind", "drafted", "opened", "purpose"]

MODEL = ("model", "weights", *MODEL_OPTIONS)
"""The settings of extract that lead to a space."""


@dataclass(frozen=True)
class Move:
    """A move that is under way.

    Attributes:
        job: What it ends with: a refresh of the table in the new space.
        settings: Of the move.
        before: What is published.
        card: Of the new model.
        migration: As it is noted.
        earlier: As it was noted before, if it was.
        notes: What the user should know.
    """

    job: Job
    settings: MigrateSettings
    before: Published
    card: ModelCard
    migration: Migration
    earlier: Migration | None
    notes: tuple[str, ...]

    @property
    def extract(self) -> ExtractSettings:
        """How the new space is filled."""
        assert self.job.extract is not None
        return self.job.extract


def purpose(name: str) -> str:
    """What the lock of a move is held for."""
    return f"moving '{name}' to another model"


def drafted(
    layout: Layout, name: str, settings: MigrateSettings, job: Job | None, gates: Gates | None
) -> tuple[Job, ExtractSettings, list[str]]:
    """The refresh that the move ends with, and how the table is extracted now.

    It keeps the table's source, index and heads as they are, by what is published, with the other model; what a job
    says of them comes first.

    Args:
        layout: The store.
        name: The table.
        settings: Of the move.
        job: A job with a section ``[migrate]``, if there is one.
        gates: What must hold, where there is no job.

    Raises:
        NotFoundError: There is no such table.
        UsageError: Its source is none that could be read again, a head's labels are not known any more, or what is
            asked of the new model cannot be judged.
        NotFoundError: Queries or judgements are not there.
    """
    _, base_space = addresses.resolve(layout, addresses.parse(name))
    base, notes, _ = draft(layout, f"migrate-{name}", name, lists=True)
    said = job.extract if job is not None else None
    now = base.extract if said is None else said
    if now is None:
        raise UsageError(
            f"'{name}' cannot be embedded again: {'; '.join(notes)}.",
            hint="Extract it again from a folder or a table, then move it.",
        )
    kept = job.heads if job is not None and job.heads else tuple(_plain(head) for head in base.heads)
    _check_heads(layout, name, kept, job)
    # A head of the old space can never stay as it is.
    kept = tuple(replace(head, refit="on-drift") if head.refit == "never" else head for head in kept)
    asked = job.gates if job is not None else gates or Gates()
    index = base.index if job is None or job.index is None else job.index
    _check_asked(settings, asked, {head.name for head in kept}, index=index is not None)
    said_of = {item.name: getattr(now, item.name) for item in fields(now)}
    said_of |= {"name": name, "model": from_here(layout, settings.to)}
    said_of |= {key: getattr(settings, key) for key in MODEL[1:]}
    said_of |= {key: value for key in ("device", "workers") if (value := getattr(settings, key)) is not None}
    if settings.weights is not None:
        said_of["weights"] = os.path.abspath(os.path.expanduser(settings.weights))
    if companion.find(layout, name, base_space) is not None:
        said_of["history"] = True  # what leaves the table goes on being kept
    extract, resolved = resolve(ExtractSettings, said_of, {}, origin="the table" if job is None else "job")
    made = Job(
        name=base.name if job is None else job.name,
        table=name,
        extract=extract,
        index=index,
        heads=kept,
        gates=replace(asked, min_recall=base.gates.min_recall if asked.min_recall is None else asked.min_recall),
        keep=base.keep if job is None else job.keep,
        textfile=None if job is None else job.textfile,
        store=None if job is None else job.store,
        file=None if job is None else job.file,
        origins=dict(resolved.origins),
    )
    return replace(made, digest=digest(made)), now, [note for note in notes if "the table has no index" not in note]


def opened(
    layout: Layout,
    name: str,
    settings: MigrateSettings,
    job: Job | None,
    gates: Gates | None,
    reporter: Reporter,
) -> Move:
    """Begins a move, or finds the one that is under way; what the table's name means now is published first.

    To be called under the lock of the move.

    Raises:
        NotFoundError: There is no such table or model.
        UsageError: The model is the table's own or takes items of another kind, or the table cannot be extracted again.
        ConflictError: A move to another model is under way.
        FeatstoreError: The model cannot be exported, or is not what it was.
    """
    made, now, notes = drafted(layout, name, settings, job, gates)
    there = _under_way(layout, name)
    assert made.extract is not None
    _, from_space = addresses.resolve(layout, addresses.parse(name))
    check_kind(layout, name, from_space, made.extract)  # before a model is fetched and exported for nothing
    card = model_of(layout, made.extract, reporter=reporter)
    if there is not None and there.to_space != card.space_id:
        raise ConflictError(
            f"'{name}' is on its way to {there.to_space}, and {settings.to} is {card.space_id}.",
            hint=f"Give that up first: featstore migrate {name} --abandon",
        )
    before = published.find(layout, name)
    found = there or migrations.find(layout, name)
    if before is not None and before.state.space_id == card.space_id:
        if found is not None and found.to_space == card.space_id:
            return Move(made, settings, before, card, found, found, tuple(notes))  # it has arrived
        raise UsageError(f"'{name}' is of the space {card.space_id} already.", hint="Name another model with --to.")
    if card.space_id == from_space:
        raise UsageError(f"'{name}' is of the space {from_space} already.", hint="Name another model with --to.")
    founding.found(layout)
    if before is None:
        before = _first(layout, name, from_space, card.space_id, reporter)
    if there is None:
        when = datetime.now(UTC).isoformat(timespec="seconds")
        there = Migration(
            name=name,
            from_space=from_space,
            to_space=card.space_id,
            model={key: getattr(made.extract, key) for key in MODEL},
            before={key: getattr(now, key) for key in MODEL},
            status="open",
            opened_ts=when,
            changed_ts=when,
        )
    noted = migrations.note(layout, there, priority=settings.priority)
    return Move(made, settings, before, card, noted, found, tuple(notes))


def _under_way(layout: Layout, name: str) -> Migration | None:
    """A table's move that is under way; one that was killed right after the swap has arrived, and is noted so."""
    found, current = migrations.opened(layout, name), published.find(layout, name)
    if found is None or current is None or current.state.space_id != found.to_space:
        return found
    migrations.note(layout, found, status="published", refused=None)
    return None


def _first(layout: Layout, name: str, from_space: str, to_space: str, reporter: Reporter) -> Published:
    """Publishes what a name that was never published means: the newest version of the table and of its heads."""
    with locks.hold(layout.storage, layout.lock(name), purpose=f"publishing '{name}'", warn=reporter.warning):
        table = FeatureTable.open(layout, name, from_space)
        reporter.message(f"publishing version {table.version}, so that '{name}' goes on meaning {from_space}")
        newest = heads.cards(layout, broken=lambda error: reporter.warning(error.message))
        mine = {card.head: card.version for card in newest if (card.table, card.space_id) == (name, from_space)}
        moving.move(layout, table, mine, made_by(table), f"before the move to {to_space}")
    found = published.find(layout, name)
    assert found is not None
    return found


def abandon(layout: Layout, name: str, *, reporter: Reporter | None = None) -> Migration:
    """Gives a move up: refreshes fill the new space no more. What was embedded stays until ``gc --drop-space``.

    Raises:
        NotFoundError: No move of the table is under way.
        LockedError: It is going on in another process.
    """
    from featstore.extract.progress import Reporter as Silent

    warn = (reporter or Silent()).warning
    with locks.hold(layout.storage, layout.migration_lock(name), purpose=purpose(name), warn=warn):
        found = _under_way(layout, name)
        if found is None:
            raise NotFoundError(f"'{name}' is not on its way to another model.", hint="See: featstore ls")
        return migrations.note(layout, found, status="abandoned")


def check_kind(layout: Layout, name: str, from_space: str, extract: ExtractSettings) -> None:
    """Refuses a model of other items than a table holds.

    Raises:
        UsageError: It takes images and the table holds texts, or the other way round.
    """
    old, new = load_card(layout, from_space).modality, models.modality_of(models.requested(extract), layout)
    if old != new:
        raise UsageError(
            f"'{name}' holds {old}s, and {extract.model} takes {new}s.",
            hint=f"Name a model of {old}s: featstore models list",
        )


def _plain(head: HeadJob) -> HeadJob:
    """Without what says whether a head is worth having: here it is held against the one before."""
    return replace(head, settings=replace(head.settings, curve=False, baselines=False))


def _check_asked(settings: MigrateSettings, gates: Gates, heads: set[str], *, index: bool) -> None:
    """Refuses what could never be judged now, and not after all items were embedded."""
    for key in ("queries", "qrels"):
        file = getattr(settings, key)
        if file is not None and not Path(file).exists():
            raise NotFoundError(f"{key}: there is no file {file}.")
    if settings.qrels is not None and settings.queries is None:
        raise SettingsError("qrels: it judges queries, and none are given.", hint="Add --queries FILE")
    if gates.min_ndcg is not None and settings.qrels is None:
        raise SettingsError("min_ndcg: it needs judgements.", hint="Add --queries FILE --qrels FILE")
    for head in gates.min_accuracy:
        if head not in heads:
            raise SettingsError(
                f"min_accuracy.{head}: the table has no such head; it has {', '.join(sorted(heads)) or 'none'}."
            )
    if gates.min_recall is not None and not index:
        raise SettingsError("min_recall: the table has no index.", hint="Make one first, or leave the gate out.")


def _check_heads(layout: Layout, name: str, kept: tuple[HeadJob, ...], job: Job | None) -> None:
    """Refuses to leave a published head behind, unless the job says which heads there are."""
    current = published.find(layout, name)
    if current is None or (job is not None and job.heads):
        return
    missing = sorted(set(current.state.heads) - {head.name for head in kept})
    if missing:
        raise UsageError(
            f"head '{missing[0]}' is published with '{name}' and cannot be trained again: its labels came from a file.",
            hint="Write a job with a section [migrate] and a [[head]] that names the file as labels: "
            f"featstore jobs new {name}",
        )
