"""Group ``jobs``: ``new`` and ``check``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from featstore.cli import console
from featstore.cli.options import GROUPS, Json, Quiet, StorePath, Verbose
from featstore.cli.standings import by_store
from featstore.cli.stores import existing
from featstore.errors import SettingsError

if TYPE_CHECKING:
    from featstore.records import JobCheck

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Adds the group."""
    group = typer.Typer(
        help="$ featstore jobs check photos.toml\n\nJobs: what a scheduled refresh is told, as TOML files.",
        short_help="Write or check a job's file.",
        no_args_is_help=True,
    )
    group.command(short_help="Write a job that keeps a table as it is now.")(new)
    group.command(short_help="Name every error of jobs' files.")(check)
    app.add_typer(group, name="jobs", rich_help_panel=GROUPS)


def new(
    name: Annotated[str, typer.Argument(metavar="NAME", help="What the job shall be called, or a table's address.")],
    table: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS", help="NAME\\[@MODEL]. Default: the table of the job's name.", show_default=False
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", metavar="FILE.toml", help="Default: NAME.toml.", show_default=False),
    ] = None,
    store: StorePath = None,
    json: Json = False,
    verbose: Verbose = False,
    quiet: Quiet = False,
) -> None:
    """$ featstore jobs new photos

    Writes a commented job from a table that is there: its source and model, its index, its heads.

    Its gates are set to what was measured: the lower ends of the intervals. A file that is there is never replaced.
    """
    found = existing(store).new_job(name, table=table, output=output)
    if json:
        console.emit(found)
        return
    console.line(console.plain(found.file))
    for note in found.notes:
        console.line(f"note: {console.plain(note)}")
    console.line(f"next: featstore jobs check {console.plain(found.file)}")


def check(
    files: Annotated[list[Path], typer.Argument(metavar="FILE ...", help="Jobs' TOML files.")],
    store: StorePath = None,
    json: Json = False,
    verbose: Verbose = False,
    quiet: Quiet = False,
) -> None:
    """$ featstore jobs check photos.toml

    Names every error of jobs' files, with its line, its key and the nearest key that there is. Runs nothing.

    Where the store is there, it also warns of what the job would stumble over, such as a source that is gone.
    Paths in a job begin in its file's folder. Exits with 2 where a file has an error.
    """
    found = [one for group in by_store(files, store) for one in group[0].check_jobs(group[1])]
    found.sort(key=lambda one: [str(file) for file in files].index(one.file))
    if json:
        console.emit(found)
    else:
        for one in found:
            _print(one)
    wrong = [one.file for one in found if one.problems]
    if wrong:
        raise SettingsError(f"{len(wrong)} of {console.count(len(found), 'file')} cannot be run: {', '.join(wrong)}.")


def _print(found: JobCheck) -> None:
    for problem in found.problems:
        where = f"{found.file}:{problem.line}" if problem.line is not None else found.file
        said = f"{problem.path}: {problem.text}" if problem.path else problem.text
        console.line(console.plain(f"{where}: error: {said}"))
    for warning in found.warnings:
        console.line(console.plain(f"{found.file}: warning: {warning}"))
    if not found.problems:
        console.line(console.plain(f"{found.file}: ok, job '{found.job}' keeps table '{found.table}'"))
