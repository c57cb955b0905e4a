"""A table goes in one space for good: what could be gone back to first, then what was made from it, then itself."""

from __future__ import annotations

import secrets
import time
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from featstore import addresses, migrations, published
from featstore.errors import GateError, NotFoundError, UsageError
from featstore.heads import opening
from featstore.index import files as indexes
from featstore.records import DropReport
from featstore.storage import locks
from featstore.tables import FeatureTable, RejectsTable
from featstore.upkeep import leftovers
from featstore.upkeep.purge import files, places

if TYPE_CHECKING:
    from featstore.layout import Layout

__all__ = ["drop_space"]

# What a table's log is called from the moment that it is no table any more.
_DROPPED = "_dropped_log"


def drop_space(layout: Layout, address: str, *, dry_run: bool) -> DropReport:
    """Removes a table in one space, and all that was made of it but its heads.

    Maps between the models stay: they are of the models, which stay too, and lead another table's queries across.

    Args:
        layout: The store.
        address: ``NAME@MODEL``.
        dry_run: Only say what would go, and what that breaks.

    Raises:
        UsageError: The address names no model, or a version.
        NotFoundError: There is no such table in such a space.
        GateError: It is published, or a move to another model needs it.
        LockedError: A run is going on; nothing was changed.
        StorageError: The disk refused; run it again, and it goes on.
    """
    started = time.monotonic()
    name, space_id = _meant(layout, address)
    purpose = f"dropping {name}@{space_id}"
    with (
        locks.hold(layout.storage, layout.lock(name), purpose=purpose),
        locks.hold(layout.storage, layout.index_lock(name, space_id), purpose=purpose),
    ):
        _refuse(layout, name, space_id)
        table = FeatureTable.open(layout, name, space_id) if FeatureTable.exists(layout, name, space_id) else None
        current = published.find(layout, name)
        earlier = () if current is None else current.previous
        lost = [state for state in earlier if state.space_id == space_id]
        heads = [
            f"{card.head}:{card.version}"
            for card in opening.cards(layout, all_versions=True, broken=lambda _: None)
            if (card.table, card.space_id) == (name, space_id)
        ]
        runs = _runs(layout, name, space_id)
        gone = _files(layout, name, space_id, runs)
        sizes = {path: layout.storage.stat(path).size for path in gone}
        kinds = Counter(_kind(path) for path in gone)
        rows = 0 if table is None else len(table)
        versions = 0 if table is None else len(table.history())
        rejected = _reject(layout, name, space_id, dry_run=True)
        if not dry_run:
            if current is not None and lost:
                left = tuple(state for state in current.previous if state.space_id != space_id)
                published.amend(layout, replace(current, previous=left), expected=current)
            _remove(layout, name, space_id, runs)
    return DropReport(
        dry_run=dry_run,
        name=name,
        space_id=space_id,
        rows=rows,
        versions=versions,
        removed=dict(sorted(kinds.items())),
        files=len(gone),
        bytes=sum(sizes.values()),
        reject_rows=rejected,
        lost_states=tuple(state.table_version for state in lost),
        heads=tuple(heads),
        runs=tuple(runs),
        breaks=tuple(_breaks(layout, name, space_id, [state.table_version for state in lost], heads)),
        seconds=round(time.monotonic() - started, 3),
    )


def _meant(layout: Layout, address: str) -> tuple[str, str]:
    """The table, also one that is half gone."""
    parsed = addresses.parse(address)
    if parsed.model is None or parsed.version is not None:
        raise UsageError(
            f"--drop-space {address}: a table goes in one space, with all its versions.",
            hint="Say which: NAME@MODEL; `featstore ls` lists them.",
        )
    folders = layout.storage.folders(f"features/{parsed.name}")
    try:
        return addresses.resolve(layout, parsed)
    except NotFoundError:
        # Killed before its end, with the table itself gone: what is left is found by the whole name of the space.
        if parsed.model not in folders and any(
            layout.storage.exists(f"{shelf}/{parsed.name}/{parsed.model}")
            for shelf in ("indexes", "history", "members")
        ):
            return parsed.name, parsed.model
        raise


