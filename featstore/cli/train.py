"""Panel Make: ``train-head``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from featstore.cli import console, heads
from featstore.cli.options import MAKE, DryRun, Json, Quiet, StorePath, Verbose, volume
from featstore.cli.stores import existing
from featstore.errors import UsageError

if TYPE_CHECKING:
    from featstore.records import HeadPlan

__all__ = ["register"]

_MEASURED = "What it is measured on"
_TORCH = "Torch heads"
_Text = str | None
_NO_SETTINGS = frozenset({"tables", "store", "json", "dry_run", "verbose", "quiet"})


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command("train-head", rich_help_panel=MAKE, short_help="Train a light model on a table's vectors.")(train)


def train(
    tables: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[TABLE ...]",
            help="NAME\\[@MODEL][:VERSION]; several are compared. Default: the one that has the labels.",
            show_default=False,
        ),
    ] = None,
    label: Annotated[
        _Text, typer.Option(metavar="COLUMN", help="The column with the labels. Default: label.", show_default=False)
    ] = None,
    labels: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Take the labels from a .csv, .jsonl or .parquet file, joined by item_id or path.",
            show_default=False,
        ),
    ] = None,
    kind: Annotated[
        _Text,
        typer.Option(
            metavar="auto|logistic|knn|prototypes|ridge|torch-linear|torch-mlp",
            help="Which kind of head. Default: auto, the best.",
            show_default=False,
        ),
    ] = None,
    name: Annotated[_Text, typer.Option(help="The head's name. Default: TABLE-LABEL.", show_default=False)] = None,
    task: Annotated[
        _Text,
        typer.Option(
            metavar="classification|multilabel|regression",
            help="What is predicted. Default: what the labels look like.",
            show_default=False,
        ),
    ] = None,
    separator: Annotated[
        _Text, typer.Option(help="What stands between several labels in one text.", show_default=False)
    ] = None,
    where: Annotated[
        _Text, typer.Option(metavar="SQL", help="Only items that fulfil this expression.", show_default=False)
    ] = None,
    class_weights: Annotated[
        _Text, typer.Option(metavar="balanced", help="Let every class count as much as any other.", show_default=False)
    ] = None,
    drop_rare: Annotated[
        bool | None, typer.Option("--drop-rare", help="Leave out classes with too few items.", show_default=False)
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Of everything drawn. Default: 0.", show_default=False)] = None,
    report: Annotated[
        Path | None, typer.Option(metavar="FILE.html", help="Write a page about the head.", show_default=False)
    ] = None,
    mlflow: Annotated[
        _Text, typer.Option(metavar="URI", help="Also log the head to MLflow.", show_default=False)
    ] = None,
    store: StorePath = None,
    dry_run: DryRun = False,
    json: Json = False,
    verbose: Verbose = False,
    quiet: Quiet = False,
    group: Annotated[
        _Text,
        typer.Option(
            metavar="COLUMN",
            help="What belongs together, such as a patient; never split. Default: group, if there.",
            show_default=False,
            rich_help_panel=_MEASURED,
        ),
    ] = None,
    split: Annotated[
        _Text,
        typer.Option(
            metavar="COLUMN",
            help="A split that came with the data: train, val, test. Default: split, if there.",
            show_default=False,
            rich_help_panel=_MEASURED,
        ),
    ] = None,
    new_split: Annotated[
        bool | None,
        typer.Option(
            "--new-split", help="Make another split; figures start anew.", show_default=False, rich_help_panel=_MEASURED
        ),
    ] = None,
    allow_leakage: Annotated[
        bool | None,
        typer.Option(
            "--allow-leakage",
            help="Use a split with groups on both sides, and say so.",
            show_default=False,
            rich_help_panel=_MEASURED,
        ),
    ] = None,
    memory: Annotated[
        str | None,
        typer.Option(
            metavar="SIZE",
            help="The most that the vectors may take: 500MB, 2GiB. Beyond it the torch kinds read them from disk.",
            show_default=False,
            rich_help_panel=_MEASURED,
        ),
    ] = None,
    near_threshold: Annotated[
        float | None,
        typer.Option(
            metavar="COSINE",
            help="From where on two items are near-duplicates. Default: from the data.",
            show_default=False,
            rich_help_panel=_MEASURED,
        ),
    ] = None,
    test_share: Annotated[
        float | None,
        typer.Option(
            help="The share of items that a new split tests. Default: 0.2.",
            show_default=False,
            rich_help_panel=_MEASURED,
        ),
    ] = None,
    folds: Annotated[
        int | None,
        typer.Option(help="Folds of a new split. Default: 5.", show_default=False, rich_help_panel=_MEASURED),
    ] = None,
    shots: Annotated[
        _Text,
        typer.Option(
            metavar="1,4,16",
            help="Also: what so many labels of each class reach.",
            show_default=False,
            rich_help_panel=_MEASURED,
        ),
    ] = None,
    baselines: Annotated[
        bool | None,
        typer.Option("--baselines/--no-baselines", help="Compare with simple ones.", rich_help_panel=_MEASURED),
    ] = None,
    curve: Annotated[
        bool | None,
        typer.Option("--curve/--no-curve", help="Draw the learning curve.", rich_help_panel=_MEASURED),
    ] = None,
    optimizer: Annotated[
        _Text, typer.Option(metavar="adamw|sgd", help="Default: adamw.", show_default=False, rich_help_panel=_TORCH)
    ] = None,
    learning_rate: Annotated[
        float | None,
        typer.Option(help="Default: what suits the optimizer.", show_default=False, rich_help_panel=_TORCH),
    ] = None,
    weight_decay: Annotated[
        float | None, typer.Option(help="Default: 0.01.", show_default=False, rich_help_panel=_TORCH)
    ] = None,
    dropout: Annotated[
        float | None, typer.Option(help="Default: 0.2.", show_default=False, rich_help_panel=_TORCH)
    ] = None,
    hidden: Annotated[
        int | None,
        typer.Option(help="Hidden values of torch-mlp. Default: 256.", show_default=False, rich_help_panel=_TORCH),
    ] = None,
    epochs: Annotated[
        int | None,
        typer.Option(help="At most. Default: by the number of items.", show_default=False, rich_help_panel=_TORCH),
    ] = None,
    patience: Annotated[
        int | None,
        typer.Option(
            help="Epochs without a gain before it stops. Default: 6.", show_default=False, rich_help_panel=_TORCH
        ),
    ] = None,
    batch: Annotated[
        int | None, typer.Option(help="Items of a step.", show_default=False, rich_help_panel=_TORCH)
    ] = None,
    seeds: Annotated[
        int | None, typer.Option(help="Networks to average.", show_default=False, rich_help_panel=_TORCH)
    ] = None,
    device: Annotated[
        _Text, typer.Option(help="auto, cpu, cuda or cuda:N.", show_default=False, rich_help_panel=_TORCH)
    ] = None,
) -> None:
    """$ featstore train-head photos --label label

    Trains the best light model on a table's vectors, measures it honestly and keeps it as a head.

    Items of one group, of equal content and near-duplicates stay on one side of the split. It is made once for a table
    and its label, and shared by all models and versions, so that figures can be compared.
    Everything is chosen inside the training folds; the test items are looked at once, and every look is counted.
    """
    flags: dict[str, Any] = {k: v for k, v in locals().items() if k not in _NO_SETTINGS}
    from featstore.cli.progress import reporting

    opened = existing(store)
    if dry_run:
        planned = opened.plan_head(tables or None, **flags)
        console.emit(planned) if json else _report_plan(planned)
        return
    named = tables or []
    if report is not None and len(named) > 1:
        raise UsageError("--report is for one head.", hint="Afterwards: featstore show HEAD --report FILE")
    with reporting(quiet=volume.quiet) as reporter:
        if len(named) > 1:
            found = opened.compare_heads(named, reporter=reporter, **flags)
            console.emit(found) if json else heads.comparison(found)
            return
        card = opened.train_head(named[0] if named else None, reporter=reporter, **flags).card
    console.emit(card) if json else heads.report(card)
    if report is not None and not json:
        console.line(console.plain(str(report)))


def _report_plan(found: HeadPlan) -> None:
    console.facts(
        (
            ("head", f"{found.head}:{found.version}"),
            ("tables", ", ".join(found.tables)),
            ("labels", f"{found.labels_from} ({found.label}), {found.task}"),
            ("items", f"{found.n_train:,} to learn from, {found.n_test:,} to test on, in {found.n_groups:,} groups"),
            ("left out", f"{found.n_unlabelled:,} without a label, {found.n_excluded:,} on both sides"),
            ("split", _split(found)),
        )
    )
    if found.classes:
        often = sorted(found.classes.items(), key=lambda pair: (-pair[1], pair[0]))
        console.grid(
            ("class", "items"), ((heads.short(name), f"{count:,}") for name, count in often[:20]), right=("items",)
        )
        if len(often) > 20:
            console.line(f"and {len(often) - 20:,} classes more")
    for warning in found.warnings:
        console.line(f"warning: {console.plain(warning)}")


def _split(found: HeadPlan) -> str:
    if found.split_id is None:
        return "would be made" if found.split_origin == "made" else f"would be that of column '{found.split_origin}'"
    return f"{found.split_id}, its test items scored {console.count(found.test_scored, 'time')}"
