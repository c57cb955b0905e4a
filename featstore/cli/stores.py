"""Opening the store that a command works on."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from featstore.errors import NotFoundError

if TYPE_CHECKING:
    from featstore.store import Store

__all__ = ["existing"]


def existing(path: Path | None) -> Store:
    """Opens a store that must be there: an empty listing would hide a mistyped path.

    Raises:
        NotFoundError: There is no store.
    """
    import featstore

    store = featstore.open(path)
    if not store.layout.storage.exists(store.layout.store):
        raise NotFoundError(
            f"there is no store at {store.path}.",
            hint="Name one with --store, or make one with: featstore extract SOURCE --model MODEL",
        )
    return store
