"""Panel Make: ``extract``."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

import typer

from featstore.cli import console
from featstore.cli.options import MAKE, DryRun, Json, Quiet, StorePath, Verbose, volume
from featstore.errors import InterruptedRunError, SettingsError, StatedError, TooManyRejectsError

__all__ = ["register"]

_MODEL = "What is changed of the model (makes another space)"
_READ = "How the source is read (remembered for the table's next runs)"
_MAY = "What the run may do"
_KEPT = "What is kept beside the vectors"
_WORK = "How the work is cut"

_Text = str | None
_Switch = bool | None


def register(app: typer.Typer) -> None:
    """Adds the panel's commands."""
    app.command(
        rich_help_panel=MAKE,
        short_help="Bring a table in step with a folder or file: embed what is new.",
    )(extract)


def extract(
    source: Annotated[
        str,
        typer.Argument(
            metavar="SOURCE",
            help="A folder of images, texts or WebDataset tars; a tar or name-{000..009}.tar; "
            "a CSV, JSONL, Parquet or Arrow file; - for a list of files on standard input.",
        ),
    ],
    model: Annotated[_Text, typer.Option(help="The backbone: see featstore models list. Required.")] = None,
    name: Annotated[_Text, typer.Option(help="The table's name; by default the source's last part.")] = None,
    weights: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Take the model's weights from a .safetensors or .pth file.")
    ] = None,
    device: Annotated[_Text, typer.Option(help="auto, cpu, cuda or cuda:N.", show_default=False)] = None,
    backend: Annotated[
        _Text,
        typer.Option(
            metavar="onnxruntime|openvino",
            help="What computes the model. Default: what models bench kept, else onnxruntime.",
            rich_help_panel=_WORK,
        ),
    ] = None,
    pooling: Annotated[
        _Text, typer.Option(metavar="mean|cls|last|max", help="Pool in another way.", rich_help_panel=_MODEL)
    ] = None,
    layer: Annotated[
        _Text, typer.Option(help="Take another layer's output, by its name.", rich_help_panel=_MODEL)
    ] = None,
    dim: Annotated[
        int | None,
        typer.Option(help="Keep the first N values, made of length 1 again.", rich_help_panel=_MODEL),
    ] = None,
    prompt_document: Annotated[
        _Text, typer.Option(metavar="TEXT", help="Put this in front of each text.", rich_help_panel=_MODEL)
    ] = None,
    prompt_query: Annotated[
        _Text, typer.Option(metavar="TEXT", help="Put this in front of each query.", rich_help_panel=_MODEL)
    ] = None,
    decode: Annotated[
        _Text,
        typer.Option(
            metavar="exact|fast",
            help="fast reads large JPEGs at a fraction of their size. Default: exact.",
            rich_help_panel=_MODEL,
        ),
    ] = None,
    precision: Annotated[
        _Text,
        typer.Option(
            metavar="fp32|int8",
            help="int8 computes in 8 bits, once a gate has passed on these items. Default: fp32.",
            rich_help_panel=_MODEL,
        ),
    ] = None,
    store: StorePath = None,
    dry_run: DryRun = False,
    json: Json = False,
    verbose: Verbose = False,
    quiet: Quiet = False,
    source_root: Annotated[
        _Text,
        typer.Option(metavar="FOLDER", help="Where relative paths in the source begin.", rich_help_panel=_READ),
    ] = None,
    label_from: Annotated[
        _Text, typer.Option(metavar="folder", help="Label images with their folder's name.", rich_help_panel=_READ)
    ] = None,
    text_column: Annotated[
        list[str] | None, typer.Option(help="A column of texts; may be repeated.", rich_help_panel=_READ)
    ] = None,
    text_template: Annotated[
        _Text, typer.Option(help='Make the text of several columns: "{title}. {body}".', rich_help_panel=_READ)
    ] = None,
    image_column: Annotated[
        _Text, typer.Option(help="The column of image files or bytes.", rich_help_panel=_READ)
    ] = None,
    id_column: Annotated[
        _Text, typer.Option(help="The column of ids; without it the content's hash is the id.", rich_help_panel=_READ)
    ] = None,
    label_column: Annotated[_Text, typer.Option(help="The column to keep as label.", rich_help_panel=_READ)] = None,
    group_column: Annotated[_Text, typer.Option(help="The column to keep as group.", rich_help_panel=_READ)] = None,
    split_column: Annotated[_Text, typer.Option(help="The column to keep as split.", rich_help_panel=_READ)] = None,
    time_column: Annotated[_Text, typer.Option(help="The column to keep as event_ts.", rich_help_panel=_READ)] = None,
    chunk_tokens: Annotated[
        int | None, typer.Option(help="Cut texts into items of N tokens at most.", rich_help_panel=_READ)
    ] = None,
    chunk_overlap: Annotated[
        int | None, typer.Option(help="Tokens that neighbouring chunks share. Default: 0.", rich_help_panel=_READ)
    ] = None,
    add: Annotated[
        _Switch, typer.Option("--add", help="Put another source's items beside those there.", rich_help_panel=_MAY)
    ] = None,
    limit: Annotated[
        int | None, typer.Option(help="Take only the first N items; removes nothing.", rich_help_panel=_MAY)
    ] = None,
    sample: Annotated[
        int | None,
        typer.Option(help="Take a fixed random sample of N items; removes nothing.", rich_help_panel=_MAY),
    ] = None,
    rehash: Annotated[
        _Switch, typer.Option("--rehash", help="Read every file again, also unchanged ones.", rich_help_panel=_MAY)
    ] = None,
    retype: Annotated[
        _Switch, typer.Option("--retype", help="Accept a column whose type has changed.", rich_help_panel=_MAY)
    ] = None,
    allow_removals: Annotated[
        _Switch,
        typer.Option("--allow-removals", help="Let any number of items leave.", rich_help_panel=_MAY),
    ] = None,
    max_removed_share: Annotated[
        float | None,
        typer.Option(
            help="Refuse to let more of the table leave (and more than 10). Default: 0.2.", rich_help_panel=_MAY
        ),
    ] = None,
    retry_rejects: Annotated[
        _Switch, typer.Option("--retry-rejects", help="Try items again that were refused.", rich_help_panel=_MAY)
    ] = None,
    max_reject_share: Annotated[
        float | None,
        typer.Option(
            help="Exit with 3 when more are rejected (and more than 10). Default: 0.01.", rich_help_panel=_MAY
        ),
    ] = None,
    previews: Annotated[
        _Switch,
        typer.Option(
            "--previews/--no-previews", help="Thumbnails or beginnings of texts. Default: yes.", rich_help_panel=_KEPT
        ),
    ] = None,
    keep_text: Annotated[
        _Switch, typer.Option("--keep-text", help="Store whole texts in the table.", rich_help_panel=_KEPT)
    ] = None,
    history: Annotated[
        _Switch,
        typer.Option(
            "--history", help="From now on keep the rows that leave the table beside it.", rich_help_panel=_KEPT
        ),
    ] = None,
    batch_size: Annotated[
        int | None, typer.Option(help="Images in a batch; by default 8 on a CPU.", rich_help_panel=_WORK)
    ] = None,
    token_budget: Annotated[
        int | None,
        typer.Option(help="Padded tokens in a batch of texts; by default 256 on a CPU.", rich_help_panel=_WORK),
    ] = None,
    shard_items: Annotated[
        int | None, typer.Option(help="Items in a shard; a killed run loses one at most.", rich_help_panel=_WORK)
    ] = None,
    workers: Annotated[
        int | None, typer.Option(help="Threads; by default the usable CPUs.", rich_help_panel=_WORK)
    ] = None,
) -> None:
    """$ featstore extract photos/ --model efficientnet_lite0

    Brings a table in step with a source: embeds what is new, drops what is gone.

    Each flag can also be set as FEATSTORE_ and its name in capitals.
    Exit codes: 3 too many items were rejected, the others are stored;
    5 too many items would leave, nothing was changed;
    130 or 143 stopped, run it again to go on.
    """
    flags: dict[str, Any] = {k: v for k, v in locals().items() if k not in _NO_SETTINGS}
    flags["text_column"] = text_column or None
    if model is None and "FEATSTORE_MODEL" not in os.environ:
        raise SettingsError(
            "no model was named.", hint="Add --model efficientnet_lite0, or another of: featstore models list"
        )

    from featstore.cli import report, stores
    from featstore.cli.progress import reporting
    from featstore.records import ExtractResult

    opened = stores.at(store)
    if dry_run:
        planned = opened.plan(source, **flags)
        console.emit(planned) if json else report.rehearsal(planned)
        return
    try:
        with reporting(quiet=volume.quiet) as reporter:
            table = opened.extract(source, reporter=reporter, **flags)
    except StatedError as error:
        result = error.context.get("result")
        if isinstance(result, ExtractResult):
            if json:
                console.emit(result)
            elif isinstance(error, TooManyRejectsError | InterruptedRunError):
                report.extraction(result)
        raise
    assert table.last_run is not None
    console.emit(table.last_run) if json else report.extraction(table.last_run)


_NO_SETTINGS = frozenset({"source", "store", "dry_run", "json", "verbose", "quiet"})
