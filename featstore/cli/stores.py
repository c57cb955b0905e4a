"""Opening the store that a command works on."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from featstore.errors import NotFoundError

if TYPE_CHECKING:
    from featstore.store import Store

__all__ = ["at", "existing", "of_job"]


def at(path: Path | str | None) -> Store:
    """Opens a store, which need not be there yet, for a command that reads or writes tables."""
    import featstore
    from featstore.storage import frames

    frames.spare_pandas()
    return featstore.open(path)


def existing(path: Path | None) -> Store:
    """Opens a store that must be there: an empty listing would hide a mistyped path.

    Raises:
        NotFoundError: There is no store.
    """
    store = at(path)
    if not store.layout.storage.exists(store.layout.store):
        raise NotFoundError(
            f"there is no store at {store.path}.",
            hint="Name one with --store, or make one with: featstore extract SOURCE --model MODEL",
        )
    return store


def of_job(path: Path | None, what: str) -> Store:
    """The store of the flag or the environment, else of the job where ``what`` is a job's file, else the nearest.

    Raises:
        NotFoundError: There is no store, where no job names one.
        SettingsError: The job's file is wrong.
    """
    if path is None and "FEATSTORE_STORE" not in os.environ and what.endswith(".toml"):
        from featstore.jobs.loading import load

        job = load(what)
        if job.store is not None:
            return at(job.store)
    return existing(path)
