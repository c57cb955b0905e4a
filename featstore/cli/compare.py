"""``models compare``."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from featstore.cli import console
from featstore.cli.console import count, line, plain, size
from featstore.cli.options import Json, Quiet, StorePath, Verbose, volume

if TYPE_CHECKING:
    from featstore.records import ComparedModel, Comparison

__all__ = ["register"]

_READ = "How the source is read (remembered for the table's next runs)"
_WORK = "How the work is done"

_Text = str | None


def register(group: typer.Typer) -> None:
    """Adds the command to the group ``models``."""
    group.command(short_help="Compare backbones on a sample of your own items.")(compare)


def compare(
    source: Annotated[
        str,
        typer.Argument(metavar="SOURCE", help="A folder of images or texts, or a CSV, JSONL, Parquet or Arrow file."),
    ],
    models: Annotated[str, typer.Option(metavar="A,B,C", help="The backbones, separated by commas.")],
    sample: Annotated[
        int | None, typer.Option(help="Take a fixed random sample of N items. Default: 2000.", show_default=False)
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "-o", "--output", metavar="FOLDER", help="Draw there, for each model, the neighbours of the same 5 items."
        ),
    ] = None,
    name: Annotated[_Text, typer.Option(help="The table's name; by default the source's last part.")] = None,
    store: StorePath = None,
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
    label_column: Annotated[
        _Text, typer.Option(help="The column to keep as label, and to judge by.", rich_help_panel=_READ)
    ] = None,
    group_column: Annotated[
        _Text, typer.Option(help="The column to keep as group; a group is never split.", rich_help_panel=_READ)
    ] = None,
    split_column: Annotated[_Text, typer.Option(help="The column to keep as split.", rich_help_panel=_READ)] = None,
    time_column: Annotated[_Text, typer.Option(help="The column to keep as event_ts.", rich_help_panel=_READ)] = None,
    device: Annotated[
        _Text, typer.Option(help="auto, cpu, cuda or cuda:N.", show_default=False, rich_help_panel=_WORK)
    ] = None,
    batch_size: Annotated[
        int | None, typer.Option(help="Images in a batch; by default 8 on a CPU.", rich_help_panel=_WORK)
    ] = None,
    token_budget: Annotated[
        int | None,
        typer.Option(help="Padded tokens in a batch of texts; by default 256 on a CPU.", rich_help_panel=_WORK),
    ] = None,
    workers: Annotated[
        int | None, typer.Option(help="Threads; by default the usable CPUs.", rich_help_panel=_WORK)
    ] = None,
) -> None:
    """$ featstore models compare photos/ --models efficientnet_lite0,resnet18 --label-from folder

    Embeds one sample with each backbone and says what they are worth there, and what they cost here.

    The vectors stay in the source's table: a later extract reuses them.
    With labels: accuracy of a linear probe on items it has not seen, in the same 5 folds for all,
    and how far each is from the best, with a paired 95 % interval.
    Without: how many of an item's nearest neighbours two backbones have in common.
    """
    flags: dict[str, Any] = {k: v for k, v in locals().items() if k not in _NO_SETTINGS}
    flags["text_column"] = text_column or None

    import featstore
    from featstore.cli.progress import reporting

    with reporting(quiet=volume.quiet) as reporter:
        found = featstore.open(store).compare(source, models.split(","), output=output, reporter=reporter, **flags)
    console.emit(found) if json else _report(found)


_NO_SETTINGS = frozenset({"source", "models", "output", "store", "json", "verbose", "quiet"})


def _report(found: Comparison) -> None:
    of = "all" if found.compared == found.source_items else f"{found.compared:,} of"
    line(f"{plain(found.table)}: {of} {count(found.source_items, f'{found.modality} item')} compared")
    probed = found.folds > 0
    if probed:
        line(
            f"probe: logistic regression on {count(found.labelled, 'labelled item')} of {found.classes:,} classes, "
            f"{found.folds} folds; always the most frequent class: {found.majority:.1%}"
        )
    whole = f"all {found.source_items:,}"
    judged = ("accuracy", "balanced", "points to the best, 95 %") if probed else ()
    numbers = (*judged, "items/s", whole, "vectors", "dim", "parameters", "model")
    console.grid(
        ("backbone", *numbers, "licence"),
        (
            (
                model.model,
                *(_judged(model) if probed else ()),
                f"{model.items_per_s:,.1f}",
                _duration(model.whole_seconds),
                size(model.whole_bytes),
                model.dim,
                f"{model.parameters:,}",
                size(model.model_bytes),
                model.licence,
            )
            for model in found.models
        ),
        right=numbers,
    )
    names = {model.space_id: plain(model.model) for model in found.models}
    for one, other in itertools.combinations(names, 2):
        share = found.overlap.get(one, {}).get(other)
        if share is not None:
            line(f"{share:.1%} of the {found.neighbours} nearest are the same: {names[one]}, {names[other]}")
    if found.overlap and len(names) > 1 and found.chance is not None:
        line(f"{found.chance:.1%} would be by chance")
    for file in found.files:
        line(plain(file))
    for warning in found.warnings:
        line(f"warning: {plain(warning)}")


def _judged(model: ComparedModel) -> tuple[str, str, str]:
    if model.accuracy is None or model.balanced_accuracy is None:
        return "", "", ""
    behind = "best"
    if model.difference is not None and model.difference_low is not None and model.difference_high is not None:
        behind = "{:+.1f} [{:+.1f}, {:+.1f}]".format(
            *(100 * value for value in (model.difference, model.difference_low, model.difference_high))
        )
    return f"{model.accuracy:.1%}", f"{model.balanced_accuracy:.1%}", behind


def _duration(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:,.0f} s"
    return f"{seconds / 60:,.0f} min" if seconds < 6000 else f"{seconds / 3600:,.1f} h"
