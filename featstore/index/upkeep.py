"""Looking after the indexes of a table: what there is, what is damaged, what nobody needs any more."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from featstore.errors import FeatstoreError, IntegrityError, LockedError
from featstore.index import files
from featstore.records import Finding, IndexSummary
from featstore.storage import locks

if TYPE_CHECKING:
    from featstore.layout import Layout

__all__ = ["clean", "made_from", "pinned", "summary", "verify"]

_AGAIN = "search compares with every vector until featstore index has made it again"


def summary(layout: Layout, name: str, space_id: str) -> IndexSummary | None:
    """What is worth saying of a table's newest index in one line; None where there is none."""
    for version in files.versions(layout, name, space_id):
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


def made_from(layout: Layout, name: str, space_id: str) -> list[int]:
    """The versions of a table that have an index of their own, the newest first."""
    there = files.versions(layout, name, space_id)
    return [v for v in there if layout.storage.exists(layout.index(name, space_id, v, files.CARD))]


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
    """The versions of a table whose data files must stay because its index was made from them: that of the newest."""
    for version in files.versions(layout, name, space_id):
        if layout.storage.exists(layout.index(name, space_id, version, files.CARD)):
            return [version]
    return []


def clean(layout: Layout, name: str, space_id: str, *, older_than_seconds: float, dry_run: bool) -> list[int]:
    """Removes indexes that a newer one has superseded, and what killed runs have left.

    Args:
        layout: The store.
        name: The table.
        space_id: Its space.
        older_than_seconds: The least age of what is removed: somebody may be opening it, or writing.
        dry_run: Only say what would be removed.

    Returns:
        The bytes of each file that went. Nothing where an index is just being made.
    """
    keep = pinned(layout, name, space_id)
    before = time.time() - older_than_seconds
    sizes: list[int] = []
    try:
        with locks.hold(layout.storage, layout.index_lock(name, space_id), purpose=f"gc of indexes of '{name}'"):
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
