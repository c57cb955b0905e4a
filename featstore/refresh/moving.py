"""The step itself: a table's name is made to mean another state, once that is known to be whole."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from featstore import index, migrations, published
from featstore.errors import IntegrityError, SpaceMismatchError
from featstore.heads import opening
from featstore.records import PublishedState, PublishResult
from featstore.refresh.made import last_of, made_by, same_rows
from featstore.storage import locks
from featstore.tables import FeatureTable, past

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from featstore.layout import Layout
    from featstore.records import Published, RefreshResult

__all__ = ["check", "heads_of", "move", "now", "others"]


def move(
    layout: Layout,
    table: FeatureTable,
    heads: dict[str, int],
    run_id: str | None,
    reason: str | None,
    refreshed: RefreshResult | None = None,
    besides: dict[str, int] | None = None,
) -> PublishResult:
    """Publishes a version of a table with heads; lifts a hold. To be called under the table's lock.

    Args:
        layout: The store.
        table: The version.
        heads: The heads' versions, by name.
        run_id: The run that the version comes from.
        reason: Why; kept.
        refreshed: The refresh that made it, if one did.
        besides: The heads that other jobs keep.

    Raises:
        NotFoundError: ``gc`` has removed something of it.
        IntegrityError: Something of it is damaged.
        SpaceMismatchError: A head is of another space than the table.
        LockedError: A head is being trained.
    """
    before = published.find(layout, table.name)
    besides = besides or {}
    heads = besides | heads
    state = PublishedState(
        space_id=table.space_id,
        table_version=table.version or 0,
        index_version=index.own(layout, table),
        heads=heads,
        run_id=run_id,
        published_ts=now(),
        job=None if refreshed is None else refreshed.job,
        job_digest=None if refreshed is None else refreshed.job_digest,
        reason=reason,
        as_of=None if refreshed is None else refreshed.as_of,
        others=tuple(besides),
    )
    with ExitStack() as held:
        for head in sorted(heads):  # so that gc takes none of them away between this look and the swap
            held.enter_context(locks.hold(layout.storage, layout.head_lock(head), purpose=f"publishing head '{head}'"))
        check(layout, table.name, state)
        made = _swapped(layout, table, state, before)
        _arrived(layout, table.name, table.space_id)
    return PublishResult(
        name=table.name,
        now=made.state,
        before=None if before is None else before.state,
        held=made.held,
        next=() if before is None else (f"featstore rollback {table.name}",),
    )


def _arrived(layout: Layout, name: str, space_id: str) -> None:
    """Notes that a table's move has come to its end by hand, so that its jobs follow it."""
    found = migrations.find(layout, name)
    if found is not None and found.to_space == space_id and found.status != "published":
        migrations.note(layout, found, status="published", refused=None)


def _swapped(layout: Layout, table: FeatureTable, state: PublishedState, before: Published | None) -> Published:
    if before is not None and _means(state) == _means(before.state):
        # Nothing moves: a step to go back over would lead nowhere.
        taken_back = tuple(run for run in before.rolled_back if run != state.run_id)
        return published.amend(
            layout, replace(before, state=state, rolled_back=taken_back, held=False), expected=before
        )
    newest = FeatureTable.open(layout, table.name, table.space_id)
    # Chosen over a later version: a job would otherwise publish that one again at once.
    over = [] if same_rows(newest, state.table_version) else [made_by(newest)]
    if before is not None and over and before.state.table_version > state.table_version:
        over.append(before.state.run_id)
    keep = published.KEEP if before is None else max(published.KEEP, len(before.previous))
    taken = [run for run in over if run is not None and run != state.run_id]
    return published.swap(layout, table.name, state, expected=before, keep=keep, taken_back=taken)


def _means(state: PublishedState) -> tuple[object, ...]:
    return state.space_id, state.table_version, state.index_version, state.heads


def heads_of(layout: Layout, table: FeatureTable, before: Published | None) -> dict[str, int]:
    """The heads that a version was published with last; else those of its space that are published now."""
    if before is None:
        return {}
    for state in (before.state, *before.previous):
        if (state.space_id, state.table_version) == (table.space_id, table.version):
            return state.heads
    return _fitting(layout, before.state.heads, table.space_id)


def others(
    layout: Layout,
    before: Published | None,
    job: str,
    mine: Iterable[str],
    space_id: str,
    *,
    warn: Callable[[str], None] = lambda _: None,
) -> dict[str, int]:
    """The published heads that other jobs keep: what one job publishes leaves them as they are.

    Args:
        layout: The store.
        before: What is published.
        job: The job that publishes.
        mine: Its heads.
        space_id: The space of what it publishes.
        warn: Told of each that cannot stay, since it is of another space.
    """
    if before is None:
        return {}
    own, last = set(mine), last_of(job, before)
    if last.job == job:
        own |= set(last.heads) - set(last.others)  # it kept them once, and does no more
    found = {head: version for head, version in before.state.heads.items() if head not in own}
    staying = _fitting(layout, found, space_id)
    for head in found.keys() - staying.keys():
        warn(f"head '{head}' is of another space and no longer published with '{before.name}'")
    return staying


def _fitting(layout: Layout, heads: dict[str, int], space_id: str) -> dict[str, int]:
    """Those heads of a published state that are of a space."""
    return {
        head: version
        for head, version in heads.items()
        if opening.find_card(layout, f"{head}:{version}").space_id == space_id
    }


def check(layout: Layout, name: str, state: PublishedState) -> None:
    """Refuses a state that is not whole; an index can be made again and is not needed.

    Raises:
        NotFoundError: ``gc`` has removed the table's version or a head's.
        IntegrityError: A file is missing, or a head's card is damaged.
        SpaceMismatchError: A head is of another space than the table.
    """
    table = FeatureTable.open(layout, name, state.space_id, state.table_version)
    past.check_kept(layout, table)
    missing = [file for file in table.files if not (table.path / file).exists()]
    if missing:
        raise IntegrityError(
            f"version {table.version} of '{name}' lacks {len(missing)} of its files, such as {missing[0]}.",
            hint=f"See what is damaged: featstore verify {name}",
        )
    for head, version in state.heads.items():
        card = opening.find_card(layout, f"{head}:{version}")
        if card.space_id != state.space_id:
            raise SpaceMismatchError(
                f"head {head}:{version} is of the space {card.space_id}, the table of {state.space_id}."
            )


def now() -> str:
    """The time, ISO 8601 in UTC."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")
