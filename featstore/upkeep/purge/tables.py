"""Taking items out of a table's every version.

The newest version and the published one get successors without the items, each in one commit that rewrites only the
files that hold them; what was published, and the heads that were trained on those versions, then mean the successors.
Only after that the files that hold the items go, and with them every other version that needed them. Each purging
commit says which version it follows, so that a run that was cut short is taken up wherever it stood.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from featstore import published
from featstore.heads import opening
from featstore.records import HeadCard
from featstore.storage import documents, frames, hashing
from featstore.tables import FeatureTable, PartFile, companion
from featstore.tables.log import DeltaLog
from featstore.upkeep.purge.scan import own_rows

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from featstore.layout import Layout
    from featstore.records import PublishedState
    from featstore.upkeep.purge.ids import Wanted

__all__ = ["Past", "carry", "commit", "commit_history", "forget"]

PURGE = "purge"
_FOLLOWS, _RETURNS = "purge_of", "purge_then"


class Past:
    """Which data files each version of a table has, and which version follows which without the items."""

    def __init__(self, log: DeltaLog) -> None:
        live: frozenset[str] = frozenset()
        self.live: dict[int, frozenset[str]] = {}
        self._follows: list[tuple[int, int]] = []
        self.pending: int | None = None
        for one in log.commits() if log.exists() else ():
            live = (live - frozenset(one.removes)) | frozenset(one.adds)
            self.live[one.version] = live
            details = one.info.get("details")
            details = details if isinstance(details, dict) else {}
            data = bool(one.adds or one.removes)
            self.pending = None if data else self.pending
            if one.info.get("operation") == PURGE and _FOLLOWS in details:
                self._follows.append((int(details[_FOLLOWS]), one.version))
                self.pending = int(details[_RETURNS]) if _RETURNS in details else None

    def after(self, version: int) -> int:
        """The version that has taken one's place; itself where none has."""
        files = self.live.get(version)
        for base, made in self._follows:
            if files is not None and made > version and self.live.get(base) == files:
                version, files = made, self.live[made]
        return version

    def holding(self, files: Collection[str]) -> list[int]:
        """The versions that need any of some files."""
        gone = set(files)
        return [version for version, live in self.live.items() if live & gone]


def commit(
    layout: Layout, name: str, space_id: str, wanted: Wanted, dirty: Collection[str], *, run_id: str, dry_run: bool
) -> tuple[int, int | None]:
    """Gives the newest version, and the published one where it is another, successors without the items.

    Args:
        layout: The store.
        name: The table.
        space_id: Its space.
        wanted: The ids.
        dirty: The data files that hold them, relative to the table's folder.
        run_id: What the commits are called.
        dry_run: Only count.

    Returns:
        How many rows the newest version loses, and the number of the newest version then.

    Raises:
        ConflictError: Another engine commits to the table.
        StorageError: The disk refused.
    """
    newest = FeatureTable.open(layout, name, space_id)
    past = Past(DeltaLog(layout.storage, layout.table(name, space_id)))
    target = newest if past.pending is None else FeatureTable.open(layout, name, space_id, past.pending)
    stale = bool(set(target.files) & set(dirty))
    current = published.find(layout, name)
    serving = None
    if current is not None and current.state.space_id == space_id:
        version = past.after(current.state.table_version)
        files = past.live.get(version, frozenset())
        if files & set(dirty) and files != set(target.files):
            serving = FeatureTable.open(layout, name, space_id, version)
    drop = _leaving(target, wanted, dirty)
    rows = sum(len(leaving) for leaving in drop.values())
    if dry_run:
        return rows, newest.version
    if serving is not None:
        details = {_FOLLOWS: str(serving.version), _RETURNS: str(target.version)}
        _commit(newest, serving, _leaving(serving, wanted, dirty), f"{run_id}-published", details)
        newest = FeatureTable.open(layout, name, space_id)
    if stale or set(newest.files) != set(target.files):
        _commit(newest, target, drop, run_id, {_FOLLOWS: str(target.version), "rows_removed": str(rows)})
    return rows, FeatureTable.open(layout, name, space_id).version


def commit_history(
    layout: Layout, name: str, space_id: str, wanted: Wanted, dirty: Collection[str], *, run_id: str, dry_run: bool
) -> int:
    """Takes the items' rows out of a table's companion.

    Returns:
        How many rows.
    """
    kept = companion.opened(layout, name, space_id)
    if kept is None:
        return 0
    drop = _leaving(kept, wanted, dirty)
    if drop and not dry_run:
        _commit(kept, kept, drop, run_id, {_FOLLOWS: str(kept.version)})
    return sum(len(leaving) for leaving in drop.values())


