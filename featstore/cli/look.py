"""Panel Look: ``ls`` and ``show``."""

from __future__ import annotations

import re
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from featstore.cli import console, heads, publications, standings
from featstore.cli.options import LOOK, Json, Quiet, StorePath, Verbose
from featstore.cli.stores import existing
from featstore.errors import FeatstoreError, IntegrityError, NotFoundError, UsageError

if TYPE_CHECKING:
    from featstore.layout import Layout
    from featstore.records import Manifest, TableSummary
    from featstore.store import Store
    from featstore.table import Table

__all__ = ["register"]

_RUN = re.compile(r"\d{8}T\d{6}-[0-9a-f]{6}")


def register(app: typer.Typer) -> None:
    """Adds the panel's commands."""
    app.command("ls", rich_help_panel=LOOK, short_help="List the tables, or with 'runs', 'heads' or 'jobs' those.")(ls)
    app.command(rich_help_panel=LOOK, short_help="Show a table, a head or a run.")(show)


class Listing(StrEnum):
    """What ``ls`` can list."""

    TABLES = "tables"
    RUNS = "runs"
    HEADS = "heads"
    JOBS = "jobs"


def ls(
    what: Annotated[Listing, typer.Argument(help="What to list.")] = Listing.TABLES,
    files: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="[FILE|FOLDER ...]", help="Of jobs: those of these TOML files, also where they never ran."
        ),
    ] = None,
    stale: Annotated[
        str | None,
        typer.Option(
            metavar="AGE", help="Of jobs: exit with 1 where one has not succeeded for 26h, 90m, 3d.", show_default=False
        ),
    ] = None,
    store: StorePath = None,
    json: Json = False,
    verbose: Verbose = False,
    quiet: Quiet = False,
) -> None:
    """$ featstore ls

    Lists the store's tables, or with 'runs' its newest runs, with 'heads' the newest version of each head,
    with 'jobs' how each job stands.
    """
    if what is Listing.JOBS:
        standings.listing(standings.standings(files or (), store, stale), json=json)
        return
    if files or stale is not None:
        raise UsageError("files and --stale are for: featstore ls jobs")
    opened = existing(store)
    broken: list[FeatstoreError] = []
    if what is Listing.HEADS:
        cards = opened.heads(broken=broken.append)
        console.emit(cards) if json else heads.listing(cards)
        for text in () if json else publications.heads(opened, cards):
            console.line(console.plain(text))
        _complain(broken, "head")
        return
    if what is Listing.RUNS:
        runs = opened.runs()
        if json:
            console.emit(runs)
            return
        console.grid(
            ("run", "status", "table", "started", "seen", "stored", "rejected", "seconds"),
            sorted(
                [
                    *((r.run_id, r.status, r.name, _minute(r.started_ts), *_figures(r)) for r in runs),
                    *(
                        (run, status, table, _minute(started), "", "", "", seconds)
                        for run, status, table, started, seconds in publications.ends(runs, opened.refreshes())
                    ),
                ],
                reverse=True,
            ),
            right=("seen", "stored", "rejected", "seconds"),
        )
        return
    tables = []
    for table in opened.tables(broken=broken.append):
        try:
            tables.append(table.summary())
        except FeatstoreError as unreadable:
            broken.append(unreadable)
    console.emit(tables) if json else _list(tables)
    _complain(broken, "table")


def _complain(broken: list[FeatstoreError], thing: str) -> None:
    for error in broken:
        console.complain(f"error: {console.plain(str(error))}")
    if broken:
        raise IntegrityError(f"{console.count(len(broken), thing)} cannot be read.", hint="See: featstore verify")


def _list(tables: list[TableSummary]) -> None:
    console.grid(
        ("table", "space", "version", "items", "dim", "size", "rejects", "updated", "source"),
        (
            (t.table, t.space_id, publications.version(t), f"{t.items:,}", t.dim, console.size(t.bytes),
             f"{t.rejects:,}", _minute(t.updated_ts), t.source)
            for t in tables
        ),
        right=("version", "items", "dim", "size", "rejects"),
    )  # fmt: skip


