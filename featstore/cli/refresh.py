"""Panel Keep fresh: ``refresh``, ``publish`` and ``rollback``."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from featstore.cli import console, logs, stores
from featstore.cli.options import KEEP_FRESH, DryRun, Json, Quiet, StorePath, Verbose, volume
from featstore.errors import SettingsError, StatedError

if TYPE_CHECKING:
    from featstore.jobs import Job
    from featstore.store import Store

__all__ = ["register"]

_OVER = "Over what the job says"

# Above it are the codes of signals.
_MOST_CODE = 125


def register(app: typer.Typer) -> None:
    """Adds the panel's commands."""
    app.command(
        rich_help_panel=KEEP_FRESH, short_help="Run a job: bring table, index and heads up to date, then publish."
    )(refresh)
    app.command(rich_help_panel=KEEP_FRESH, short_help="Let a table's name mean what a run made, or another version.")(
        publish
    )
    app.command(rich_help_panel=KEEP_FRESH, short_help="Go back to what was published before.")(rollback)


def refresh(
    job: Annotated[Path, typer.Argument(metavar="JOB", help="The job's TOML file: see featstore jobs new.")],
    as_of: Annotated[
        str | None,
        typer.Option(
            metavar="TIME",
            help="Take this for now: items of a later time (time_column) are left for later runs. ISO 8601, UTC.",
        ),
    ] = None,
    deadline: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="Begin no further shard or step after so long: 90s, 45m, 2h. Exits with 7."),
    ] = None,
    limit: Annotated[
        int | None, typer.Option(help="Take only the first N items; removes nothing.", rich_help_panel=_OVER)
    ] = None,
    device: Annotated[
        str | None, typer.Option(help="auto, cpu, cuda or cuda:N.", show_default=False, rich_help_panel=_OVER)
    ] = None,
    workers: Annotated[
        int | None, typer.Option(help="Threads; by default the usable CPUs.", rich_help_panel=_OVER)
    ] = None,
    noop_exit_code: Annotated[
        int, typer.Option(metavar="N", help="Exit with N when there is nothing new; Airflow skips on 99.")
    ] = 0,
    log_format: Annotated[
        str, typer.Option(metavar="text|json", help="With json every line on stderr is one JSON object.")
    ] = "text",
    store: StorePath = None,
    dry_run: DryRun = False,
    json: Json = False,
    verbose: Verbose = False,
    quiet: Quiet = False,
) -> int:
    """$ featstore refresh photos.toml

    Runs a job: brings its table, heads and index up to date, asks its gates, then publishes all of it or nothing.

    Until the end, readers see what was published before. Progress goes to stderr.
    With --json, or where stdout is no terminal, stdout is the result on one line of JSON.

    Exit codes:
    0 published, publishing is held, or nothing new (--noop-exit-code);
    1 a bug;
    2 the job, a flag or the source cannot be used as given;
    4 stored bytes are not what was written;
    5 a gate refused, nothing was published;
    6 another run holds the lock or was faster;
    7 a disk or a hub failed or the deadline has passed, run it again;
    130 or 143 stopped by Ctrl-C or SIGTERM, run it again to go on.
    """
    if log_format not in ("text", "json"):
        raise SettingsError(f"--log-format is 'text' or 'json', not '{log_format}'.")
    if not 0 <= noop_exit_code <= _MOST_CODE:
        raise SettingsError(f"--noop-exit-code is from 0 to {_MOST_CODE}, not {noop_exit_code}.")
    from featstore.jobs.loading import load

    given = {"limit": limit, "device": device, "workers": workers}
    loaded = load(job, {key: value for key, value in given.items() if value is not None})
    logs.about(job=loaded.name)
    machine = json or not sys.stdout.isatty()
    opened = _opened(store, loaded)
    if dry_run:
        return _rehearse(opened, loaded, as_of, machine)
    return _run(opened, loaded, as_of, deadline, noop_exit_code, machine)


def publish(
    what: Annotated[str, typer.Argument(metavar="RUN", help="A run's id, or NAME\\[@MODEL]:VERSION.")],
    reason: Annotated[
        str | None, typer.Option(metavar="TEXT", help="Why; needed where a gate had refused. Kept with it.")
    ] = None,
    store: StorePath = None,
    json: Json = False,
    verbose: Verbose = False,
    quiet: Quiet = False,
) -> None:
    """$ featstore publish photos:0 --reason "looked at it"

    Lets a table's name mean what a run made, whatever its gates said, or another version; lifts a hold.

    Table version, index and heads move together, in one step.
    """
    from featstore.cli import refreshed

    result = stores.existing(store).publish(what, reason=reason)
    console.emit(result) if json else refreshed.moved(result)


def rollback(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The table.")],
    hold: Annotated[bool, typer.Option("--hold", help="From now on publish nothing but on request.")] = False,
    reason: Annotated[str | None, typer.Option(metavar="TEXT", help="Why; kept with it.")] = None,
    store: StorePath = None,
    json: Json = False,
    verbose: Verbose = False,
    quiet: Quiet = False,
) -> None:
    """$ featstore rollback photos --reason "wrong labels"

    Goes back to what was published before: table version, index and heads together, in one step.

    What is taken back is not published by a job again unless its inputs have changed.
    """
    from featstore.cli import refreshed

    result = stores.existing(store).rollback(name, hold=hold, reason=reason)
    console.emit(result) if json else refreshed.moved(result)


def _opened(store: Path | None, job: Job) -> Store:
    """The store of the flag, else of the environment, else of the job, else the nearest; the first run makes it."""
    if store is None and "FEATSTORE_STORE" not in os.environ and job.store is not None:
        return stores.at(job.store)
    return stores.at(store)


def _rehearse(opened: Store, job: Job, as_of: str | None, machine: bool) -> int:
    from featstore.cli import refreshed

    plan = opened.plan_refresh(job, as_of=as_of)
    console.emit_line(plan) if machine else refreshed.rehearsal(plan)
    return 0


def _run(opened: Store, job: Job, as_of: str | None, deadline: str | None, noop_exit_code: int, machine: bool) -> int:
    from featstore.cli import refreshed
    from featstore.cli.progress import reporting
    from featstore.records import RefreshResult

    try:
        with reporting(quiet=volume.quiet) as reporter:
            result = opened.refresh(job, as_of=as_of, deadline=deadline, reporter=reporter)
    except StatedError as error:
        found = error.context.get("result")
        if isinstance(found, RefreshResult):
            if not machine:
                refreshed.outcome(found)
            else:
                console.emit_line(found)
                if not logs.active():  # there the error's own line holds them
                    for text in refreshed.behind(found):
                        console.complain(text)
        raise
    if machine:
        console.emit_line(result)
    else:
        refreshed.outcome(result)
    logs.note("info", refreshed.summary(result), run=result.run_id, status=result.status, seconds=result.seconds)
    return noop_exit_code if result.status == "nothing new" else 0
