"""The items of a table's sources into the new space: a first portion to learn a bridge from, then all that is left."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields, replace
from typing import TYPE_CHECKING

from featstore.extract import staging
from featstore.extract.opening import READING
from featstore.records import SettingValue, SourceRecord
from featstore.settings import ExtractSettings, resolve
from featstore.storage import documents
from featstore.tables import FeatureTable

if TYPE_CHECKING:
    from featstore.extract.progress import Reporter
    from featstore.jobs import Job
    from featstore.layout import Layout
    from featstore.migrate.opening import Move
    from featstore.records import ExtractResult

__all__ = ["FIRST", "besides", "first", "rest"]

FIRST = 10_000
"""Contents that are embedded and committed before the others, so that the new model can be asked early."""

# What each item is worth to be embedded early, where the table has it: the newest first.
_NEWEST = "event_ts"

# What a source is read by.
_ITS_OWN = (*READING, "keep_text")


def first(layout: Layout, move: Move, reporter: Reporter) -> ExtractResult | None:
    """The first portion of the table's first source; None where there are as many items already.

    Raises:
        FeatstoreError: What ``extract`` raises.
    """
    space_id, dim = move.card.space_id, move.card.dim
    there = FeatureTable.staging(layout, move.job.table, space_id, dim)
    if len(there) >= FIRST:
        return None
    return _portion(layout, move, reporter, FIRST - len(there))


def rest(layout: Layout, move: Move, reporter: Reporter) -> tuple[ExtractResult, ...]:
    """All that is left, of every source of the table; the first source's is the first result.

    Raises:
        FeatstoreError: What ``extract`` raises.
    """
    first = _portion(layout, move, reporter, None)
    return first, *(_portion(layout, move, reporter, None, source) for source in besides(layout, move.job))


_Source = tuple[ExtractSettings, dict[str, SettingValue]]


def besides(layout: Layout, job: Job) -> Iterator[_Source]:
    """How each source is embedded that was put beside a table's first, and where its settings came from.

    It is read as it is remembered, not as the first source is.
    """
    assert job.extract is not None
    record = documents.find(layout.storage, layout.source(job.table), SourceRecord)
    said = {item.name: getattr(job.extract, item.name) for item in fields(job.extract) if item.name not in _ITS_OWN}
    for uri in () if record is None else record.added:
        settings, resolved = resolve(ExtractSettings, {**said, "source": uri, "add": True}, {})
        yield settings, dict(resolved.origins)


def _portion(
    layout: Layout, move: Move, reporter: Reporter, most: int | None, source: _Source | None = None
) -> ExtractResult:
    """One commit. What could not be read is the gate's to judge: here it stops nobody."""
    settings, origins = (move.extract, dict(move.job.origins)) if source is None else source
    settings = replace(settings, max_reject_share=1.0)
    order = _order(layout, move)
    with staging(layout, settings, origins, reporter=reporter, order=order, most=most) as ready:
        return ready.commit()


def _order(layout: Layout, move: Move) -> str | None:
    if move.settings.priority is not None:
        return move.settings.priority
    state = move.before.state
    columns = FeatureTable.open(layout, move.job.table, state.space_id, state.table_version).column_names
    return _NEWEST if _NEWEST in columns else None
