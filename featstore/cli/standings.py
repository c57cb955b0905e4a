"""How jobs stand: what ``ls jobs`` prints."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from featstore.cli import console, stores
from featstore.errors import UsageError

if TYPE_CHECKING:
    from featstore.records import JobStanding
    from featstore.store import Store

__all__ = ["by_store", "listing", "standings"]

_STALE = 1


def standings(paths: Sequence[Path], store: Path | None, stale: str | None) -> list[JobStanding]:
    """How the jobs of a store stand, or those of some files, each in the store that it names."""
    if not paths:
        return stores.existing(store).jobs(stale=stale)
    from featstore.refresh.standing import files_of

    groups = by_store(files_of(paths), store)
    found = [one for opened, files in groups for one in opened.jobs(files, stale=stale)]
    return sorted(found, key=lambda one: one.job)


def listing(found: Sequence[JobStanding], *, json: bool) -> None:
    """Prints jobs; ends the process with 1 where one is stale."""
    if json:
        console.emit(found)
    else:
        console.grid(
            ("job", "status", "last run", "last success", "age", "published", "failures", "next"),
            (
                (one.job, one.status, _minute(one.last_started_ts), _minute(one.last_success_ts), _age(one.age_seconds),
                 _version(one), one.failures or "", one.next or "")
                for one in found
            ),
            right=("age", "failures"),
        )  # fmt: skip
        for one in found:
            if one.note:
                console.line(console.plain(f"{one.job}: {one.note}"))
    stale = [one for one in found if one.stale]
    for one in stale:
        age = "it never succeeded" if one.age_seconds is None else f"last success {_age(one.age_seconds)} ago"
        console.complain(console.plain(f"stale: {one.job}, {age}"))
    if stale:
        raise typer.Exit(_STALE)
    unreadable = [one for one in found if one.status == "unreadable"]
    if unreadable:
        raise UsageError(f"{console.count(len(unreadable), 'job')} cannot be read.", hint=f"See: {unreadable[0].next}")


def _version(one: JobStanding) -> str:
    return "" if one.published_version is None else f"{one.table}:{one.published_version}"


def _minute(timestamp: str | None) -> str:
    return "" if timestamp is None else timestamp[:16].replace("T", " ")


def _age(seconds: float | None) -> str:
    """``45 s``, ``12 min``, ``26 h``, ``3 d``."""
    if seconds is None:
        return ""
    for least, unit, length in ((172_800, "d", 86_400), (5_400, "h", 3_600), (90, "min", 60)):
        if seconds >= least:
            return f"{seconds / length:,.0f} {unit}"
    return f"{seconds:,.0f} s"


def by_store(files: Sequence[Path], store: Path | None) -> list[tuple[Store, list[Path]]]:
    """The files by the store that each is for: the flag's, else the environment's, else the one that it names."""
    from featstore.errors import FeatstoreError
    from featstore.jobs.loading import load

    found: dict[str | None, list[Path]] = {}
    for file in files:
        named: str | None = None
        if store is None and "FEATSTORE_STORE" not in os.environ:
            try:
                named = load(file).store
            except FeatstoreError:
                named = None  # said where the file is looked at
        found.setdefault(named, []).append(file)
    return [(stores.at(store if named is None else named), group) for named, group in found.items()]
