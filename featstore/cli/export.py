"""Panel Make: ``export``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from featstore.cli import console
from featstore.cli.options import MAKE, Json, Quiet, StorePath, Verbose, volume
from featstore.cli.stores import existing
from featstore.errors import NotFoundError, UsageError

if TYPE_CHECKING:
    from featstore.records import ExportResult

__all__ = ["register"]

_ROWS = "Which rows and columns"


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command(rich_help_panel=MAKE, short_help="Write a table out as Parquet, CSV, npz or safetensors.")(export)


def export(
    address: Annotated[str, typer.Argument(metavar="ADDRESS", help="NAME\\[@MODEL][:VERSION].")],
    output: Annotated[Path, typer.Option("-o", "--output", metavar="FILE", help="The file; it is replaced.")],
    format: Annotated[
        str | None,
        typer.Option(metavar="parquet|csv|npz|safetensors", help="By default the file's suffix.", show_default=False),
    ] = None,
    where: Annotated[
        str | None,
        typer.Option(metavar="SQL", help="Only rows for which it holds: \"label = 'cat'\".", rich_help_panel=_ROWS),
    ] = None,
    ids: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Only these items, one id a line.", rich_help_panel=_ROWS)
    ] = None,
    allow_missing: Annotated[
        bool, typer.Option("--allow-missing", help="Leave out ids that are not there.", rich_help_panel=_ROWS)
    ] = False,
    as_of: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="As the table was then: 2026-05-04T03:02:01Z.", rich_help_panel=_ROWS),
    ] = None,
    columns: Annotated[
        str | None,
        typer.Option(
            metavar="A,B", help="Only these beside item_id and embedding. Default: all.", rich_help_panel=_ROWS
        ),
    ] = None,
    store: StorePath = None,
    json: Json = False,
    verbose: Verbose = False,
    quiet: Quiet = False,
) -> None:
    """$ featstore export photos -o photos.parquet

    Writes a table's ids, vectors and columns into one file for other programs.

    The file says which space, version and model card it comes from.
    npz and safetensors hold ids and vectors, and the columns named by --columns.
    """
    from featstore.cli.progress import reporting

    listed = None if ids is None else _ids(ids)
    named = None if columns is None else [name.strip() for name in columns.split(",") if name.strip()]
    opened = existing(store)
    with reporting(quiet=volume.quiet) as reporter:
        result = opened.export(
            address,
            output,
            format=format,
            where=where,
            ids=listed,
            allow_missing=allow_missing,
            as_of=as_of,
            columns=named,
            reporter=reporter,
        )
    console.emit(result) if json else _report(result)


def _ids(file: Path) -> list[str]:
    """The lines of a file; empty ones do not count."""
    try:
        text = file.read_text("utf-8-sig")
    except FileNotFoundError as error:
        raise NotFoundError(f"--ids {file}: there is no such file.") from error
    except OSError as error:
        raise UsageError(f"--ids {file} cannot be read: {error.strerror or error}.") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"--ids {file}: byte {error.start} is not UTF-8.") from error
    found = [line for line in text.split("\n") if line]
    if not found:
        raise UsageError(f"--ids {file} names no item.", hint="Write one item_id a line.")
    return found


def _report(result: ExportResult) -> None:
    at = console.plain(f"{result.table}@{result.space_id}:{result.version}")
    console.line(
        f"{at}: {result.rows:,} of {console.count(result.items, 'item')}, {result.dim} values each, "
        f"in {result.seconds:,.1f} s"
    )
    console.line(f"{console.plain(result.path)} ({result.format}, {console.size(result.bytes)})")
    if result.format == "csv":
        console.line(f"{console.plain(result.path)}.json (where it comes from)")
    if result.missing:
        first = ", ".join(map(console.plain, result.missing_ids)) + (", …" if result.missing > 10 else "")
        console.line(f"not there: {console.count(result.missing, 'id')}: {first}")
