"""Panel Make: ``export``, of a table or a head."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from featstore.cli import console
from featstore.cli.options import MAKE, Json, Quiet, StorePath, Verbose, volume
from featstore.cli.stores import existing
from featstore.errors import NotFoundError, UsageError

if TYPE_CHECKING:
    from featstore.records import ExportResult, FeatureExport, HeadExport
    from featstore.store import Store

__all__ = ["register"]

_ROWS = "Which rows and columns of a table"
_HEAD = "What of a head"


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command(
        rich_help_panel=MAKE, short_help="Write a table out as Parquet, CSV, npz or safetensors, a head as ONNX."
    )(export)


def export(
    named: Annotated[
        list[str],
        typer.Argument(
            metavar="ADDRESS...",
            help="A table, NAME\\[@MODEL][:VERSION], or a head, HEAD[:VERSION]; several tables go side by side, "
            "with a column of one as ADDRESS[COLUMN].",
        ),
    ],
    output: Annotated[Path, typer.Option("-o", "--output", metavar="FILE", help="The file; it is replaced.")],
    format: Annotated[
        str | None,
        typer.Option(
            metavar="parquet|csv|npz|safetensors|onnx", help="By default the file's suffix.", show_default=False
        ),
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
        typer.Option(metavar="TIME", help="As the tables were then: 2026-05-04T03:02:01Z.", rich_help_panel=_ROWS),
    ] = None,
    columns: Annotated[
        str | None,
        typer.Option(
            metavar="A,B", help="Only these beside item_id and embedding. Default: all.", rich_help_panel=_ROWS
        ),
    ] = None,
    fused: Annotated[
        bool,
        typer.Option(
            "--fused", help="Of a head: from pixels or token ids on, not from vectors.", rich_help_panel=_HEAD
        ),
    ] = False,
    store: StorePath = None,
    json: Json = False,
    verbose: Verbose = False,
    quiet: Quiet = False,
) -> None:
    """$ featstore export photos -o photos.parquet

    Writes a table's ids, vectors and columns into one file for other programs.

    The file says which space, version and model card it comes from.
    npz and safetensors hold ids and vectors, and the columns named by --columns.
    Several tables are joined by id: a row for each of --ids, or of the first table;
    ADDRESS__missing says why one has no vector.
    A head becomes one ONNX file (-o FILE.onnx), kept only if it says there what it says here.
    """
    from featstore.cli.progress import reporting

    listed = None if ids is None else _ids(ids)
    chosen = None if columns is None else [name.strip() for name in columns.split(",") if name.strip()]
    opened = existing(store)
    if len(named) > 1 or "[" in named[0]:
        single = {
            "--where": where,
            "--allow-missing": allow_missing or None,
            "--columns": columns,
            "--fused": fused or None,
        }
        unfit = [name for name, value in single.items() if value is not None]
        if unfit:
            raise UsageError(f"{unfit[0]} is for one table.", hint="A column beside its vectors is ADDRESS[COLUMN].")
        with reporting(quiet=volume.quiet) as reporter:
            joined = opened.export_features(named, output, ids=listed, as_of=as_of, format=format, reporter=reporter)
        console.emit(joined) if json else _report_joined(joined)
        return
    address = named[0]
    if fused or format == "onnx" or (format is None and _is_head(opened, address, output)):
        given = {"--where": where, "--ids": ids, "--as-of": as_of, "--columns": columns}
        unfit = [name for name, value in given.items() if value is not None]
        if unfit:
            raise UsageError(f"{unfit[0]} is for tables; '{address}' is exported as a head.")
        head = opened.export_head(address, output, format=format, fused=fused)
        console.emit(head) if json else _report_head(head)
        return
    with reporting(quiet=volume.quiet) as reporter:
        result = opened.export(
            address,
            output,
            format=format,
            where=where,
            ids=listed,
            allow_missing=allow_missing,
            as_of=as_of,
            columns=chosen,
            reporter=reporter,
        )
    console.emit(result) if json else _report(result)


def _is_head(opened: Store, address: str, output: Path) -> bool:
    """Whether a head is meant: by the file's name, or because no table is called so."""
    from featstore.heads.opening import has_head

    if output.suffix.lower() == ".onnx":
        return True
    name = address.partition("@")[0].partition(":")[0]
    return name not in opened.layout.storage.folders("features") and has_head(opened.layout, address)


def _report_head(result: HeadExport) -> None:
    takes = ", ".join(f"{name} {shape}" for name, shape in result.inputs.items())
    gives = ", ".join(f"{name} {shape}" for name, shape in result.outputs.items())
    console.line(console.plain(f"{result.head}:{result.version}: {takes} → {gives}"))
    console.line(
        f"compared on {console.count(result.compared, 'item')}: they differ by {result.difference:.1g} at most, "
        f"{result.agreement:.2%} have the same first class"
    )
    console.line(f"{console.plain(result.path)} ({console.size(result.bytes)})")


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


def _report_joined(result: FeatureExport) -> None:
    when = "" if result.as_of is None else f" as of {result.as_of}"
    console.line(f"{console.count(result.rows, 'item')}{when}, in {result.seconds:,.1f} s")
    for table in result.tables:
        why = "; ".join(f"{reason} {count:,}" for reason, count in table.reasons.items())
        missing = f", {table.missing:,} missing: {why}" if table.missing else ""
        at = console.plain(f"{table.table}@{table.space_id}:{table.version}")
        console.line(f"{console.plain(table.address)} ({at}): {table.dim} values each{missing}")
    console.line(f"{console.plain(result.path)} ({result.format}, {console.size(result.bytes)})")


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