def show(
    what: Annotated[
        str, typer.Argument(metavar="ADDRESS|HEAD|RUN", help="NAME\\[@MODEL][:VERSION], HEAD[:VERSION], or a run's id.")
    ],
    history: Annotated[bool, typer.Option("--history", help="The table's versions.")] = False,
    rejects: Annotated[bool, typer.Option("--rejects", help="The items that were refused, and why.")] = False,
    paths: Annotated[bool, typer.Option("--paths", help="Where everything of the table lies.")] = False,
    report: Annotated[
        Path | None, typer.Option(metavar="FILE.html", help="Write a page about the head.", show_default=False)
    ] = None,
    store: StorePath = None,
    json: Json = False,
    verbose: Verbose = False,
    quiet: Quiet = False,
) -> None:
    """$ featstore show photos

    Shows a table, a head with its figures, or a run with its settings and where each came from.
    """
    if history + rejects + paths > 1:
        raise UsageError("--history, --rejects and --paths exclude each other.", hint="Ask for one of them.")
    from featstore.heads.opening import has_head

    opened = existing(store)
    if _RUN.fullmatch(what):
        if history or rejects or paths:
            raise UsageError(f"{what} is a run; --history, --rejects and --paths are for tables.")
        _show_any_run(opened, what, json=json)
        return
    if heads.is_head(opened, what) or (report is not None and has_head(opened.layout, what)):
        if history or rejects or paths:
            raise UsageError(f"{what} is a head; --history, --rejects and --paths are for tables.")
        _show_head(opened, what, report, json=json)
        return
    if report is not None:
        raise UsageError(f"--report is for heads, and {what} is none.", hint="See: featstore ls heads")
    try:
        table = opened.table(what, missing_ok=rejects)
    except NotFoundError as error:
        tables = opened.layout.storage.folders("features")
        if what.partition("@")[0].partition(":")[0] in tables:
            raise
        raise NotFoundError(
            f"there is no table, head or run '{what}' in {opened.layout.storage.root} "
            f"(tables: {', '.join(tables) or 'none yet'}).",
            hint="See: featstore ls, featstore ls heads, featstore ls runs",
        ) from error
    if history:
        _show_history(table, json=json)
    elif rejects:
        _show_rejects(table, json=json)
    elif paths:
        _show_paths(table, opened.layout, json=json)
    else:
        _show_table(table, opened, json=json)


def _show_head(opened: Store, address: str, page: Path | None, *, json: bool) -> None:
    card = opened.head(address).card
    if page is not None:
        opened.report_head(address, page)
    console.emit(card) if json else heads.report(card)
    if page is not None and not json:
        console.line(console.plain(str(page)))


def _show_table(table: Table, opened: Store, *, json: bool) -> None:
    summary = table.summary()
    if json:
        console.emit(summary)
        return
    card = table.card
    console.facts(
        (
            ("table", f"{summary.table}@{summary.space_id}:{summary.version}"),
            *publications.facts(opened, summary),
            (
                "items",
                f"{summary.items:,} {summary.modality}s, {summary.dim} values each, {console.size(summary.bytes)}",
            ),
            ("source", summary.source),
            ("updated", summary.updated_ts),
            ("rejects", f"{summary.rejects:,}"),
            ("model", f"{card.model}: {card.layer}, pooling {card.pooling}"),
            ("weights", f"{card.weights.source}; licence {card.weights.licence}; data {card.weights.training_data}"),
            ("columns", ", ".join(summary.columns)),
            ("index", _index(summary)),
            ("path", summary.path),
        )
    )


def _index(summary: TableSummary) -> str:
    found = summary.index
    if found is None:
        return "none; make one with: featstore index " + summary.table
    if found.kind == "damaged":
        return f"that of version {found.version} is damaged; make it again: featstore index {summary.table}"
    recall = "recall not measured" if found.recall is None else f"recall@{found.k} {found.recall:.3f}"
    return f"{found.kind} ({found.factory}), {recall}, {console.size(found.bytes)}, of version {found.version}"


