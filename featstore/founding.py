"""Finding a store, making a new one, refusing what is none."""

from __future__ import annotations

import os
import secrets
from datetime import UTC, datetime
from pathlib import Path

from featstore.errors import ConflictError, UsageError
from featstore.layout import Layout
from featstore.records import StoreRecord
from featstore.storage import documents

__all__ = ["check", "found", "locate"]


def locate(folder: str) -> str:
    """The store to use when none is named: the environment's, or the nearest one upwards.

    Returns:
        ``FEATSTORE_STORE`` if set, else the first ``folder`` with a ``store.json`` from the working
        folder upwards, else ``folder`` in the working folder.
    """
    if named := os.environ.get("FEATSTORE_STORE"):
        return named
    here = Path.cwd()
    for parent in (here, *here.parents):
        if (parent / folder / "store.json").is_file():
            return str(parent / folder)
    return str(here / folder)


def check(layout: Layout) -> None:
    """Refuses a folder that holds something else than a store.

    Raises:
        UsageError: It is a file, or a folder with other things in it.
        IntegrityError: Its ``store.json`` is damaged or of a newer featstore.
    """
    root = layout.storage.root
    if documents.find(layout.storage, layout.store, StoreRecord) is not None or not root.exists():
        return
    if not root.is_dir():
        raise UsageError(f"{root} is a file, not a store.", hint="Name a folder with --store.")
    if any(entry.name not in ("locks",) and not entry.name.startswith(".") for entry in root.iterdir()):
        raise UsageError(
            f"{root} is not a store and not empty.",
            hint="Name a store, or a new or empty folder, with --store.",
        )


def found(layout: Layout) -> None:
    """Makes the store if it is not there yet."""
    from featstore import __version__

    if layout.storage.exists(layout.store):
        return
    record = StoreRecord(
        store_id=secrets.token_hex(8),
        created_ts=datetime.now(UTC).isoformat(timespec="seconds"),
        featstore=__version__,
    )
    try:
        documents.write(layout.storage, layout.store, record, create=True)
    except ConflictError:  # another process made it in this very moment
        documents.read(layout.storage, layout.store, StoreRecord)
