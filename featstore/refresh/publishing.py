"""Moving what a table's name means, by hand: to what a gate refused, to another version, or back."""

from __future__ import annotations

import re
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import TYPE_CHECKING

from featstore import addresses, published
from featstore.errors import ConflictError, NotFoundError, UsageError
from featstore.extract import late
from featstore.heads import opening
from featstore.models import load_card
from featstore.records import JobState, Manifest, PublishResult, RefreshResult
from featstore.refresh import moving
from featstore.refresh.made import made_by
from featstore.storage import documents, locks
from featstore.tables import FeatureTable, past
from featstore.training.keeping import adopt

if TYPE_CHECKING:
    from collections.abc import Callable

    from featstore.layout import Layout
    from featstore.records import HeadOutcome

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
    name, space_id = addresses.resolve(layout, where)
    if where.version is None:
        raise UsageError(
            f"'{what}' names no version; its newest need not be what you looked at.",
            hint=f"Name one: featstore publish {what}:VERSION   See: featstore show {what} --history",
        )
    with _held(layout, name, warn):
        table = FeatureTable.open(layout, name, space_id, where.version)
        past.check_kept(layout, table)
        before = published.find(layout, name)
        return moving.move(layout, table, moving.heads_of(layout, table, before), made_by(table), reason)


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
            moving.check(layout, name, before.previous[0])
        made = published.back(layout, name, expected=before, published_ts=moving.now(), reason=reason, hold=hold)
        again = f"featstore publish {name}@{before.state.space_id}:{before.state.table_version} --reason TEXT"
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
        if staged is None and manifest is not None and manifest.status == "superseded":
            raise ConflictError(
                f"run {run_id} is superseded: a later run was committed to '{name}' and took over its vectors.",
                hint=f"See what there is: featstore show {name} --history",
            )
        if staged is not None:
            version: int | None = late.commit(layout, staged)
            space_id: str | None = staged.space_id
        elif manifest is not None and (refreshed is None or refreshed.extract is not None):
            space_id = manifest.space_id
            table = FeatureTable.staging(layout, name, space_id, load_card(layout, space_id).dim)
            version = table.committed(run_id)
        else:
            assert refreshed is not None
            whole = refreshed.status not in ("failed", "interrupted")
            space_id, version = refreshed.space_id, refreshed.version if whole else None
        if version is None or space_id is None:
            status = refreshed.status if refreshed is not None else manifest.status if manifest is not None else ""
            raise UsageError(
                f"run {run_id} made nothing that could be published ({status}).",
                hint="Run it again to go on from there.",
            )
        table = FeatureTable.open(layout, name, space_id, version)
        past.check_kept(layout, table)
        if refreshed is None or (refreshed.status in ("failed", "interrupted") and not refreshed.gates):
            before = published.find(layout, name)  # it did not come to its heads
            return moving.move(layout, table, moving.heads_of(layout, table, before), made_by(table), reason)
        outcomes = tuple(_settled(layout, run_id, outcome) for outcome in refreshed.heads)
        heads = {outcome.head: outcome.version for outcome in outcomes if outcome.version is not None}
        before, mine = published.find(layout, name), [outcome.head for outcome in outcomes]
        besides = moving.others(layout, before, refreshed.job, mine, space_id, warn=warn)
        made = moving.move(layout, table, heads, made_by(table), reason, refreshed, besides)
        _noted(layout, replace(refreshed, heads=outcomes), table, made.now.published_ts)
        return made


def _settled(layout: Layout, run_id: str, outcome: HeadOutcome) -> HeadOutcome:
    """A head of a run as one of its name's versions.

    Raises:
        NotFoundError: What the run had trained is gone.
    """
    if outcome.folder is None:
        return outcome
    if not layout.storage.exists(f"{outcome.folder}/{opening.CARD}"):
        raise NotFoundError(
            f"head '{outcome.head}', which run {run_id} had trained, is gone.",
            hint="Run the refresh again.",
        )
    return replace(outcome, version=adopt(layout, outcome.folder).version, folder=None)


def _noted(layout: Layout, refreshed: RefreshResult, table: FeatureTable, when: str) -> None:
    """Writes down that a run was published after all, and drops its heads, which are adopted."""
    done = replace(
        refreshed, status="published", version=table.version, published_version=table.version, error=None, next=()
    )
    documents.write(layout.storage, layout.refresh(done.run_id), done)
    layout.storage.delete_folder(layout.run(done.run_id, "heads"))
    job = documents.find(layout.storage, layout.job(done.job), JobState)
    if job is not None and job.last_run_id == done.run_id:
        good = replace(
            job, last_status="published", last_success_ts=when, last_published_ts=when, failures=0, next=None
        )
        documents.write(layout.storage, layout.job(done.job), good)


def _held(layout: Layout, name: str, warn: Callable[[str], None]) -> AbstractContextManager[None]:
    return locks.hold(layout.storage, layout.lock(name), purpose=f"publishing '{name}'", warn=warn)
