"""What is published: what a table's bare name means, and what came of moving it."""

from __future__ import annotations

from dataclasses import dataclass

from featstore.records.store import FORMAT_VERSION

__all__ = ["PublishResult", "Published", "PublishedState"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedState:
    """What a table's bare name meant from ``published_ts`` on.

    ``index_version`` is the table version that its index was made from, None without an index. ``heads`` are their
    versions by name. ``run_id`` is the run that made the table version. ``as_of`` is the time that the job was
    told to take for now, None where it was told none. ``others`` are those of the heads that ``job`` does not keep:
    other jobs of the table do.
    """

    space_id: str
    table_version: int
    index_version: int | None
    heads: dict[str, int]
    run_id: str | None
    published_ts: str
    job: str | None = None
    job_digest: str | None = None
    reason: str | None = None
    as_of: str | None = None
    others: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """``published/NAME.json``: what the bare name of a table means; one swap moves all of it.

    ``previous`` are the states before, the newest first, which ``rollback`` goes back to. ``rolled_back`` are the
    runs that were taken back: they are not published again unless it is asked for. While ``held``, nothing is
    published but on request.
    """

    format_version: int = FORMAT_VERSION
    name: str
    generation: int
    state: PublishedState
    previous: tuple[PublishedState, ...] = ()
    rolled_back: tuple[str, ...] = ()
    held: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishResult:
    """What ``publish`` and ``rollback`` moved: what a table's name means now, and meant before."""

    name: str
    now: PublishedState
    before: PublishedState | None
    held: bool
    next: tuple[str, ...] = ()
