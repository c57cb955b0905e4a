"""How a table's move to another model stands: the one document that refresh, search and gc look at."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from featstore.layout import Layout
from featstore.records import Migration
from featstore.storage import documents

__all__ = ["every", "find", "note", "opened"]


def find(layout: Layout, name: str) -> Migration | None:
    """A table's last move; None where there never was one.

    Raises:
        IntegrityError: The document is damaged.
    """
    return documents.find(layout.storage, layout.migration(name), Migration)


def opened(layout: Layout, name: str) -> Migration | None:
    """A table's move that is under way; None where there is none.

    Raises:
        IntegrityError: The document is damaged.
    """
    found = find(layout, name)
    return found if found is not None and found.status == "open" else None


def every(layout: Layout) -> Iterator[Migration]:
    """The last move of each table that ever had one, by name.

    Raises:
        IntegrityError: A document is damaged.
    """
    for path in layout.storage.files("migrations"):
        if path.endswith(".json") and path.count("/") == 1:
            yield documents.read(layout.storage, path, Migration)


def note(layout: Layout, migration: Migration, **changes: Any) -> Migration:
    """Writes a move down as it stands now, with some of its fields changed. To be called under the table's lock.

    Raises:
        StorageError: The disk refused.
    """
    made = replace(migration, **changes, changed_ts=datetime.now(UTC).isoformat(timespec="seconds"))
    documents.write(layout.storage, layout.migration(made.name), made)
    return made
