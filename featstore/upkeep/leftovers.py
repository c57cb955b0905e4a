"""What runs have left under ``runs/`` that nothing goes on from any more; how each went stays on record."""

from __future__ import annotations

import time
from collections import defaultdict
from typing import TYPE_CHECKING

from featstore.records import HeadCard, Manifest, RefreshResult
from featstore.storage import documents

if TYPE_CHECKING:
    from featstore.layout import Layout

__all__ = ["Owner", "by_table", "of_table", "of_unknown", "remove"]

Owner = tuple[str, str]
"""A table's name and its space."""

# A training that runs, and has written no card yet, is not told from a killed one but by its age.
_A_DAY = 24 * 3600.0


def by_table(layout: Layout) -> dict[Owner | None, list[str]]:
    """The store's runs by their table, oldest first; None where nothing says which.

    Raises:
        IntegrityError: A document of a run is damaged.
    """
    found: dict[Owner | None, list[str]] = defaultdict(list)
    for run_id in layout.storage.folders("runs"):
        if run_id != "open":
            found[_owner(layout, run_id)].append(run_id)
    return found


def of_table(layout: Layout, owner: Owner, runs: list[str], *, older_than_seconds: float) -> list[str]:
    """The files that runs of a table no longer need; to be called under the table's lock.

    A run that a gate refused keeps what it would publish until a later one is committed, and so does one that was
    cut short until it is taken up.

    Args:
        layout: The store.
        owner: The table.
        runs: Its runs, oldest first.
        older_than_seconds: The least age of the record of a refresh that found nothing new.
    """
    opened = layout.storage.exists(layout.open_run(*owner))
    gone: list[str] = []
    settled = False  # whether a later run was committed or published
    for run_id in reversed(runs):
        manifest = documents.find(layout.storage, layout.manifest(run_id), Manifest)
        refreshed = documents.find(layout.storage, layout.refresh(run_id), RefreshResult)
        if manifest is not None:
            needed = opened and manifest.status not in ("committed", "superseded")
        else:
            needed = not settled and refreshed is not None and refreshed.status in ("refused", "held")
        if not needed:
            records = (layout.manifest(run_id), layout.refresh(run_id))
            gone += [path for path in layout.storage.files(f"runs/{run_id}") if path not in records]
        if manifest is None and refreshed is not None and refreshed.status == "nothing new":
            gone += _older(layout, [layout.refresh(run_id)], older_than_seconds)
        settled = settled or (manifest is not None and manifest.status == "committed")
        settled = settled or (refreshed is not None and refreshed.status == "published")
    return gone


def of_unknown(layout: Layout, runs: list[str], *, older_than_seconds: float) -> list[str]:
    """The files of runs that were killed before they wrote down what they are."""
    files = [layout.storage.files(f"runs/{run_id}") for run_id in runs]
    least = max(older_than_seconds, _A_DAY)
    return [path for paths in files if len(_older(layout, paths, least)) == len(paths) for path in paths]


def remove(layout: Layout, paths: list[str]) -> None:
    """Removes files of runs, and the folders that are empty then."""
    for path in paths:
        layout.storage.delete(path)
    for run_id in {path.split("/")[1] for path in paths}:
        for folder in (f"runs/{run_id}/heads", f"runs/{run_id}/shards", f"runs/{run_id}"):
            if layout.storage.exists(folder) and not layout.storage.files(folder):
                layout.storage.delete_folder(folder)


def _owner(layout: Layout, run_id: str) -> Owner | None:
    manifest = documents.find(layout.storage, layout.manifest(run_id), Manifest)
    if manifest is not None:
        return manifest.name, manifest.space_id
    refreshed = documents.find(layout.storage, layout.refresh(run_id), RefreshResult)
    if refreshed is not None and refreshed.space_id is not None:
        return refreshed.table, refreshed.space_id
    for path in layout.storage.files(f"runs/{run_id}/heads"):
        if path.endswith("/card.json"):
            card = documents.read(layout.storage, path, HeadCard)
            return card.table, card.space_id
    return None


def _older(layout: Layout, paths: list[str], seconds: float) -> list[str]:
    before = time.time() - seconds
    return [path for path in paths if layout.storage.stat(path).mtime_ns / 1e9 <= before]
