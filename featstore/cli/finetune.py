"""Panel Change the model: ``finetune``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from featstore.cli import console, logs, stores
from featstore.cli.options import CHANGE, DryRun, Json, Quiet, StorePath, Verbose, volume
from featstore.errors import SettingsError, StatedError

if TYPE_CHECKING:
    from featstore.store import Store

__all__ = ["register"]

_LABELS = "What is learned, and measured on"
_TRAINED = "What is trained, from when on"
_HOW = "How it is trained"
_PICTURES = "What pictures go through while training"
_WORK = "How the work is cut"
_JUDGED = "What must hold before it is a model"
_NO_SETTINGS = frozenset({"what", "deadline", "log_format", "store", "dry_run", "json", "verbose", "quiet"})


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command(rich_help_panel=CHANGE, short_help="Train a table's backbone further, behind gates.")(finetune)


def _flag(text: str, panel: str, metavar: str | None = None) -> Any:
    """A flag of a setting: what is not given is left to the settings, so no default is shown but in words."""
    return typer.Option(help=text, metavar=metavar, show_default=False, rich_help_panel=panel)


def _either(name: str, text: str, panel: str) -> Any:
    return typer.Option(f"--{name}/--no-{name}", help=text, show_default=False, rich_help_panel=panel)


def finetune(
    what: Annotated[
        str,
        typer.Argument(
            metavar="NAME",
            help="The table, NAME\\[@MODEL]\\[:VERSION]; or a job's TOML file with a section \\[finetune].",
        ),
    ],
    label: Annotated[str | None, _flag("The column with the labels. Default: label.", _LABELS, "COLUMN")] = None,
    labels: Annotated[
        Path | None,
        _flag("Take them from a .csv, .jsonl or .parquet file, joined by item_id or path.", _LABELS, "FILE"),
    ] = None,
    where: Annotated[str | None, _flag("Only items that fulfil this expression.", _LABELS, "SQL")] = None,
    drop_rare: Annotated[
        bool | None,
        typer.Option(
            "--drop-rare", help="Leave out classes with too few items.", show_default=False, rich_help_panel=_LABELS
        ),
    ] = None,
    group: Annotated[str | None, _flag("As in train-head.", _LABELS, "COLUMN")] = None,
    split: Annotated[str | None, _flag("As in train-head.", _LABELS, "COLUMN")] = None,
    near_threshold: Annotated[float | None, _flag("As in train-head.", _LABELS, "COSINE")] = None,
    test_share: Annotated[float | None, _flag("As in train-head.", _LABELS, "0..1")] = None,
    folds: Annotated[int | None, _flag("As in train-head.", _LABELS)] = None,
    model: Annotated[
        str | None,
        _flag("The backbone to begin with. Default: the table's, or what that was tuned from.", _TRAINED, "MODEL"),
    ] = None,
    weights: Annotated[str | None, _flag("Its weights, from a file.", _TRAINED, "FILE")] = None,
    name: Annotated[str | None, _flag("What the new model is called. Default: MODEL-LABEL.", _TRAINED)] = None,
    start: Annotated[
        str | None,
        _flag("The head to begin with: one fitted to the frozen vectors (head), or none.", _TRAINED, "head|random"),
    ] = None,
    blocks: Annotated[
        str | None,
        _flag("By their names in the model, the top one first; behind a colon the first epoch.", _TRAINED, "layer4,…"),
    ] = None,
    depth: Annotated[int | None, _flag("Or: so many blocks from the top.", _TRAINED)] = None,
    unfreeze_every: Annotated[
        int | None, _flag("Epochs until one block more is trained; 0 for all at once. Default: 1.", _TRAINED)
    ] = None,
    batch_norm: Annotated[
        str | None, _flag("Their statistics. Default: frozen below 5,000 items.", _TRAINED, "auto|frozen|train")
    ] = None,
    lora: Annotated[
        int | None, _flag("Train adapters of this rank in place of the weights; merged at the end.", _TRAINED, "RANK")
    ] = None,
    lora_alpha: Annotated[float | None, _flag("Their scale.", _TRAINED)] = None,
    epochs: Annotated[int | None, _flag("At most. Default: by the number of items.", _HOW)] = None,
    patience: Annotated[int | None, _flag("Epochs without a gain before it stops. Default: 3.", _HOW)] = None,
    optimizer: Annotated[
        str | None, _flag("Default: adamw for transformers, sgd for the others.", _HOW, "adamw|sgd")
    ] = None,
    learning_rate: Annotated[float | None, _flag("Of the top block. Default: by model and optimizer.", _HOW)] = None,
    head_rate: Annotated[float | None, _flag("The head's.", _HOW)] = None,
    layer_decay: Annotated[
        float | None, _flag("A block's rate, as a share of that of the one above. Default: 0.75.", _HOW, "0..1")
    ] = None,
    halving: Annotated[bool | None, _either("halving", "Halve all rates each time that a block begins.", _HOW)] = None,
    schedule: Annotated[
        str | None, _flag("Of the rates after the warm-up. Default: cosine.", _HOW, "cosine|constant")
    ] = None,
    warmup: Annotated[float | None, _flag("The share of steps that it takes. Default: 0.1.", _HOW, "0..1")] = None,
    momentum: Annotated[float | None, _flag("Of sgd. Default: 0.9.", _HOW)] = None,
    weight_decay: Annotated[float | None, _flag("Not of biases and norms. Default: 0.01.", _HOW)] = None,
    clip: Annotated[float | None, _flag("The largest norm of a gradient, 0 for any. Default: 1.", _HOW)] = None,
    dropout: Annotated[float | None, _flag("Default: none.", _HOW, "0..1")] = None,
    class_weights: Annotated[str | None, _flag("Let every class count as much as any other.", _HOW, "balanced")] = None,
    trials: Annotated[
        int | None, _flag("Search for better settings first, by validation accuracy alone.", _HOW)
    ] = None,
    seed: Annotated[int | None, _flag("Of everything drawn. Default: 0.", _HOW)] = None,
    crop_scale: Annotated[
        float | None, _flag("The least share that a random crop keeps, 1 for no crop. Default: 0.5.", _PICTURES, "0..1")
    ] = None,
    flip: Annotated[bool | None, _either("flip", "Mirror every other one. Default: yes.", _PICTURES)] = None,
    rotation: Annotated[float | None, _flag("At most. Default: none.", _PICTURES, "DEGREES")] = None,
    color: Annotated[
        float | None, _flag("How far brightness, contrast and saturation vary. Default: 0.", _PICTURES, "0..1")
    ] = None,
    randaugment: Annotated[int | None, _flag("Its magnitude, 0 for none. Default: 0.", _PICTURES, "0..30")] = None,
    batch: Annotated[int | None, _flag("Items of a step. Default: 32.", _WORK)] = None,
    micro_batch: Annotated[int | None, _flag("Items computed at once. Default: what fits.", _WORK)] = None,
    checkpointing: Annotated[
        bool | None,
        typer.Option(
            "--checkpointing",
            help="Compute some values twice to save memory.",
            show_default=False,
            rich_help_panel=_WORK,
        ),
    ] = None,
    mixed_precision: Annotated[str | None, _flag("Default: auto, by the device.", _WORK, "auto|off|bf16|fp16")] = None,
    checkpoint_every: Annotated[
        int | None, _flag("Steps. Default: each epoch's end, and about once a minute.", _WORK)
    ] = None,
    device: Annotated[str | None, _flag("auto, cpu, cuda or cuda:N. Default: auto.", _WORK)] = None,
    workers: Annotated[int | None, _flag("Threads; by default the usable CPUs.", _WORK)] = None,
    min_gain: Annotated[
        float | None, _flag("The lower end of the gain's 95 % interval is above this. Default: 0.", _JUDGED, "-1..1")
    ] = None,
    max_forgetting: Annotated[
        float | None, _flag("Other heads and neutral items lose at most this. Default: 0.01.", _JUDGED, "0..1")
    ] = None,
    max_rank_loss: Annotated[
        float | None, _flag("Of the vectors' effective rank, at most. Default: 0.2.", _JUDGED, "0..1")
    ] = None,
    max_slower: Annotated[
        float | None, _flag("An item takes at most so many times as long. Default: 1.25.", _JUDGED)
    ] = None,
    report: Annotated[
        Path | None,
        typer.Option(metavar="FILE.html", help="Write the report here as well.", show_default=False),
    ] = None,
    mlflow: Annotated[
        str | None, typer.Option(metavar="URI", help="Also log the run to MLflow.", show_default=False)
    ] = None,
    deadline: Annotated[
        str | None,
        typer.Option(
            metavar="TIME", help="Begin no further step after so long: 45m, 8h. Exits with 7.", show_default=False
        ),
    ] = None,
    log_format: Annotated[
        str, typer.Option(metavar="text|json", help="With json every line on stderr is one JSON object.")
    ] = "text",
    store: StorePath = None,
    dry_run: DryRun = False,
    json: Json = False,
    verbose: Verbose = False,
    quiet: Quiet = False,
) -> None:
    """$ featstore finetune photos --label label --dry-run

    Trains a table's backbone further on its labels; what passes every gate becomes a model of the store.

    It begins with the head fitted to the frozen vectors and thaws the network from the top. The new backbone must beat
    the best frozen head on the same test items, must not let other heads forget, and its exported graph must be the
    network. Until then, and where a gate refuses, everything is as it was. Run it again after whatever stopped it: it
    goes on. Then `featstore migrate NAME --to SPACE` moves the table; a job with \\[finetune] and \\[migrate] does
    both.

    Exit codes: 0 there is a new model, or nothing new; 5 a gate refused, and everything is as it was; 7 the deadline
    has passed, run it again; 130 or 143 stopped, run it again; else as everywhere.
    """
    flags: dict[str, Any] = {key: value for key, value in locals().items() if key not in _NO_SETTINGS}
    if log_format not in ("text", "json"):
        raise SettingsError(f"--log-format is 'text' or 'json', not '{log_format}'.")
    opened = stores.of_job(store, what)
    machine = json or not sys.stdout.isatty()
    from featstore.cli import finetuned
    from featstore.cli.progress import reporting

    if dry_run:
        with reporting(quiet=volume.quiet) as reporter:
            plan = opened.plan_finetune(what, reporter=reporter, **flags)
        console.emit_line(plan) if machine else finetuned.rehearsal(plan)
        return
    _run(opened, what, flags, deadline, machine)


def _run(opened: Store, what: str, flags: dict[str, Any], deadline: str | None, machine: bool) -> None:
    from featstore.cli import finetuned
    from featstore.cli.progress import reporting
    from featstore.records import FinetuneResult

    try:
        with reporting(quiet=volume.quiet) as reporter:
            result = opened.finetune(what, deadline=deadline, reporter=reporter, **flags)
    except StatedError as error:
        found = error.context.get("result")
        if isinstance(found, FinetuneResult):
            console.emit_line(found) if machine else finetuned.outcome(found, opened.path)
        raise
    console.emit_line(result) if machine else finetuned.outcome(result, opened.path)
    logs.note("info", f"fine-tuning on '{result.table}': {result.status}", key=result.key, status=result.status)
