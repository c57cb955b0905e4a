"""Panel Make: ``index``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from featstore.cli import console
from featstore.cli.options import MAKE, DryRun, Json, Quiet, StorePath, Verbose, volume
from featstore.cli.stores import existing

if TYPE_CHECKING:
    from featstore.records import IndexCard, IndexPlan

__all__ = ["register"]

_WHAT = "What the index is (what is not said stays as it was said last)"


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command(rich_help_panel=MAKE, short_help="Make a table's search index, or bring it up to date.")(index)


def index(
    address: Annotated[str, typer.Argument(metavar="NAME", help="NAME\\[@MODEL][:VERSION].")],
    recall: Annotated[
        float | None,
        typer.Option(
            metavar="SHARE",
            help="The share of the 10 nearest items that it finds, at least. Default: 0.95.",
            show_default=False,
            rich_help_panel=_WHAT,
        ),
    ] = None,
    kind: Annotated[
        str | None,
        typer.Option(
            metavar="flat|hnsw|ivf|ivf-sq8|ivf-pq",
            help="Only this kind. By default the first that finds enough; flat at worst, which finds all.",
            show_default=False,
            rich_help_panel=_WHAT,
        ),
    ] = None,
    factory: Annotated[
        str | None,
        typer.Option(metavar="TEXT", help="FAISS's own description: IVF4096,PQ64.", rich_help_panel=_WHAT),
    ] = None,
    memory: Annotated[
        str | None,
        typer.Option(metavar="SIZE", help="The most that it may take: 500MB, 2GiB.", rich_help_panel=_WHAT),
    ] = None,
    queries: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help="What will be asked, to tune on: a text a line, JSON lines, .npy or Parquet. "
            "By default items of the table; captions where texts can find images.",
            show_default=False,
        ),
    ] = None,
    rebuild: Annotated[bool, typer.Option("--rebuild", help="Make all of it anew, from these flags alone.")] = False,
    store: StorePath = None,
    dry_run: DryRun = False,
    json: Json = False,
    verbose: Verbose = False,
    quiet: Quiet = False,
) -> None:
    """$ featstore index photos

    Makes the search index of a table, or adds what is new to the one there is.

    Chooses the kind, tunes it on some items and measures on others how much of exact search it finds.
    Exits with 5 where --kind, --factory or --memory allow nothing that finds enough.
    """
    from featstore.cli.progress import reporting

    opened = existing(store)
    given = {"recall": recall, "kind": kind, "factory": factory, "memory": memory, "rebuild": rebuild or None}
    if dry_run:
        plan = opened.plan_index(address, **given)
        console.emit(plan) if json else _plan(plan)
        return
    with reporting(quiet=volume.quiet) as reporter:
        card = opened.index(address, queries=queries, reporter=reporter, **given)
    console.emit(card) if json else _report(card)


def _plan(plan: IndexPlan) -> None:
    console.line(f"would be {plan.action}: {console.plain(plan.reason)}; nothing was changed")
    if plan.kinds:
        console.line(f"kinds to try: {', '.join(plan.kinds)}")


def _report(card: IndexCard) -> None:
    search = ", ".join(f"{name} {value}" for name, value in card.search.items())
    console.line(f"{card.action}: {console.plain(card.reason)}")
    console.facts(
        (
            ("index", f"{card.kind} ({card.factory}{', ' + search if search else ''})"),
            ("table", f"{card.name}@{card.space_id}:{card.version}, {console.count(card.items, 'item')}"),
            ("recall", _recall(card)),
            ("speed", _speed(card)),
            ("size", f"{card.bytes_per_vector:,.0f} bytes a vector, {console.size(card.index.bytes)} in all"),
            ("left", f"{card.tombstones:,} of its vectors are of items that have left" if card.tombstones else None),
            ("time", f"{card.seconds:,.1f} s; all of it was last built in {card.build_seconds:,.1f} s"),
            ("note", card.note),
        )
    )


def _recall(card: IndexCard) -> str:
    found = card.measured
    if found is None:
        return "not measured"
    what = "items that were not in it" if found.source == "items" else "queries as given"
    when = "" if found.version == card.version else f", at version {found.version}"
    tuned = f", tuned on {found.tuned_on:,} others" if found.tuned_on else ""
    return (
        f"{found.recall:.3f} [{found.low:.3f}–{found.high:.3f}] of the {found.k} nearest, asked for "
        f"{found.queries:,} {what}{tuned}{when}"
    )


def _speed(card: IndexCard) -> str | None:
    if card.measured is None:
        return None
    return (
        f"{card.measured.queries_per_s_single:,.0f} queries/s one by one, "
        f"{card.measured.queries_per_s_batch:,.0f} all at once"
    )
