"""One evaluation: ask each table the same queries, rate the answers, compare."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from featstore.errors import SettingsError, UsageError
from featstore.evaluate import metrics, questions
from featstore.evaluate.agreement import agreement, text_of
from featstore.evaluate.intervals import scores
from featstore.evaluate.judgements import Judgements
from featstore.evaluate.judgements import read as read_judgements
from featstore.evaluate.questions import Asked
from featstore.evaluate.rankings import Rankings, absent, rank
from featstore.evaluate.table import write
from featstore.extract.progress import Reporter
from featstore.layout import Layout
from featstore.models import load_card
from featstore.records import EvaluatedTable, Evaluation, QueryDifference, RankingOverlap, Score, TableVersion
from featstore.search import Searcher

__all__ = ["evaluate"]

_FIRST = 3


@dataclass(frozen=True)
class _Side:
    """One table: its answers, and by way (q, m) what each query is worth."""

    searcher: Searcher
    rankings: Rankings
    rated: dict[str, NDArray[np.float64]]


def evaluate(
    layout: Layout,
    searchers: Sequence[Searcher],
    queries: str | os.PathLike[str],
    qrels: str | os.PathLike[str] | None = None,
    *,
    k: int = 100,
    group_by: str | None = None,
    examples: int = 20,
    output: str | os.PathLike[str] | None = None,
    device: str | None = None,
    reporter: Reporter | None = None,
) -> Evaluation:
    """Measures how well one table, or each of two, answers queries; reads only.

    Args:
        layout: The store.
        searchers: Of one table or two.
        queries: The queries: JSON lines with ``_id`` and ``text`` (BEIR), a ``.tsv`` of ids and texts, or anything
            else that ``search --queries`` takes.
        qrels: The judgements, as BEIR or TREC has them; only judged queries are asked then. Without them it is
            measured how far two tables, or exact search and the index, agree.
        k: Where the second recall ends.
        group_by: The column whose values are judged, instead of ``item_id``; by default a chunk's ``parent``.
        examples: How many queries are named.
        output: A Parquet or CSV file with each query's figures.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``, for the queries.
        reporter: Told of progress.

    Raises:
        SettingsError: A number is out of range.
        UsageError: A file cannot be used, or there is nothing to compare.
        NotFoundError: A file or column is not there, or a table is empty.
        IntegrityError: A table or model is damaged.
    """
    started = time.monotonic()
    for name, number, least in (("k", k, metrics.CUT), ("examples", examples, 0)):
        if number < least:
            raise SettingsError(f"{name} is {number}; it must be at least {least}.")
    if len(searchers) not in (1, 2):
        raise UsageError(f"{len(searchers)} tables were named; one or two were expected.")
    target = None if output is None else _place(layout, output, judged=qrels is not None)
    reporter = reporter or Reporter()
    card = load_card(layout, searchers[0].table.space_id)
    judgements = None if qrels is None else read_judgements(Path(qrels))
    asked = questions.ask(questions.read(Path(queries), card.modality), judgements)
    sides = []
    for searcher in searchers:
        table = searcher.table
        reporter.message(f"asking {table.name}@{table.space_id}:{table.version} {len(asked.queries):,} queries")
        depth = metrics.CUT if judgements is None else k
        found = rank(layout, searcher, asked.queries, depth, group_by, device=device)
        sides.append(_Side(searcher, found, _rated(found, asked, judgements, k)))
    if judgements is None and len(sides) == 1 and sides[0].rankings.index is None:
        name = searchers[0].table.name
        raise UsageError(
            f"there is nothing to compare {name} with: no judgements, no second table, no index.",
            hint=f"Give --qrels FILE, or another table, or make an index: featstore index {name}",
        )
    if target is not None:
        write(
            target,
            asked.queries,
            [(_address(side), way, rated) for side in sides for way, rated in side.rated.items()],
            metrics.names(k),
        )
    worst = _worst(asked, sides, examples) if judgements is not None and len(sides) == 2 else ()
    return Evaluation(
        a=_described(sides[0], asked, judgements, k, group_by),
        b=_described(sides[1], asked, judgements, k, group_by) if len(sides) == 2 else None,
        queries=len(asked.queries),
        unjudged=asked.unjudged,
        without_text=asked.without_text,
        judgements=0 if judgements is None else sum(len(judgements[query.name]) for query in asked.queries),
        k=k,
        difference=_differences(sides[0].rated, sides[1].rated, "exact", "exact", k) if len(sides) == 2 else {},
        worst_by=metrics.names(k)[0] if worst else None,
        worst=worst,
        overlap=_overlap(asked, sides, examples),
        path=None if target is None else str(target),
        seconds=time.monotonic() - started,
    )


def _rated(found: Rankings, asked: Asked, judgements: Judgements | None, k: int) -> dict[str, NDArray[np.float64]]:
    if judgements is None:
        return {}
    judged = [judgements[query.name] for query in asked.queries]
    rated = {"exact": metrics.rate(found.exact, judged, k)}
    if found.index is not None and found.deep is not None:
        rated["index"] = metrics.rate(found.index, judged, k)
        rated["index"][:, -1] = metrics.rate(found.deep, judged, k)[:, -1]
    return rated


def _described(
    side: _Side, asked: Asked, judgements: Judgements | None, k: int, group_by: str | None
) -> EvaluatedTable:
    table = side.searcher.table
    assert table.version is not None
    lost = 0
    if judgements is not None:
        relevant = [item for query in asked.queries for item, grade in judgements[query.name].items() if grade > 0]
        gone = absent(side.searcher, relevant, group_by)
        lost = sum(item in gone for item in relevant)
    return EvaluatedTable(
        table=TableVersion(
            table=table.name, space_id=table.space_id, version=table.version, items=len(table), dim=table.dim
        ),
        metrics={way: dict(zip(metrics.names(k), scores(rated), strict=True)) for way, rated in side.rated.items()},
        index_difference=_differences(side.rated, side.rated, "exact", "index", k),
        judged_absent=lost,
        note=side.rankings.note,
    )


def _differences(
    a: dict[str, NDArray[np.float64]], b: dict[str, NDArray[np.float64]], way_a: str, way_b: str, k: int
) -> dict[str, Score]:
    if way_a not in a or way_b not in b:
        return {}
    return dict(zip(metrics.names(k), scores(b[way_b] - a[way_a]), strict=True))


def _worst(asked: Asked, sides: Sequence[_Side], examples: int) -> tuple[QueryDifference, ...]:
    """The queries whose nDCG the second table lowers most."""
    a, b = (side.rated["exact"][:, 0] for side in sides)
    order = [at for at in np.argsort(b - a, kind="stable").tolist() if b[at] < a[at]][:examples]
    return tuple(
        QueryDifference(
            query=asked.queries[at].name,
            text=text_of(asked.queries[at]),
            a=float(a[at]),
            b=float(b[at]),
            difference=float(b[at] - a[at]),
            first_a=sides[0].rankings.exact[at][:_FIRST],
            first_b=sides[1].rankings.exact[at][:_FIRST],
        )
        for at in order
    )


def _overlap(asked: Asked, sides: Sequence[_Side], examples: int) -> RankingOverlap | None:
    if len(sides) == 2:
        a, b = (side.rankings.exact for side in sides)
        return agreement(asked.queries, a, b, k=metrics.CUT, examples=examples, between="tables")
    found = sides[0].rankings
    if found.index is None:
        return None
    return agreement(
        asked.queries, found.exact, found.index, k=metrics.CUT, examples=examples, between="exact and index"
    )


def _address(side: _Side) -> str:
    table = side.searcher.table
    return f"{table.name}@{table.space_id}:{table.version}"


def _place(layout: Layout, path: str | os.PathLike[str], *, judged: bool) -> Path:
    target = Path(os.path.abspath(os.path.expanduser(path)))
    if not judged:
        raise UsageError("--output holds each query's figures, and without --qrels there are none.")
    if target.suffix.lower() not in (".parquet", ".csv"):
        raise UsageError(f"--output {target}: the name must end in .parquet or .csv.")
    if target.is_dir():
        raise UsageError(f"--output {target} is a folder; name a file.")
    if Path(os.path.realpath(target)).is_relative_to(os.path.realpath(layout.storage.root)):
        raise UsageError(f"--output {target} lies within the store; write the file somewhere else.")
    return target
