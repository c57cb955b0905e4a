"""Panel Make: ``predict``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, BinaryIO, cast

import typer

from featstore.cli import console
from featstore.cli.options import MAKE, Json, Quiet, StorePath, Verbose, volume
from featstore.cli.stores import existing
from featstore.errors import TooManyRejectsError, UsageError

if TYPE_CHECKING:
    import pyarrow as pa

    from featstore.predicting import Predictions

__all__ = ["register"]

_WHICH = "Which items"
_SAID = "What is said of each"
_READ = "How a source is read; by default as the head's own table was"
_SHOWN = 20
_CELL = 40


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command(rich_help_panel=MAKE, short_help="Let a head say what the items of a table or source are.")(predict)


def predict(
    head: Annotated[str, typer.Argument(metavar="HEAD", help="HEAD[:VERSION]: see featstore ls heads.")],
    source: Annotated[
        str | None,
        typer.Argument(metavar="SOURCE", help="New items, from whatever extract takes, or one picture or text."),
    ] = None,
    table: Annotated[
        str | None,
        typer.Option(metavar="NAME[:VERSION]", help="The items of a table, not of a source.", rich_help_panel=_WHICH),
    ] = None,
    into: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Extract the source into this table first.", rich_help_panel=_WHICH),
    ] = None,
    where: Annotated[
        str | None,
        typer.Option(metavar="SQL", help="Only items for which it holds: \"site = 'north'\".", rich_help_panel=_WHICH),
    ] = None,
    limit: Annotated[
        int | None, typer.Option(metavar="N", help="Only the first N items.", rich_help_panel=_WHICH)
    ] = None,
    top_k: Annotated[int, typer.Option(metavar="K", help="Name the K likeliest classes.", rich_help_panel=_SAID)] = 3,
    coverage: Annotated[
        float | None,
        typer.Option(
            metavar="SHARE",
            help="Sets of classes that hold the true one for this share of items; abstain where a set is not one "
            "class. Default: 0.9.",
            show_default=False,
            rich_help_panel=_SAID,
        ),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", metavar="FILE", help="The file; it is replaced.")
    ] = None,
    format: Annotated[
        str | None,
        typer.Option(
            metavar="parquet|csv|jsonl",
            help="By default the file's suffix. Without a file csv and jsonl go to standard output.",
            show_default=False,
        ),
    ] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda or cuda:N.", show_default=False)] = None,
    source_root: Annotated[
        str | None,
        typer.Option(metavar="FOLDER", help="Where relative paths in the source begin.", rich_help_panel=_READ),
    ] = None,
    text_column: Annotated[
        list[str] | None, typer.Option(help="A column of texts; may be repeated.", rich_help_panel=_READ)
    ] = None,
    text_template: Annotated[
        str | None, typer.Option(help='Make the text of several columns: "{title}. {body}".', rich_help_panel=_READ)
    ] = None,
    image_column: Annotated[
        str | None, typer.Option(help="The column of image files or bytes.", rich_help_panel=_READ)
    ] = None,
    id_column: Annotated[
        str | None,
        typer.Option(help="The column of ids; without it the content's hash is the id.", rich_help_panel=_READ),
    ] = None,
    chunk_tokens: Annotated[
        int | None, typer.Option(help="Cut texts into items of N tokens at most.", rich_help_panel=_READ)
    ] = None,
    max_reject_share: Annotated[
        float | None,
        typer.Option(
            help="Exit with 3 when more are rejected (and more than 10). Default: 0.01.",
            show_default=False,
            rich_help_panel=_READ,
        ),
    ] = None,
    store: StorePath = None,
    json: Json = False,
    verbose: Verbose = False,
    quiet: Quiet = False,
) -> None:
    """$ featstore predict kinds photos/ --top-k 2

    Says which class each item is, how likely, and where it had better not say.

    New items go through the model of the head's space and are not stored;
    where the store has the vector of an equal content, it is used.
    One that cannot be read stays in the output: the column rejected says why.
    """
    from featstore.cli.progress import reporting

    if json and output is None and format is not None:
        raise UsageError("--json prints a summary; the predictions need a file.", hint="Add -o FILE.")
    reading: dict[str, Any] = {
        "device": device,
        "source_root": source_root,
        "text_column": text_column or None,
        "text_template": text_template,
        "image_column": image_column,
        "id_column": id_column,
        "chunk_tokens": chunk_tokens,
        "max_reject_share": max_reject_share,
    }
    piped = output is None and format is not None
    opened = existing(store)
    try:
        with reporting(quiet=volume.quiet) as reporter:
            found = opened.predict(
                head,
                source,
                table=table,
                top_k=top_k,
                coverage=coverage,
                into=into,
                where=where,
                limit=limit,
                output=_stdout() if piped else output,
                format=format,
                keep=_SHOWN,
                reporter=reporter,
                **{name: value for name, value in reading.items() if value is not None},
            )
    except TooManyRejectsError as error:
        if "predictions" in error.context:
            _tell(cast("Predictions", error.context["predictions"]), json=json, piped=piped)
        raise
    _tell(found, json=json, piped=piped)


def _tell(found: Predictions, *, json: bool, piped: bool) -> None:
    if json:
        console.emit(found.summary)
        return
    if found.rows is not None:
        _show(found.rows, found.summary.items + found.summary.rejected)
    done = found.summary
    say = console.complain if piped else console.line
    if piped and volume.quiet:
        return
    parts = [f"{done.stored:,} with a stored vector", f"{done.embedded:,} embedded"]
    if done.rejected:
        codes = ", ".join(f"{code} {count:,}" for code, count in done.reject_codes.items())
        parts.append(f"{done.rejected:,} rejected ({codes})")
    say(
        f"{console.plain(done.head)}:{done.version} on {console.plain(done.source)}: "
        f"{console.count(done.items, 'item')}, {', '.join(parts)}; {done.seconds:,.1f} s"
    )
    if done.coverage is not None and done.items and done.task == "classification":
        several = done.abstained - done.empty_sets
        say(
            f"abstains on {done.abstained:,} ({done.abstained / done.items:.1%}) at a coverage of {done.coverage:g}: "
            f"{done.empty_sets:,} like no class, {several:,} like several"
        )
    if done.path is not None:
        say(console.plain(done.path))


def _show(rows: pa.Table, total: int) -> None:
    names: list[str] = [
        name for name in ("item_id", "predicted", "probability", "abstain") if name in rows.column_names
    ]
    if "rejected" in rows.column_names and rows["rejected"].null_count < rows.num_rows:
        names.append("rejected")
    columns = [[_cell(value) for value in rows[name].to_pylist()] for name in names]
    if "top_labels" in rows.column_names:
        names.append("next")
        labels, shares = rows["top_labels"].to_pylist(), rows["top_probabilities"].to_pylist()
        columns.append(list(map(_next, labels, shares)))
    if rows.num_rows:
        console.grid(names, zip(*columns, strict=True), right=("probability",))
    if total > rows.num_rows:
        console.line(f"… {total - rows.num_rows:,} more; all of them: -o FILE.parquet, or --format csv")


def _next(labels: list[str] | None, shares: list[float] | None) -> str:
    """The classes behind the first."""
    pairs = list(zip(labels or (), shares or (), strict=True))[1:]
    return ", ".join(f"{_cell(label)} {share:.2f}" for label, share in pairs)


def _cell(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else ""
    if isinstance(value, float):
        return f"{value:.3f}"
    text = ", ".join(map(str, value)) if isinstance(value, list) else "" if value is None else str(value)
    return text if len(text) <= _CELL else f"{text[: _CELL - 1]}…"


def _stdout() -> BinaryIO:
    """Standard output as bytes; whole lines are written at once, so that a text stream can take them too."""
    return cast("BinaryIO", getattr(sys.stdout, "buffer", None) or _AsText())


class _AsText:
    def write(self, data: bytes | memoryview) -> int:
        return sys.stdout.write(bytes(data).decode())
