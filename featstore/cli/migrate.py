"""Panel Change the model: ``migrate``."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from featstore.cli import console, logs, stores
from featstore.cli.options import CHANGE, DryRun, Json, Quiet, StorePath, Verbose, volume
from featstore.errors import SettingsError, StatedError, UsageError

if TYPE_CHECKING:
    from featstore.store import Store

__all__ = ["register"]

_MODEL = "The new model"
_JUDGED = "What must hold before it is published"


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command(rich_help_panel=CHANGE, short_help="Move a table to another model, side by side, and back.")(migrate)


def migrate(
    what: Annotated[
        str, typer.Argument(metavar="NAME", help="The table; or a job's TOML file with a section \\[migrate].")
    ],
    to: Annotated[
        str | None,
        typer.Option(metavar="MODEL", help="The new model, by any name that extract takes.", rich_help_panel=_MODEL),
    ] = None,
    weights: Annotated[
        str | None, typer.Option(metavar="FILE", help="Its weights, from a file.", rich_help_panel=_MODEL)
    ] = None,
    pooling: Annotated[
        str | None, typer.Option(metavar="mean|cls|last|max", help="As in extract.", rich_help_panel=_MODEL)
    ] = None,
    layer: Annotated[str | None, typer.Option(help="As in extract.", rich_help_panel=_MODEL)] = None,
    dim: Annotated[int | None, typer.Option(help="As in extract.", rich_help_panel=_MODEL)] = None,
    prompt_document: Annotated[
        str | None, typer.Option(metavar="TEXT", help="As in extract.", rich_help_panel=_MODEL)
    ] = None,
    prompt_query: Annotated[
        str | None, typer.Option(metavar="TEXT", help="As in extract.", rich_help_panel=_MODEL)
    ] = None,
    decode: Annotated[
        str | None, typer.Option(metavar="exact|fast", help="As in extract.", rich_help_panel=_MODEL)
    ] = None,
    precision: Annotated[
        str | None, typer.Option(metavar="fp32|int8", help="As in extract.", rich_help_panel=_MODEL)
    ] = None,
    priority: Annotated[
        str | None,
        typer.Option(
            metavar="COLUMN", help="What has most of it is embedded first.", show_default="the newest, by event_ts"
        ),
    ] = None,
    bridge: Annotated[
        bool, typer.Option("--bridge/--no-bridge", help="Learn what lets the new model ask the old vectors.")
    ] = True,
    queries: Annotated[
        str | None, typer.Option(metavar="FILE", help="Queries, as eval takes them.", rich_help_panel=_JUDGED)
    ] = None,
    qrels: Annotated[
        str | None, typer.Option(metavar="FILE", help="Their judgements.", rich_help_panel=_JUDGED)
    ] = None,
    min_ndcg: Annotated[
        float | None, typer.Option(metavar="0..1", help="The new nDCG@10 at least.", rich_help_panel=_JUDGED)
    ] = None,
    max_drop: Annotated[
        float | None,
        typer.Option(
            metavar="0..1",
            help="Heads and nDCG may fall by so much, on the same items.",
            show_default="nothing significant",
            rich_help_panel=_JUDGED,
        ),
    ] = None,
    min_accuracy: Annotated[
        list[str] | None,
        typer.Option(metavar="HEAD=0..1", help="A head's main figure at least.", rich_help_panel=_JUDGED),
    ] = None,
    min_recall: Annotated[
        float | None,
        typer.Option(
            metavar="0..1", help="Of the index.", show_default="as the present one has", rich_help_panel=_JUDGED
        ),
    ] = None,
    publish: Annotated[
        bool, typer.Option("--publish/--no-publish", help="Publish what passes, or leave it to featstore publish.")
    ] = True,
    abandon: Annotated[bool, typer.Option("--abandon", help="Give the move up; the published state stays.")] = False,
    deadline: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="Begin no further shard or step after so long: 45m, 8h. Exits with 7."),
    ] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda or cuda:N.", show_default="auto")] = None,
    workers: Annotated[int | None, typer.Option(help="Threads; by default the usable CPUs.")] = None,
    log_format: Annotated[
        str, typer.Option(metavar="text|json", help="With json every line on stderr is one JSON object.")
    ] = "text",
    store: StorePath = None,
    dry_run: DryRun = False,
    json: Json = False,
    verbose: Verbose = False,
    quiet: Quiet = False,
) -> None:
    """$ featstore migrate photos --to resnet50 --dry-run

    Moves a table to another model: the new vectors beside the old ones, then table, index and heads in one swap.

    Until the end everybody sees what is published. Run it again after whatever stopped it: it goes on.
    Meanwhile `featstore search NAME --model NEW …` asks the published vectors through a bridge, and every refresh
    brings both spaces up to date. `featstore rollback NAME` brings all back; the old vectors stay until
    `featstore gc --drop-space`.

    Exit codes: 0 published or nothing new; 5 a gate refused, and nothing was published; 7 the deadline has passed, run
    it again; 130 or 143 stopped, run it again; else as everywhere.
    """
    if log_format not in ("text", "json"):
        raise SettingsError(f"--log-format is 'text' or 'json', not '{log_format}'.")
    opened = stores.of_job(store, what)
    machine = json or not sys.stdout.isatty()
    if abandon:
        if dry_run:
            raise UsageError("--abandon gives the move up, and --dry-run changes nothing: take one of them.")
        return _abandoned(opened, what, machine)
    given: dict[str, Any] = {
        "to": to, "weights": weights, "pooling": pooling, "layer": layer, "dim": dim,
        "prompt_document": prompt_document, "prompt_query": prompt_query, "decode": decode, "precision": precision,
        "priority": priority,
        "queries": queries, "qrels": qrels, "device": device, "workers": workers,
        "min_ndcg": min_ndcg, "max_drop": max_drop, "min_recall": min_recall, "min_accuracy": _floors(min_accuracy),
        "bridge": None if bridge else False, "publish": None if publish else False,
    }  # fmt: skip
    from featstore.cli import migrated

    if dry_run:
        plan = opened.plan_migration(what, **given)
        console.emit_line(plan) if machine else migrated.rehearsal(plan)
        return None
    return _run(opened, what, given, deadline, machine)


def _run(opened: Store, what: str, given: dict[str, Any], deadline: str | None, machine: bool) -> None:
    from featstore.cli import migrated
    from featstore.cli.progress import reporting
    from featstore.records import MigrationResult

    try:
        with reporting(quiet=volume.quiet) as reporter:
            result = opened.migrate(what, deadline=deadline, reporter=reporter, **given)
    except StatedError as error:
        found = error.context.get("result")
        if isinstance(found, MigrationResult):
            console.emit_line(found) if machine else migrated.outcome(found, opened.path)
        raise
    console.emit_line(result) if machine else migrated.outcome(result, opened.path)
    logs.note("info", f"migration of '{result.name}': {result.status}", run=result.run_id, status=result.status)


def _abandoned(opened: Store, what: str, machine: bool) -> None:
    found = opened.abandon_migration(_table(what))
    if machine:
        console.emit_line(found)
        return
    console.line(console.plain(f"'{found.name}' stays in the space {found.from_space}"))
    console.line(console.plain(f"next: featstore gc --drop-space {found.name}@{found.to_space}"))


def _table(what: str) -> str:
    """The table that a job's file names, or the name itself."""
    if not what.endswith(".toml"):
        return what
    from featstore.jobs.loading import load

    return load(what).table


def _floors(given: list[str] | None) -> dict[str, float] | None:
    """``HEAD=0.9`` as a number by head."""
    if not given:
        return None
    found: dict[str, float] = {}
    for one in given:
        head, equals, value = one.rpartition("=")
        try:
            found[head] = float(value)
        except ValueError:
            equals = ""
        if not equals or not head:
            raise UsageError(f"--min-accuracy {one}: write HEAD=NUMBER, such as photos-label=0.9.")
    return found
