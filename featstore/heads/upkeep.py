"""Looking after heads and splits: what is damaged, which table versions they need, what nobody needs any more."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from featstore import published
from featstore.errors import FeatstoreError, IntegrityError, LockedError
from featstore.heads import opening
from featstore.records import Artefact, Finding, HeadCard, SplitRecord
from featstore.storage import documents, frames, hashing, locks

if TYPE_CHECKING:
    from featstore.layout import Layout

__all__ = ["clean", "pinned", "verify"]


def verify(layout: Layout) -> list[Finding]:
    """Reads every head, its predictions and every split, and compares them with their cards."""
    findings = []
    for name in layout.storage.folders(layout.heads()):
        there = opening.versions(layout, name)
        for version in _folders(layout, name):
            folder = layout.head(name, version)
            if version not in there:
                message = "a head was being made here; featstore gc removes what is left of it"
                findings.append(Finding(severity="warning", code="unfinished_head", path=folder, message=message))
                continue
            try:
                _check(layout, name, version)
            except FeatstoreError as error:
                findings.append(Finding(severity="error", code="damaged_head", path=folder, message=error.message))
    for path in layout.storage.files("splits"):
        try:
            if path.endswith(".json"):
                documents.read(layout.storage, path, SplitRecord)
            elif path.endswith(".parquet"):
                frames.read(layout.storage, path)
        except FeatstoreError as error:
            findings.append(Finding(severity="error", code="damaged_split", path=path, message=error.message))
    return findings


def pinned(layout: Layout, name: str, space_id: str) -> list[int]:
    """The versions of a table whose data files must stay because a head was trained on them.

    Raises:
        IntegrityError: A card is damaged, so that nobody knows what it needs.
    """
    found = set()
    for head in layout.storage.folders(layout.heads()):
        for version in opening.versions(layout, head):
            card = _card(layout, head, version)
            if (card.table, card.space_id) == (name, space_id):
                found.add(card.table_version)
    return sorted(found)


def clean(
    layout: Layout, *, keep_versions: int, older_than_seconds: float, dry_run: bool
) -> tuple[dict[str, list[int]], list[int]]:
    """Removes the old versions of each head, and what killed trainings have left.

    What is published, or can be gone back to, stays.

    Args:
        layout: The store.
        keep_versions: How many of a head's newest versions stay; at least 1.
        older_than_seconds: The least age of what is removed: somebody may be opening it, or writing.
        dry_run: Only say what would be removed.

    Returns:
        The versions of each head that stay, and the bytes of each file that went. A head that is just being trained
        is left alone.

    Raises:
        IntegrityError: The card of a version that would stay is damaged; nothing was removed.
    """
    before = time.time() - older_than_seconds
    for name in layout.storage.folders(layout.heads()):
        there = opening.versions(layout, name)
        for version in (v for v in _staying(layout, name, there, keep_versions) if v in there):
            _card(layout, name, version)  # before older ones go: what stays in their place must be whole
    kept: dict[str, list[int]] = {}
    sizes: list[int] = []
    for name in layout.storage.folders(layout.heads()):
        there = stay = opening.versions(layout, name)
        try:
            with locks.hold(layout.storage, layout.head_lock(name), purpose=f"gc of head '{name}'"):
                there = opening.versions(layout, name)
                stay = _staying(layout, name, there, keep_versions)
                for version in _folders(layout, name):
                    folder = layout.head(name, version)
                    files = {path: layout.storage.stat(path) for path in layout.storage.files(folder)}
                    if version in stay:
                        continue
                    if any(stat.mtime_ns / 1e9 > before for stat in files.values()):
                        stay = [*stay, version] if version in there else stay
                        continue
                    sizes += [stat.size for stat in files.values()]
                    if not dry_run:
                        # The card first: without it the version is not there.
                        layout.storage.delete(layout.head(name, version, opening.CARD))
                        layout.storage.delete_folder(folder)
        except LockedError:
            stay = there
        if stay:
            kept[name] = sorted(stay)
    return kept, sizes


def _staying(layout: Layout, name: str, there: list[int], keep_versions: int) -> list[int]:
    """The versions of a head that stay: the newest, and those that a table is or was published with."""
    needed = {state.heads[name] for _, state in published.pins(layout) if name in state.heads}
    return [v for at, v in enumerate(there) if at < max(1, keep_versions) or v in needed]


def _folders(layout: Layout, name: str) -> list[int]:
    """The numbers of a head's folders, whole or not."""
    return sorted(int(folder) for folder in layout.storage.folders(layout.heads(name)) if folder.isdecimal())


def _card(layout: Layout, name: str, version: int) -> HeadCard:
    try:
        return documents.read(layout.storage, layout.head(name, version, opening.CARD), HeadCard)
    except IntegrityError as error:
        folder = layout.storage.local(layout.head(name, version))
        raise IntegrityError(
            f"{error.message} Which version of which table the head needs cannot be told.",
            hint=f"Restore the file, or give the head up by removing {folder}; then run gc again.",
        ) from error


def _check(layout: Layout, name: str, version: int) -> None:
    card, _ = opening.open_head(layout, f"{name}:{version}")
    _same(layout, layout.head(name, version, card.predictions.file), card.predictions)


def _same(layout: Layout, path: str, artefact: Artefact) -> None:
    where = layout.storage.local(path)
    if hashing.of_file(where) != artefact.sha256:
        raise IntegrityError(f"{where} is damaged: its SHA-256 is not the one on the head's card.")