def carry(
    layout: Layout, name: str, space_id: str, dirty: Collection[str], indexes: Collection[int], *, dry_run: bool
) -> tuple[list[PublishedState], list[HeadCard]]:
    """Lets what was published, and the heads' cards, mean the versions without the items.

    Args:
        layout: The store.
        name: The table.
        space_id: Its space.
        dirty: The data files that are to go.
        indexes: The versions of the indexes that are to go.
        dry_run: Only say what would be lost.

    Returns:
        The states that can no longer be gone back to, and the cards of heads whose version cannot be read any more.

    Raises:
        ConflictError: Something else was published meanwhile.
    """
    past = Past(DeltaLog(layout.storage, layout.table(name, space_id)))
    lost = []
    current = published.find(layout, name)
    # The rows that get a successor: those of the newest version, and of the published one.
    followed = {past.live[max(past.live) if past.pending is None else past.pending]} if dry_run else set()
    if dry_run and current is not None and current.state.space_id == space_id:
        followed.add(past.live.get(past.after(current.state.table_version), frozenset()))

    def ends(version: int) -> bool:
        files = past.live.get(version, frozenset())
        return bool(files & set(dirty)) and files not in followed

    if current is not None:
        states = []
        for state in (current.state, *current.previous):
            moved = _moved(past, state, indexes) if state.space_id == space_id else state
            if state is not current.state and state.space_id == space_id and ends(moved.table_version):
                lost.append(state)
            else:
                states.append(moved)
        made = replace(current, state=states[0], previous=tuple(states[1:]))
        if made != current and not dry_run:
            published.amend(layout, made, expected=current)
    unread = []
    for card in opening.cards(layout, all_versions=True):
        if (card.table, card.space_id) != (name, space_id):
            continue
        version = past.after(card.table_version)
        if ends(version):
            unread.append(card)
        if version != card.table_version and not dry_run:
            path = layout.head(card.head, card.version, opening.CARD)
            documents.write(layout.storage, path, replace(card, table_version=version))
    return lost, unread


def forget(layout: Layout, folder: str, dirty: Collection[str]) -> None:
    """Removes data files of a table that no version needs that can be read."""
    for path in sorted(dirty):
        layout.storage.delete(f"{folder}/{path}")
        parent = f"{folder}/{path}".rpartition("/")[0]
        if "/_runs/" in parent and not layout.storage.files(parent):
            layout.storage.delete_folder(parent)


def _moved(past: Past, state: PublishedState, indexes: Collection[int]) -> PublishedState:
    index = None if state.index_version in indexes else state.index_version
    return replace(state, table_version=past.after(state.table_version), index_version=index)


def _leaving(table: FeatureTable, wanted: Wanted, dirty: Collection[str]) -> dict[str, NDArray[np.int64]]:
    """By live file, the rows that are to leave it."""
    columns = [name for name in ("item_id", "parent") if name in table.column_names]
    rows = table.rows(columns)
    rows = rows.filter(pa.array(own_rows(wanted, rows)))
    found: dict[str, list[int]] = {}
    for file, row in zip(frames.strings(rows, "_file"), np.asarray(rows["_row"]).tolist(), strict=True):
        found.setdefault(file, []).append(row)
    return {file: np.array(leaving, np.int64) for file, leaving in found.items()}


def _commit(
    newest: FeatureTable, base: FeatureTable, drop: dict[str, NDArray[np.int64]], run_id: str, details: dict[str, Any]
) -> None:
    """Lets the table hold what an earlier version held, but for some rows; in one commit on top of the newest."""
    made = base.rewrite_parts(run_id, 0, drop)
    there = set(newest.files)
    staying = {file: rows for file, rows in base.file_rows.items() if file not in drop}
    back = [
        PartFile(
            path=file,
            rows=rows,
            bytes=(newest.path / file).stat().st_size,
            sha256=hashing.of_file(newest.path / file),
        )
        for file, rows in staying.items()
        if file not in there
    ]
    remove = [file for file in newest.files if file not in staying]
    add, said = [*made, *back], {"rows_added": "0", **details}
    if newest.retyped(base):  # no file is of both: to convert a column is to write all files anew
        newest.become(base, run_id=run_id, add=add, details=said, operation=PURGE)
    else:
        newest.commit(run_id=run_id, add=add, remove=remove, details=said, operation=PURGE)
