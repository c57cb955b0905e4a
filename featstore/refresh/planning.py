"""What a refresh would do, by reading only."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING

from featstore import addresses, index, published
from featstore.errors import UsageError
from featstore.extract import extract
from featstore.heads.opening import find_card, newest_card
from featstore.records import Manifest, RefreshPlan, RefreshResult
from featstore.refresh import beside
from featstore.refresh.following import follow, moves
from featstore.refresh.made import last_of, made_by, same_rows
from featstore.storage import documents
from featstore.tables import FeatureTable, past

if TYPE_CHECKING:
    from datetime import datetime

    from featstore.jobs import HeadJob, Job
    from featstore.layout import Layout
    from featstore.records import ExtractResult, HeadCard, Published

__all__ = ["plan"]

# How many of the newest runs are looked at, and of how many the rates are taken.
_RECENT, _MEASURED = 50, 5

# How much slower or faster than any of those runs this one may be.
_UNSURE = 1.25


def plan(layout: Layout, job: Job, *, as_of: str | datetime | None = None, besides: int | None = None) -> RefreshPlan:
    """What ``refresh`` would do; times and bytes are estimates.

    The time is a range: what there is to embed over the fastest and over the slowest of the last runs of this model,
    and the shortest and the longest that the other steps of this job took.

    Args:
        layout: The store.
        job: What to do.
        as_of: The time to take for now, as in ``refresh``.
        besides: Given where a move to another model ends with this job, so that nothing is followed and nothing taken
            along: so many items of the table's other sources are embedded too.

    Raises:
        FeatstoreError: What ``refresh`` would raise before it begins: the source is gone, too much of it is missing,
            the model is not known, the table is not there.
    """
    if job.command != "refresh":
        raise moves(job)
    begun = time.monotonic()
    followed: list[str] = []
    if besides is None:
        job = follow(layout, job, followed.append)
    extracted, table = _source(layout, job, as_of)
    before = published.find(layout, job.table)
    pending = bool(besides) or (extracted is not None and _pending(extracted))
    settled = not pending and table is not None and _settled(job, table, before)
    looked = time.monotonic() - begun
    low, high, notes = _seconds(layout, job, extracted, looked, besides or 0, settled=settled)
    if before is not None and before.held:
        notes.append(f"publishing of '{job.table}' is held: the candidate would be kept, and not published")
    if settled:
        notes.append("nothing is new")
    if besides is None and (move := beside.along(layout, job, table)) is not None:
        notes.append(f"what is new is brought into {move.to_space} as well, which '{job.table}' is on its way to")
    return RefreshPlan(
        job=job.name,
        table=job.table,
        extract=extracted,
        shards=0 if extracted is None else extracted.shards,
        bytes=0 if extracted is None else extracted.bytes_written,
        seconds_low=low,
        seconds_high=high,
        index=_index(layout, job, table, extracted, pending=pending, settled=settled),
        heads={head.name: _head(layout, head, table, before, pending=pending, settled=settled) for head in job.heads},
        gates=_gates(job),
        published_version=None if before is None else before.state.table_version,
        warnings=(*followed, *(() if extracted is None else extracted.warnings), *notes),
    )


def _source(layout: Layout, job: Job, as_of: str | datetime | None) -> tuple[ExtractResult | None, FeatureTable | None]:
    """What an extract would do, and the table as it is."""
    if job.extract is None:
        name, space_id = addresses.resolve(layout, addresses.Address(job.table, job.space))
        return None, FeatureTable.open(layout, name, space_id)
    settings = replace(job.extract, name=job.table, max_removed_share=job.gates.max_removed_share)
    until = None if as_of is None else past.moment(as_of)
    found = extract(layout, settings, job.origins, dry_run=True, until=until)
    there = found.space_id and FeatureTable.exists(layout, job.table, found.space_id)
    return found, FeatureTable.open(layout, job.table, found.space_id) if there else None


def _pending(found: ExtractResult) -> bool:
    return bool(found.stored or found.removed or found.renamed or found.twins or found.updated)


def _settled(job: Job, table: FeatureTable, before: Published | None) -> bool:
    if before is None or table.version is None:
        return False
    if made_by(table) in before.rolled_back:
        return True
    states = (before.state, last := last_of(job.name, before))
    same = last.job_digest == job.digest and all(state.space_id == table.space_id for state in states)
    return same and all(same_rows(table, state.table_version) for state in states)


# ── how long ────────────────────────────────────────────────────────────────────────────────────


def _seconds(
    layout: Layout, job: Job, extracted: ExtractResult | None, looked: float, besides: int, *, settled: bool
) -> tuple[float | None, float | None, list[str]]:
    """The least and the most that a run would take, and what is not in it."""
    if settled:
        return round(looked, 1), round(looked * _UNSURE, 1), []
    notes: list[str] = []
    low, high = looked, looked * _UNSURE
    embed = besides + (0 if extracted is None else extracted.stored)
    if extracted is not None and embed:
        if not extracted.space_id:
            return None, None, ["the model is not in the store yet; it is fetched and exported first"]
        rates = _rates(layout, extracted.space_id)
        if not rates:
            return None, None, ["how long it takes is not known: no run of this model was measured yet"]
        low += embed / (max(rates) * _UNSURE)
        high += embed / min(rates) * _UNSURE
    rest = _rest(layout, job)
    if rest:
        low, high = low + min(rest), high + max(rest) * _UNSURE
    elif job.heads or job.index is not None:
        notes.append("the time leaves out heads and index: no run of this job was measured yet")
    return round(low, 1), round(high, 1), notes


def _runs(layout: Layout) -> list[str]:
    runs = (run for run in layout.storage.folders("runs") if run != "open")
    return sorted(runs, reverse=True)[:_RECENT]


def _rates(layout: Layout, space_id: str) -> list[float]:
    """Items per second of the newest runs that embedded something in a space."""
    found: list[float] = []
    for run_id in _runs(layout):
        manifest = documents.find(layout.storage, layout.manifest(run_id), Manifest)
        done = manifest.result if manifest is not None and manifest.space_id == space_id else None
        if done is not None and done.stored and done.items_per_s:
            found.append(done.items_per_s)
        if len(found) == _MEASURED:
            break
    return found


def _rest(layout: Layout, job: Job) -> list[float]:
    """Seconds that the newest runs of a job took for all but the extract."""
    found: list[float] = []
    for run_id in _runs(layout):
        done = documents.find(layout.storage, layout.refresh(run_id), RefreshResult)
        if done is not None and done.job == job.name and done.status in ("published", "refused", "held"):
            found.append(sum(seconds for stage, seconds in done.stage_seconds.items() if stage != "extract"))
        if len(found) == _MEASURED:
            break
    return found


# ── what would be done, in words ────────────────────────────────────────────────────────────────


def _index(
    layout: Layout,
    job: Job,
    table: FeatureTable | None,
    extracted: ExtractResult | None,
    *,
    pending: bool,
    settled: bool,
) -> str:
    if job.index is None:
        return "none is kept"
    if settled:
        return "stays as it is"
    if table is None or not len(table):
        return "would be built: there is none"
    try:
        found = index.plan(layout, table, job.index)
    except UsageError as error:
        return f"would fail: {error.message}"
    if pending and extracted is not None and found.action in ("updated", "carried", "unchanged"):
        came, left = extracted.new + extracted.changed, extracted.removed + extracted.changed
        return f"would be brought up to date: {came:,} come, {left:,} leave; built anew if it then finds too little"
    if found.action == "unchanged":
        return "stays as it is"
    return f"would be {found.action}: {found.reason}"


def _head(
    layout: Layout,
    head: HeadJob,
    table: FeatureTable | None,
    before: Published | None,
    *,
    pending: bool,
    settled: bool,
) -> str:
    card = _card(layout, head.name, before)
    if card is None:
        return "would be trained: there is none"
    mine = f"version {card.version}"
    if settled:
        return f"{mine} stays"
    if table is None or card.space_id != table.space_id:
        if head.refit == "never":
            return f"would refuse: {mine} is of the space {card.space_id}, and refit is 'never'"
        return f"would be fitted anew: {mine} is of the space {card.space_id}"
    if head.refit == "never":
        return f"{mine} would be measured again, and kept"
    if head.refit == "always":
        return f"{mine} would be measured again, and fitted anew if the items to learn from are others"
    moved = "" if pending else "; no item is new"
    return f"{mine} would be measured again, and fitted anew if the data moved or it fell behind{moved}"


def _card(layout: Layout, name: str, before: Published | None) -> HeadCard | None:
    version = None if before is None else before.state.heads.get(name)
    return newest_card(layout, name) if version is None else find_card(layout, f"{name}:{version}")


def _gates(job: Job) -> tuple[str, ...]:
    gates = job.gates
    found = []
    if job.extract is not None:
        found += [
            f"max_reject_share: at most {gates.max_reject_share:g}",
            f"max_removed_share: at most {gates.max_removed_share:g}",
        ]
    if gates.min_recall is not None:
        found.append(f"min_recall: at least {gates.min_recall:g}")
    if gates.max_drift_auc is not None:
        found.append(f"max_drift_auc: at most {gates.max_drift_auc:g}")
    found += [f"min_accuracy of {head}: at least {least:g}" for head, least in gates.min_accuracy.items()]
    return tuple(found)
