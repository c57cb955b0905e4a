"""What a move would take: items, time, bytes, by reading only."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

from featstore import addresses, migrations, models, published
from featstore.errors import ConflictError, UsageError
from featstore.extract import extract as embed
from featstore.index import files
from featstore.migrate import backfill
from featstore.migrate.opening import check_kind, drafted
from featstore.models import load_card
from featstore.records import MigrationPlan
from featstore.refresh import planning
from featstore.tables import FeatureTable

if TYPE_CHECKING:
    from featstore.jobs import Gates, Job
    from featstore.layout import Layout
    from featstore.settings import MigrateSettings

__all__ = ["plan"]


def plan(
    layout: Layout,
    name: str,
    settings: MigrateSettings,
    *,
    job: Job | None = None,
    gates: Gates | None = None,
) -> MigrationPlan:
    """What ``migrate`` would do; times and bytes are estimates, and nothing is written, fetched or exported.

    Args:
        layout: The store.
        name: The table.
        settings: The model to move to, and how.
        job: The job that says so, if there is one.
        gates: What must hold, where there is no job.

    Raises:
        FeatstoreError: What ``migrate`` would raise before it begins.
    """
    made, _, notes = drafted(layout, name, settings, job, gates)
    assert made.extract is not None
    _, from_space = addresses.resolve(layout, addresses.parse(name))
    old, card = load_card(layout, from_space), models.find(layout, models.requested(made.extract))
    if card is not None and card.space_id == from_space:
        raise UsageError(f"'{name}' is of the space {from_space} already.", hint="Name another model with --to.")
    there = migrations.opened(layout, name)
    if there is not None and card is not None and there.to_space != card.space_id:
        raise ConflictError(
            f"'{name}' is on its way to {there.to_space}, and {settings.to} is {card.space_id}.",
            hint=f"Give that up first: featstore migrate {name} --abandon",
        )
    check_kind(layout, name, from_space, made.extract)
    others = [embed(layout, one, said, dry_run=True) for one, said in backfill.besides(layout, made)]
    found = planning.plan(layout, made, besides=sum(one.stored for one in others))
    extract = found.extract
    assert extract is not None
    sources = (extract, *others)
    current = published.find(layout, name)
    now = FeatureTable.open(layout, name, from_space, None if current is None else current.state.table_version)
    new = card is not None and FeatureTable.exists(layout, name, card.space_id)
    held = len(FeatureTable.open(layout, name, card.space_id)) if card is not None and new else 0
    grown = 1.0 if card is None else card.dim / old.dim
    needed = now.bytes if card is None else sum(one.bytes_written for one in sources)
    free = shutil.disk_usage(layout.storage.root).free
    short = f"the disk has {free:,} bytes free, and the vectors alone take {needed:,}"
    return MigrationPlan(
        name=name,
        from_space=from_space,
        to_space=None if card is None else card.space_id,
        model=settings.to,
        items=sum(one.seen for one in sources),
        there=held,
        to_embed=sum(one.stored for one in sources),
        seconds_low=found.seconds_low,
        seconds_high=found.seconds_high,
        bytes=needed,
        index_bytes=round(_index_bytes(layout, now) * grown),
        disk_free=free,
        index=found.index,
        heads=found.heads,
        gates=(*found.gates, *_own_gates(made.gates)),
        extract=extract,
        warnings=(*found.warnings, *notes, *((short,) if free < 2 * needed else ())),
    )


def _index_bytes(layout: Layout, table: FeatureTable) -> int:
    """What the newest index of a table takes; 0 without one."""
    for version in files.versions(layout, table.name, table.space_id):
        folder = layout.index(table.name, table.space_id, version)
        return sum(layout.storage.stat(path).size for path in layout.storage.files(folder))
    return 0


def _own_gates(gates: Gates) -> tuple[str, ...]:
    found = [
        "heads and nDCG: not significantly worse than the old model's on the same items"
        if gates.max_drop is None
        else f"max_drop: heads and nDCG fall by at most {gates.max_drop:g}"
    ]
    if gates.min_ndcg is not None:
        found.append(f"min_ndcg: at least {gates.min_ndcg:g}")
    return tuple(found)
