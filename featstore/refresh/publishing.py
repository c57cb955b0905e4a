"""Moving what a table's name means, by hand: to what a gate refused, to another version, or back."""

from __future__ import annotations

import re
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from featstore import addresses, index, published
from featstore.errors import GateError, NotFoundError, UsageError
from featstore.extract import late
from featstore.heads import opening
from featstore.models import load_card
from featstore.records import Manifest, PublishedState, PublishResult, RefreshResult
from featstore.refresh.made import made_by
from featstore.storage import documents, locks
from featstore.tables import FeatureTable, past

if TYPE_CHECKING:
    from collections.abc import Callable

    from featstore.layout import Layout

__all__ = ["publish", "rollback"]

_RUN = re.compile(r"\d{8}T\d{6}-[0-9a-f]{6}")


def publish(
    layout: Layout, what: str, *, reason: str | None = None, warn: Callable[[str], None] = lambda _: None
) -> PublishResult:
    """Publishes what a run made, whatever its gates said, or a version that is there; lifts a hold.

    Args:
        layout: The store.
        what: A run's id, or ``NAME[@MODEL]:VERSION``.
        reason: Why; kept with what is published. Needed where a gate had refused.
        warn: Told of a lock that was taken over.

    Raises:
        NotFoundError: There is no such run or version, or ``gc`` has removed what it needs.
        UsageError: No reason was given, or the run made nothing.
        ConflictError: The table has moved since the run; run the refresh again.
        LockedError: Another process holds the table.
    """
    if _RUN.fullmatch(what):
        return _run(layout, what, reason, warn)
    where = addresses.parse(what)
    if where.version is None:
        raise UsageError(
            f"'{what}' names no version; its newest need not be what you looked at.",
            hint=f"Name one: featstore publish {what}:VERSION   See: featstore show {what} --history",
        )
    name, space_id = addresses.resolve(layout, where)
    with _held(layout, name, warn):
        table = FeatureTable.open(layout, name, space_id, where.version)
        past.check_kept(layout, table)
        before = published.find(layout, name)
        heads = {} if before is None else _fitting(layout, before.state.heads, space_id)
        return _moved(layout, table, heads, made_by(table), reason)


def rollback(
    layout: Layout,
    name: str,
    *,
    hold: bool = False,
    reason: str | None = None,
    warn: Callable[[str], None] = lambda _: None,
) -> PublishResult:
    """Goes back to what was published before: table version, index and heads together, in one step.

    What is taken back is not published by a job again unless its inputs have changed.

    Args:
        layout: The store.
        name: The table.
        hold: From now on nothing is published but by ``publish``.
        reason: Why; kept.
        warn: Told of a lock that was taken over.

    Raises:
        NotFoundError: Nothing of the table was published, nothing before, or ``gc`` has removed what it needs.
        LockedError: Another process holds the table.
    """
    with _held(layout, name, warn):
        before = published.find(layout, name)
        if before is None:
            raise NotFoundError(f"nothing of '{name}' is published.", hint="See: featstore ls")
        if before.previous:
            _check(layout, name, before.previous[0])
        made = published.back(layout, name, expected=before, published_ts=_now(), reason=reason, hold=hold)
        again = f"featstore publish {name}:{before.state.table_version} --reason TEXT"
        return PublishResult(name=name, now=made.state, before=before.state, held=made.held, next=(again,))


def _run(layout: Layout, run_id: str, reason: str | None, warn: Callable[[str], None]) -> PublishResult:
    manifest = documents.find(layout.storage, layout.manifest(run_id), Manifest)
    refreshed = documents.find(layout.storage, layout.refresh(run_id), RefreshResult)
    if manifest is None and refreshed is None:
        raise NotFoundError(f"there is no run '{run_id}'.", hint="See: featstore ls runs")
    if refreshed is not None and refreshed.status == "refused" and not (reason or "").strip():
        raise UsageError(
            f"a gate refused run {run_id}: {refreshed.error}", hint=f"Say why: featstore publish {run_id} --reason TEXT"
        )
    name = refreshed.table if refreshed is not None else manifest.name if manifest is not None else ""
    with _held(layout, name, warn):
        staged = late.find(layout, run_id)
        if staged is not None:
            version: int | None = late.commit(layout, staged)
            space_id: str | None = staged.space_id
        elif manifest is not None and (refreshed is None or refreshed.extract is not None):
            space_id = manifest.space_id
            table = FeatureTable.staging(layout, name, space_id, load_card(layout, space_id).dim)
            version = table.committed(run_id)
        else:
            assert refreshed is not None
            space_id, version = refreshed.space_id, refreshed.version
        if version is None or space_id is None:
            status = refreshed.status if refreshed is not None else manifest.status if manifest is not None else ""
            raise UsageError(
                f"run {run_id} made nothing that could be published ({status}).",
                hint="Run it again to go on from there.",
            )
        table = FeatureTable.open(layout, name, space_id, version)
        past.check_kept(layout, table)
        before = published.find(layout, name)
        heads = {} if before is None else _fitting(layout, before.state.heads, space_id)
        if refreshed is not None:
            from featstore.training.keeping import adopt

            for outcome in refreshed.heads:
                # One that was adopted before a crash has no folder any more; its newest version is it.
                there = outcome.folder is not None and layout.storage.exists(f"{outcome.folder}/{opening.CARD}")
                if outcome.folder is not None and there:
                    heads[outcome.head] = adopt(layout, outcome.folder).version
                elif outcome.version is not None:
                    heads[outcome.head] = outcome.version
        return _moved(layout, table, heads, run_id, reason, refreshed)


def _moved(
    layout: Layout,
    table: FeatureTable,
    heads: dict[str, int],
    run_id: str | None,
    reason: str | None,
    refreshed: RefreshResult | None = None,
) -> PublishResult:
    before = published.find(layout, table.name)
    there = index.made_from(layout, table.name, table.space_id)
    state = PublishedState(
        space_id=table.space_id,
        table_version=table.version or 0,
        index_version=table.version if table.version in there else None,
        heads=heads,
        run_id=run_id,
        published_ts=_now(),
        job=None if refreshed is None else refreshed.job,
        job_digest=None if refreshed is None else refreshed.job_digest,
        reason=reason,
        as_of=None if refreshed is None else refreshed.as_of,
    )
    made = published.swap(layout, table.name, state, expected=before)
    return PublishResult(
        name=table.name,
        now=made.state,
        before=None if before is None else before.state,
        held=made.held,
        next=() if before is None else (f"featstore rollback {table.name}",),
    )


def _fitting(layout: Layout, heads: dict[str, int], space_id: str) -> dict[str, int]:
    """Those heads of a published state that are of a space."""
    return {
        head: version
        for head, version in heads.items()
        if opening.find_card(layout, f"{head}:{version}").space_id == space_id
    }


def _check(layout: Layout, name: str, state: PublishedState) -> None:
    """Refuses a state that is no longer whole; an index can be made again and is not needed."""
    table = FeatureTable.open(layout, name, state.space_id, state.table_version)
    past.check_kept(layout, table)
    for head, version in state.heads.items():
        card = opening.find_card(layout, f"{head}:{version}")
        if card.space_id != state.space_id:
            raise GateError(f"head {head}:{version} is of the space {card.space_id}, the table of {state.space_id}.")


def _held(layout: Layout, name: str, warn: Callable[[str], None]) -> AbstractContextManager[None]:
    return locks.hold(layout.storage, layout.lock(name), purpose=f"publishing '{name}'", warn=warn)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