def _show_history(table: Table, *, json: bool) -> None:
    commits = table.history()
    if json:
        console.emit(commits)
        return
    marks = publications.marks(commits)
    console.grid(
        ("version", "when", "operation", "run", "rows added", "rows removed", "files added", "files removed",
         *([] if marks is None else ["is"])),
        (
            (c.version, c.timestamp, c.operation, c.run_id or "", f"{c.rows_added:,}", f"{c.rows_removed:,}",
             c.files_added, c.files_removed, *([] if marks is None else [marks[at]]))
            for at, c in enumerate(commits)
        ),
        right=("version", "rows added", "rows removed", "files added", "files removed"),
    )  # fmt: skip


def _show_rejects(table: Table, *, json: bool) -> None:
    from featstore.cli.outputs import RejectLine

    found = [
        RejectLine(
            item_id=row["item_id"],
            content_sha256=row["content_sha256"],
            stage=row["stage"],
            code=row["code"],
            message=row["message"],
            run_id=row["run_id"],
            created_ts=row["created_ts"].isoformat(),
        )
        for row in table.rejects().iter_rows(named=True)
    ]
    if json:
        console.emit(found)
        return
    console.grid(
        ("item", "stage", "code", "message", "run"),
        ((r.item_id, r.stage, r.code, r.message, r.run_id) for r in found),
    )


def _show_paths(table: Table, layout: Layout, *, json: bool) -> None:
    from featstore.cli.outputs import TablePaths

    name, space, newest = table.name, table.space_id, table.summary().index

    def present(path: str) -> str | None:
        where = layout.storage.local(path)
        return str(where) if where.exists() else None

    found = TablePaths(
        table=name,
        space_id=space,
        store=str(layout.storage.root),
        features=str(table.path),
        model=str(layout.storage.local(f"models/{space}")),
        source=present(layout.source(name)),
        rejects=present(layout.rejects(name)),
        previews=present(layout.previews(name)),
        index=None if newest is None else present(layout.index(name, space, newest.version, "index.faiss")),
        index_ids=None if newest is None else present(layout.index(name, space, newest.version, "ids.parquet")),
        runs=str(layout.storage.local("runs")),
    )
    if json:
        console.emit(found)
        return
    console.facts((key, getattr(found, key)) for key in TablePaths.__slots__)


def _show_any_run(opened: Store, run_id: str, *, json: bool) -> None:
    result = opened.refreshed(run_id)
    if result is None:
        manifest = opened.run(run_id)
        console.emit(manifest) if json else _show_run(manifest)
    elif json:
        console.emit(result)
    else:
        from featstore.cli import refreshed

        refreshed.outcome(result)
        if result.extract is not None and result.extract.run_id == run_id:
            console.line()
            _show_run(opened.run(run_id))


def _show_run(run: Manifest) -> None:
    console.facts(
        (
            ("run", f"{run.run_id} ({run.status})"),
            ("table", f"{run.name}@{run.space_id}"),
            ("source", run.source),
            ("started", run.started_ts),
            ("finished", run.finished_ts),
            ("error", run.error),
        )
    )
    if run.result is not None:
        from featstore.cli import report

        console.line()
        report.extraction(run.result)
    console.line()
    console.grid(("setting", "value", "from"), ((k, v.value, v.origin) for k, v in run.settings.items()))
    console.line()
    console.line("versions: " + console.plain(", ".join(f"{k} {v}" for k, v in run.versions.items())))


def _minute(timestamp: str) -> str:
    return timestamp[:16].replace("T", " ")


def _figures(run: Manifest) -> tuple[str, ...]:
    if run.result is None:
        return ("", "", "", "")
    r = run.result
    return (f"{r.seen:,}", f"{r.stored:,}", f"{r.rejected:,}", f"{r.seconds:,.1f}")
