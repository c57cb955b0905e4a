"""The report of a move: what is published beside what was built with the new model, judged and written down."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from featstore.diff.agreement import neighbourhoods, overlap
from featstore.diff.matching import match
from featstore.errors import NotFoundError, SpaceMismatchError, UsageError
from featstore.evaluate import evaluate
from featstore.extract.progress import Reporter
from featstore.migrate.report import gates as judging
from featstore.migrate.report.costs import costs
from featstore.migrate.report.heads import moves
from featstore.migrate.report.page import render
from featstore.migrate.report.scores import score_map
from featstore.migrate.report.sheet import sheet
from featstore.models import load_card
from featstore.records import Evaluation, MigrationReport, TableVersion
from featstore.search import Searcher
from featstore.storage import documents

if TYPE_CHECKING:
    from featstore.jobs import Gates
    from featstore.layout import Layout
    from featstore.records import SpaceBridgeCard
    from featstore.refresh.run import Built
    from featstore.tables import FeatureTable

__all__ = ["report"]

_NEIGHBOURS, _QUERIES, _EXAMPLES = 10, 1_000, 10


def report(
    layout: Layout,
    *,
    name: str,
    before: FeatureTable,
    before_heads: Mapping[str, int],
    built: Built,
    gates: Gates,
    queries: str | os.PathLike[str] | None = None,
    qrels: str | os.PathLike[str] | None = None,
    bridge: SpaceBridgeCard | None = None,
    device: str | None = None,
    reporter: Reporter | None = None,
) -> MigrationReport:
    """Compares what is published with what a refresh has built in another space, on the same items.

    It is written to ``migrations/NAME/report.json`` and ``report.html``, whatever the gates say.

    Args:
        layout: The store.
        name: The table's name.
        before: The table as it is published, in the old space.
        before_heads: The heads that are published with it, by name.
        built: What the refresh has made, in the new space; none of it need be published or committed yet.
        gates: ``max_drop`` and ``min_ndcg`` of the job.
        queries: Queries to compare retrieval by, as ``eval`` takes them.
        qrels: Their judgements.
        bridge: The map between the two spaces, where there is one.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``, for queries and for timing the models.
        reporter: Told of progress.

    Returns:
        The report; ``gates`` in it are verdicts of its own, besides those of the refresh.

    Raises:
        SpaceMismatchError: Both tables are of one space.
        NotFoundError: ``gc`` has removed files of the old table.
        IntegrityError: A table or model is damaged.
        StorageError: The disk refused.
    """
    started, reporter, after = time.monotonic(), reporter or Reporter(), built.candidate
    if before.space_id == after.space_id:
        raise SpaceMismatchError(
            f"both tables of '{name}' are of the space {after.space_id}; a move is between two.",
            hint=f"See what changed in one space: featstore diff {name}:{before.version} {name}",
        )
    notes = []
    reporter.stage("comparing heads", len(before_heads))
    heads = moves(layout, before, after, before_heads, built.heads)
    reporter.stage("comparing retrieval")
    retrieval = _retrieval(layout, before, after, queries, qrels, device, reporter)
    reporter.stage("comparing neighbours")
    found = match(before, after)
    near = neighbourhoods(before, after, found, k=_NEIGHBOURS, queries=_QUERIES)
    common = int((~found.changed).sum())
    if near is None:
        notes.append("fewer than two items have the same content in both tables, so neighbours are not compared")
    elif common < max(len(before), len(after)):
        notes.append(
            f"neighbours are compared among the {common:,} items with the same content in both tables, of "
            f"{len(before):,} before and {len(after):,} after"
        )
    scores = None if near is None else score_map(before, after, near)
    reporter.stage("timing both models")
    spent, untimed = costs(layout, before, after, built.index, device)
    notes += [why for why in (retrieval.note, untimed) if why is not None]
    if not before_heads:
        notes.append("no head is published with the table")
    verdicts = judging.judge(gates, heads, retrieval.found, retrieval.untold)
    path = layout.migration_report(name, "report.html")
    made = MigrationReport(
        name=name,
        before=_version(before),
        after=_version(after),
        created_ts=datetime.now(UTC).isoformat(timespec="seconds"),
        heads=tuple(head.move for head in heads),
        evaluation=retrieval.found,
        overlap=None if near is None else overlap(near, examples=_EXAMPLES),
        scores=scores,
        costs=spent,
        bridge=bridge,
        gates=verdicts,
        html=path,
        seconds=round(time.monotonic() - started, 3),
        notes=tuple(notes),
    )
    cards = load_card(layout, before.space_id), load_card(layout, after.space_id)
    shown = None if near is None else sheet(layout, name, near, modality=cards[1].modality)
    shares = () if near is None else tuple(near.shares.tolist())
    page = render(made, cards, shares=shares, sheet=shown, run_id=built.run_id, before=built.verdicts)
    layout.storage.write(path, page.encode("utf-8", "replace"))
    documents.write(layout.storage, layout.migration_report(name, "report.json"), made)
    return made


@dataclass(frozen=True)
class _Retrieval:
    """``untold`` is why judgements that were given could not be used."""

    found: Evaluation | None = None
    note: str | None = None
    untold: str | None = None


def _retrieval(
    layout: Layout,
    before: FeatureTable,
    after: FeatureTable,
    queries: str | os.PathLike[str] | None,
    qrels: str | os.PathLike[str] | None,
    device: str | None,
    reporter: Reporter,
) -> _Retrieval:
    if queries is None:
        return _Retrieval(note="retrieval is not judged: no queries and judgements were given")
    try:
        searchers = [Searcher(layout, table, device=device, progress=reporter.message) for table in (before, after)]
        found = evaluate(layout, searchers, queries, qrels, device=device, reporter=reporter)
    except (UsageError, NotFoundError) as error:
        why = f"retrieval could not be compared: {error.message}"
        return _Retrieval(note=why, untold=why if qrels is not None else None)
    if qrels is None:
        return _Retrieval(found, "retrieval is not judged: queries were given without judgements")
    return _Retrieval(found)


def _version(table: FeatureTable) -> TableVersion:
    if table.version is None:
        raise NotFoundError(f"table '{table.name}' has no version in the space {table.space_id} yet.")
    return TableVersion(
        table=table.name, space_id=table.space_id, version=table.version, items=len(table), dim=table.dim
    )
