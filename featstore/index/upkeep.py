"""Looking after the indexes of a table: what there is, what is damaged, what nobody needs any more."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from featstore import published
from featstore.errors import FeatstoreError, IntegrityError, LockedError
from featstore.index import files
from featstore.records import Finding, IndexSummary
from featstore.storage import locks

if TYPE_CHECKING:
    from featstore.layout import Layout
    from featstore.tables import FeatureTable

__all__ = ["clean", "own", "pinned", "summary", "verify"]

_AGAIN = "search compares with every vector until featstore index has made it again"


def summary(layout: Layout, name: str, space_id: str, serving: int | None = None) -> IndexSummary | None:
    """What is worth saying of the index that serves a version, in one line; None where there is none.

    It is the version's own, else the last before it, else the table's newest.
    """
    there = files.versions(layout, name, space_id)
    own = max(there, default=0) if serving is None else serving
    for version in sorted(there, key=lambda version: (version == own, version < own, version), reverse=True):
        try:
            card = files.find_card(layout, name, space_id, version)
        except IntegrityError:
            return IndexSummary(version=version, kind="damaged", factory="", recall=None, k=None, bytes=0)
        if card is not None:
            return IndexSummary(
                version=version,
                kind=card.kind,
                factory=card.factory,
                recall=card.measured.recall if card.measured else None,
                k=card.measured.k if card.measured else None,
                bytes=card.index.bytes + card.ids.bytes,
            )
    return None


def own(layout: Layout, table: FeatureTable) -> int | None:
    """The table's version, where it has an index that was made from just this one; else None."""
    if table.version is None:
        return None
    try:
        card = files.find_card(layout, table.name, table.space_id, table.version)
    except IntegrityError:
        return None  # it can be made again
    # What a refused run has left under this number was made from other files.
    return table.version if card is not None and card.files == table.file_rows else None


def verify(layout: Layout, name: str, space_id: str) -> list[Finding]:
    """Reads every byte of a table's indexes and compares it with their cards."""
    findings = []
    for version in files.versions(layout, name, space_id):
        folder = layout.index(name, space_id, version)
        try:
            card = files.find_card(layout, name, space_id, version)
            if card is None:
                unfinished = "an index was being made here; featstore gc removes what is left of it"
                findings.append(Finding(severity="warning", code="unfinished_index", path=folder, message=unfinished))
                continue
            if (card.name, card.space_id, card.version) != (name, space_id, version):
                raise files.damage(card, f"{files.CARD} is that of {card.name}@{card.space_id}:{card.version}")
            files.check(layout, card, always=True)
            files.read_ids(layout, card, ["item_id", "content_sha256"])
        except FeatstoreError as error:
            message = f"{error.message} {_AGAIN[0].upper()}{_AGAIN[1:]}."
            findings.append(Finding(severity="error", code="damaged_index", path=folder, message=message))
    return findings


def pinned(layout: Layout, name: str, space_id: str) -> list[int]:
    """The versions of a table whose indexes stay: that of the newest, and of what is or was published.

    Their data files must stay as well.
    """
    states = [state for table, state in published.pins(layout) if (table, state.space_id) == (name, space_id)]
    wanted = {version for state in states for version in (state.table_version, state.index_version)}
    there = files.versions(layout, name, space_id)
    whole = [v for v in there if layout.storage.exists(layout.index(name, space_id, v, files.CARD))]
    return [version for version in whole if version == whole[0] or version in wanted]


def clean(layout: Layout, name: str, space_id: str, *, older_than_seconds: float, dry_run: bool) -> list[int]:
    """Removes indexes that a newer one has superseded and no published state needs, and what killed runs have left.

    Args:
        layout: The store.
        name: The table.
        space_id: Its space.
        older_than_seconds: The least age of what is removed: somebody may be opening it, or writing.
        dry_run: Only say what would be removed.

    Returns:
        The bytes of each file that went. Nothing where an index is just being made.
    """
    before = time.time() - older_than_seconds
    sizes: list[int] = []
    try:
        with locks.hold(layout.storage, layout.index_lock(name, space_id), purpose=f"gc of indexes of '{name}'"):
            keep = pinned(layout, name, space_id)  # under the lock: one that was made meanwhile is the newest now
            for version in files.versions(layout, name, space_id):
                folder = layout.index(name, space_id, version)
                there = {path: layout.storage.stat(path) for path in layout.storage.files(folder)}
                if version in keep:
                    own = {f"{folder}/{file}" for file in (files.INDEX, files.IDS, files.CARD)}
                    there = {path: stat for path, stat in there.items() if path not in own}
                if any(stat.mtime_ns / 1e9 > before for stat in there.values()):
                    continue
                sizes += [stat.size for stat in there.values()]
                if dry_run:
                    continue
                if version not in keep:
                    files.remove(layout, name, space_id, version)
                for path in there:
                    layout.storage.delete(path)
    except LockedError:
        return []
    return sizes
