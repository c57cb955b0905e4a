"""While a table is on its way to another model: what a refresh brought into it is brought into the new one's as well.

The new table is filled by the move itself, over as many nights as that takes. A refresh does none of that: it embeds
only what came or changed since the move began, and takes out what has gone, so that what is in both tables is the same.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import polars as pl

from featstore import migrations
from featstore.errors import GateError, NotFoundError
from featstore.extract import chunk_rows, staging
from featstore.records import SettingValue
from featstore.refresh.following import led_by
from featstore.storage import frames
from featstore.tables import FeatureTable, RejectsTable, past

if TYPE_CHECKING:
    from datetime import datetime

    from featstore.extract import Ready
    from featstore.extract.progress import Reporter
    from featstore.jobs import Job
    from featstore.layout import Layout
    from featstore.records import ExtractResult, Migration

__all__ = ["along", "bring"]

_FEW = 10


def along(layout: Layout, job: Job, table: FeatureTable | None) -> Migration | None:
    """The move that a refresh of a table takes along; None where there is none.

    Raises:
        IntegrityError: The document of the move is damaged.
    """
    found = migrations.opened(layout, job.table)
    if found is None or table is None or job.extract is None or table.space_id != found.from_space:
        return None
    return found


def bring(
    layout: Layout,
    job: Job,
    migration: Migration,
    before: int | None,
    *,
    reporter: Reporter,
    until: datetime | None = None,
) -> ExtractResult:
    """Brings the new model's table in step with what the old one's has become since the move began.

    Args:
        layout: The store.
        job: The job that was run.
        migration: The move, which is open.
        before: The old table's version before that run.
        reporter: Told of progress; may end the run, and the next one goes on.
        until: As the job was run.

    Returns:
        What was done; ``left`` are the items that the move itself is yet to bring.

    Raises:
        GateError: The source has lost items since the job was run; nothing was changed.
        FeatstoreError: What extract raises; nothing was changed.
    """
    assert job.extract is not None
    extract, changed = led_by(layout, job.extract, migration, migration.to_space)
    # What may go was judged when the old table let it go: it is held against that table, not against a share of this.
    settings = replace(extract, name=job.table, allow_removals=True)
    origins = {key: SettingValue(value=value, origin="the move to another model") for key, value in changed.items()}
    now = FeatureTable.open(layout, job.table, migration.from_space)
    wanted = _came(layout, now, migration, before)
    with staging(layout, settings, {**job.origins, **origins}, reporter=reporter, until=until, only=wanted) as ready:
        _check(layout, now, ready, chunks=settings.chunk_tokens is not None)
        result = ready.commit()
    share, tried = job.gates.max_reject_share, result.seen - result.left
    if result.rejected > max(_FEW, share * tried):
        look = f"featstore show {job.table}@{migration.to_space} --rejects"
        text = f"{migration.to_space} refuses {result.rejected:,} of {tried:,} items; look at them: {look}"
        reporter.warning(text)
        result = replace(result, warnings=(*result.warnings, text))
    return result


def _came(layout: Layout, now: FeatureTable, migration: Migration, before: int | None) -> set[str]:
    """The ids that are new, or of new content, since the move began: also those that an earlier night failed to bring.

    Where the version of that time is gone, since the oldest one since then that can still be read.
    """
    rows = _ids(now)
    began = past.moment(migration.opened_ts)
    commits = [commit for commit in now.history() if now.version is None or commit.version <= now.version]
    earlier = [commit.version for commit in commits if past.moment(commit.timestamp) < began][:1]
    later = sorted(commit.version for commit in commits if past.moment(commit.timestamp) >= began)
    for version in (*earlier, *later):
        if before is not None and version > before:
            break
        try:
            then = FeatureTable.open(layout, now.name, now.space_id, version)
            past.check_kept(layout, then)
        except NotFoundError:
            continue
        return set(rows.join(_ids(then), on=["item_id", "content_sha256"], how="anti")["item_id"])
    return set()


def _ids(table: FeatureTable) -> pl.DataFrame:
    names = ["item_id", "content_sha256"]
    found = pl.from_arrow(table.rows(names).select(names))
    assert isinstance(found, pl.DataFrame)
    return found


def _check(layout: Layout, now: FeatureTable, ready: Ready, *, chunks: bool) -> None:
    """Refuses to take out what the old table still has: its source may have gone between the two looks."""
    new = ready.table
    if new.version is None:
        return
    refused = set(frames.strings(RejectsTable.read(layout, new.name, new.space_id), "item_id"))
    old, there, left = (set(_ids(table)["item_id"]) for table in (now, new, ready.candidate))
    if chunks:  # each model cuts texts in its own way
        old, there, left, refused = (
            {chunk_rows.parent_of(item) for item in ids} for ids in (old, there, left, refused)
        )
    lost = sorted((there & old) - left - refused)
    if lost:
        raise GateError(
            f"{len(lost):,} items of '{now.name}' were there a moment ago and are not any more, such as {lost[0]}: "
            f"nothing was taken out of {new.space_id}.",
            hint="Is the source still there? The next run looks again.",
        )
