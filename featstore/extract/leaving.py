"""What a run takes out of a table that keeps its history: put beside the table before the commit takes it out."""

from __future__ import annotations

from featstore.extract.finish import Pending
from featstore.layout import Layout
from featstore.records import Manifest
from featstore.settings import ExtractSettings
from featstore.sources import Scan
from featstore.tables import FeatureTable, companion

__all__ = ["keep", "prepare"]


def prepare(layout: Layout, table: FeatureTable, scan: Scan, settings: ExtractSettings) -> None:
    """Begins a table's history where that is asked for; once begun, every later run keeps it up.

    Raises:
        SettingsError: A column of the source or the table has the name of one of the history's.
    """
    if companion.find(layout, table.name, table.space_id) is None and not settings.history:
        return
    companion.check_names(scan.items.column_names)
    companion.begin(layout, table)


def keep(
    layout: Layout, table: FeatureTable, pending: Pending, manifest: Manifest, candidate: FeatureTable | None = None
) -> None:
    """Keeps the rows that a commit is about to take out; nothing is done for a table without a history.

    Args:
        layout: The store.
        table: The table as it is.
        pending: What is about to be committed.
        manifest: The run's.
        candidate: The table as it would be, where somebody has made it already.

    Raises:
        ConflictError: Another process commits to the history.
        IntegrityError: A file is missing or damaged.
        StorageError: The disk refused.
    """
    if not pending.remove or companion.find(layout, table.name, table.space_id) is None:
        return
    made = table.with_staged(pending.add, pending.remove) if candidate is None else candidate
    companion.keep(layout, table, made, run_id=manifest.run_id, started_ts=manifest.started_ts, remove=pending.remove)
