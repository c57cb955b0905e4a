"""Panel Look: ``eval``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from featstore.cli import console
from featstore.cli.options import LOOK, Json, Quiet, StorePath, Verbose, volume
from featstore.cli.stores import existing
from featstore.errors import UsageError

if TYPE_CHECKING:
    from featstore.records import EvaluatedTable, Evaluation, RankingOverlap, Score, TableVersion

__all__ = ["register"]

_TEXT = 50
_SHOWN = 3


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command("eval", rich_help_panel=LOOK, short_help="Measure how well tables answer queries.")(evaluate)


def evaluate(
    addresses: Annotated[
        list[str], typer.Argument(metavar="ADDRESS [OTHER]", help="NAME\\[@MODEL][:VERSION], one or two to compare.")
    ],
    queries: Annotated[
        Path,
        typer.Option(metavar="FILE", help="JSON lines with _id and text (BEIR), or .tsv lines of id and text."),
    ],
    qrels: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Which item answers which query: BEIR (3 columns) or TREC (4).", show_default=False
        ),
    ] = None,
    k: Annotated[int, typer.Option("-k", "--k", metavar="N", help="Also measure recall@N.")] = 100,
    group_by: Annotated[
        str | None,
        typer.Option(
            metavar="COLUMN",
            help="The column that the judgements name. Default: item_id; for chunks the text they are of.",
            show_default=False,
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", metavar="FILE", help="Write each query's figures there: .parquet or .csv."),
    ] = None,
    examples: Annotated[int, typer.Option(metavar="N", help="How many queries to name.")] = 20,
    device: Annotated[
        str | None, typer.Option(help="auto, cpu, cuda or cuda:N, for the queries.", show_default=False)
    ] = None,
    store: StorePath = None,
    json: Json = False,
    verbose: Verbose = False,
    quiet: Quiet = False,
) -> None:
    """$ featstore eval photos --queries queries.jsonl --qrels qrels.tsv

    Measures how well a table answers queries: nDCG@10, MRR@10 and recall, with 95 % intervals over the queries.

    Exact search and the table's index are both measured.
    Two tables answer the same queries: their difference, and the queries that lost most.
    Without --qrels: how many of the first 10 hits two tables, or exact search and the index, share.
    """
    from featstore.cli.progress import reporting

    if len(addresses) > 2:
        raise UsageError(f"{len(addresses)} tables were named; one or two were expected.")
    opened = existing(store)
    with reporting(quiet=volume.quiet) as reporter:
        found = opened.eval(
            addresses,
            queries,
            qrels,
            k=k,
            group_by=group_by,
            examples=examples,
            output=output,
            device=device,
            reporter=reporter,
        )
    console.emit(found) if json else _report(found)


def _report(found: Evaluation) -> None:
    console.facts((name, _table(side.table)) for name, side in (("a", found.a), ("b", found.b)) if side is not None)
    judged = f", {console.count(found.judgements, 'judgement')}" if found.judgements else ""
    console.line(f"{console.count(found.queries, 'query').replace('querys', 'queries')}{judged}")
    if found.unjudged:
        console.line(f"without a relevant item among the judgements, and so not asked: {found.unjudged:,}")
    if found.without_text:
        console.line(f"judged, but not among the queries, and so not counted: {found.without_text:,}")
    both = found.b is not None
    for name, side in (("a", found.a), ("b", found.b)):
        if side is not None:
            _notes(side, f"{name}: " if both else "")
    _metrics(found)
    if found.worst:
        console.grid(
            ("lost most", "a", "b", found.worst_by or "", "text", "first in a", "first in b"),
            (
                (
                    one.query,
                    f"{one.a:.3f}",
                    f"{one.b:.3f}",
                    f"{one.difference:+.3f}",
                    _short(one.text),
                    ", ".join(one.first_a),
                    ", ".join(one.first_b),
                )
                for one in found.worst
            ),
            right=("a", "b", found.worst_by or ""),
        )
    if found.overlap is not None:
        _overlap(found.overlap, named=not found.judgements)
    if found.path:
        console.line(console.plain(found.path))


def _notes(side: EvaluatedTable, where: str) -> None:
    if side.judged_absent:
        console.line(f"{where}relevant, but not in the table, and so counted as not found: {side.judged_absent:,}")
    if side.note:
        console.line(f"{where}note: {console.plain(side.note)}")


def _metrics(found: Evaluation) -> None:
    lines: list[tuple[str, dict[str, Score], bool]] = []
    for name, side in (("a", found.a), ("b", found.b)):
        if side is not None:
            before = f"{name}, " if found.b is not None else ""
            lines += [(before + way, values, False) for way, values in side.metrics.items()]
            lines += [(f"{before}index - exact", side.index_difference, True)] if side.index_difference else []
    lines += [("b - a, exact", found.difference, True)] if found.difference else []
    if lines:
        names = tuple(lines[0][1])
        console.grid(
            ("search", *names),
            ((name, *(_score(values[metric], signed) for metric in names)) for name, values, signed in lines),
        )


def _overlap(agreed: RankingOverlap, *, named: bool) -> None:
    a, b = ("a", "b") if agreed.between == "tables" else ("exact", "index")
    console.line(f"of the first {agreed.k} hits {a} and {b} share {_score(agreed.share, False)}")
    if named and agreed.changed_most:
        console.grid(
            ("changed most", "shared", "text", f"only in {a}", f"only in {b}"),
            (
                (
                    one.query,
                    f"{one.overlap:.2f}",
                    _short(one.text),
                    ", ".join(one.only_a[:_SHOWN]),
                    ", ".join(one.only_b[:_SHOWN]),
                )
                for one in agreed.changed_most
            ),
            right=("shared",),
        )


def _score(value: Score, signed: bool) -> str:
    sign = "+" if signed else ""
    return f"{value.mean:{sign}.4f} [{value.low:{sign}.4f}, {value.high:{sign}.4f}]"


def _table(table: TableVersion) -> str:
    return f"{table.table}@{table.space_id}:{table.version}, {console.count(table.items, 'item')}"


def _short(text: str) -> str:
    return text if len(text) <= _TEXT else f"{text[: _TEXT - 1]}…"