def _refuse(layout: Layout, name: str, space_id: str) -> None:
    current = published.find(layout, name)
    if current is not None and current.state.space_id == space_id:
        raise GateError(
            f"'{name}' means its table in the space {space_id}: version {current.state.table_version} is published.",
            hint=f"Publish another space first: featstore migrate {name} --to MODEL, or featstore rollback {name}",
        )
    move = migrations.opened(layout, name)
    if move is not None and space_id in (move.from_space, move.to_space):
        which = "to" if space_id == move.to_space else "from"
        raise GateError(
            f"the move of '{name}' {which} the space {space_id} is open.",
            hint=f"End it first: featstore migrate {name} --abandon",
        )


def _runs(layout: Layout, name: str, space_id: str) -> list[str]:
    """The runs of the table that have left more than a record of how they went."""
    of_table = leftovers.by_table(layout).get((name, space_id), [])
    record = ("manifest.json", "refresh.json")
    return [
        run_id
        for run_id in of_table
        if any(path.rpartition("/")[2] not in record for path in layout.storage.files(f"runs/{run_id}"))
    ]


def _files(layout: Layout, name: str, space_id: str, runs: list[str]) -> list[str]:
    """Everything that goes."""
    found = [
        path
        for shelf in ("indexes", "history", "members", "features")
        for path in layout.storage.files(f"{shelf}/{name}/{space_id}")
    ]
    alone = (layout.history_record(name, space_id), layout.open_run(name, space_id))
    found += [path for path in alone if layout.storage.exists(path)]
    for run_id in runs:
        record = (layout.manifest(run_id), layout.refresh(run_id))
        found += [path for path in layout.storage.files(f"runs/{run_id}") if path not in record]
    return found


def _remove(layout: Layout, name: str, space_id: str, runs: list[str]) -> None:
    storage = layout.storage
    for version in indexes.versions(layout, name, space_id):
        indexes.remove(layout, name, space_id, version)
    storage.delete_folder(layout.indexes(name, space_id))
    storage.delete(layout.open_run(name, space_id))
    for run_id in runs:
        files.end_run(layout, run_id)
    _reject(layout, name, space_id, dry_run=False)
    storage.delete_folder(f"members/{name}/{space_id}")
    storage.delete(layout.history_record(name, space_id))
    # The logs first, each in one step: without it there is no table, rather than one that lacks files.
    for folder in (layout.history(name, space_id), layout.table(name, space_id)):
        if storage.exists(f"{folder}/_delta_log"):
            storage.delete_folder(f"{folder}/{_DROPPED}")
            storage.move(f"{folder}/_delta_log", f"{folder}/{_DROPPED}")
        storage.delete_folder(folder)


def _reject(layout: Layout, name: str, space_id: str, *, dry_run: bool) -> int:
    def others(rows: pa.Table) -> pa.Table:
        return rows.filter(pc.not_equal(rows["space_id"], pa.scalar(space_id)))

    stamp = f"{datetime.now(UTC):%Y%m%dT%H%M%S}-drop-{secrets.token_hex(3)}"
    return RejectsTable.rewrite(layout, name, others, run_id=stamp, dry_run=dry_run)


def _kind(path: str) -> str:
    file = places.of(path)
    return "unknown" if file is None else file.place.kind


def _breaks(layout: Layout, name: str, space_id: str, lost: list[int], heads: list[str]) -> list[str]:
    said = []
    if lost:
        versions = ", ".join(map(str, lost))
        said.append(f"'{name}' cannot go back to its versions {versions} in the space {space_id}")
    if heads:
        said.append(
            f"the heads {', '.join(heads)} stay and predict on new items; they cannot be compared or trained again on "
            "this table"
        )
    others = [space for space in layout.storage.folders(f"features/{name}") if space != space_id]
    if not others:
        said.append(f"'{name}' has no other table: its source, previews and splits stay for the next extract")
    return said
