"""``models bench``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from featstore.cli import console
from featstore.cli.console import count, line, plain
from featstore.cli.options import Json, Quiet, StorePath, Verbose, volume
from featstore.errors import SettingsError

if TYPE_CHECKING:
    from featstore.records import BenchLine, ModelBench

__all__ = ["register"]

_ITEMS = "On which items (by default on samples that come with the program)"
_WAYS = "What is varied, separated by commas"


def register(group: typer.Typer) -> None:
    """Adds the command to the group ``models``."""
    group.command(short_help="Measure how fast a backbone is here, and keep the best way.")(bench)


def bench(
    model: Annotated[str, typer.Argument(help="A name, a model's folder or file, or the id of a space in the store.")],
    source: Annotated[
        str | None, typer.Option(metavar="SOURCE", help="What extract takes.", rich_help_panel=_ITEMS)
    ] = None,
    table: Annotated[
        str | None, typer.Option(metavar="NAME", help="The source of a table.", rich_help_panel=_ITEMS)
    ] = None,
    text_column: Annotated[
        list[str] | None, typer.Option(help="A column of texts; may be repeated.", rich_help_panel=_ITEMS)
    ] = None,
    image_column: Annotated[
        str | None, typer.Option(help="The column of image files or bytes.", rich_help_panel=_ITEMS)
    ] = None,
    source_root: Annotated[
        str | None,
        typer.Option(metavar="FOLDER", help="Where relative paths in the source begin.", rich_help_panel=_ITEMS),
    ] = None,
    precision: Annotated[
        str,
        typer.Option(
            metavar="fp32,int8", help="int8 is one that extract has made.", show_default="both", rich_help_panel=_WAYS
        ),
    ] = "",
    backend: Annotated[
        str,
        typer.Option(
            metavar="onnxruntime,openvino", help="The runtimes.", show_default="the installed", rich_help_panel=_WAYS
        ),
    ] = "",
    threads: Annotated[
        str,
        typer.Option(metavar="N,…", help="How many threads.", show_default="the usable CPUs", rich_help_panel=_WAYS),
    ] = "",
    batch: Annotated[
        str,
        typer.Option(
            metavar="N,…",
            help="Images in a batch; of texts, padded tokens.",
            show_default="8,16,32; 128,256,512",
            rich_help_panel=_WAYS,
        ),
    ] = "",
    seconds: Annotated[float, typer.Option(help="Time each way for about so long.")] = 5.0,
    keep: Annotated[
        bool,
        typer.Option("--keep", help="Use the best from now on, on machines like this one, where no flag is given."),
    ] = False,
    weights: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Take the model's weights from a .safetensors or .pth file.")
    ] = None,
    store: StorePath = None,
    json: Json = False,
    verbose: Verbose = False,
    quiet: Quiet = False,
) -> None:
    """$ featstore models bench efficientnet_lite0 --batch 8,32 --seconds 1

    Measures a backbone on this machine's CPU: precision, runtime, threads and batches, side by side.

    Items a second are from an item's bytes to its vector, decoding included, writing left out:
    the median of 5 rounds, in which all ways take turns, and their range.
    The default counts as the best unless another way is 5 % faster.
    """
    import featstore
    from featstore.cli.progress import reporting

    with reporting(quiet=volume.quiet) as reporter:
        found = featstore.open(store).bench_model(
            model,
            source,
            table=table,
            precision=_words(precision),
            backend=_words(backend),
            threads=_numbers("threads", threads),
            batch=_numbers("batch", batch),
            seconds=seconds,
            keep=keep,
            reporter=reporter,
            weights=weights,
            text_column=text_column or None,
            image_column=image_column,
            source_root=source_root,
        )
    console.emit(found) if json else _report(found)


def _words(text: str) -> tuple[str, ...]:
    return tuple(word.strip() for word in text.split(",") if word.strip())


def _numbers(flag: str, text: str) -> tuple[int, ...]:
    try:
        return tuple(int(word) for word in _words(text))
    except ValueError:
        raise SettingsError(f"--{flag} {text}: whole numbers were expected.", hint=f"Such as: --{flag} 1,2") from None


def _report(found: ModelBench) -> None:
    on = "samples that come with the program" if found.source is None else found.source
    line(f"{plain(found.model)} on {count(found.items, found.modality)} ({plain(on)})")
    line(f"{plain(found.cpu)}, {count(found.cores, 'usable core')}")
    unit = "images a call" if found.modality == "image" else "tokens a call"
    fewer = any(one.fidelity is not None for one in found.lines)
    numbers = ("threads", unit, "items/s", "lowest", "highest")
    console.grid(
        ("precision", "runtime", *numbers, *(("cosine mean", "p1", "overlap@10") if fewer else ()), ""),
        (
            (
                one.precision,
                one.runtime,
                one.workers,
                one.batch,
                f"{one.items_per_s:,.1f}",
                f"{one.low:,.1f}",
                f"{one.high:,.1f}",
                *(_near(one) if fewer else ()),
                "best" if one.best else "",
            )
            for one in found.lines
        ),
        right=numbers,
    )
    for space_id in found.kept:
        line(f"kept for {plain(space_id)}: runs that name no backend, workers or batch use it on machines like this")
    for warning in found.warnings:
        line(f"warning: {plain(warning)}")


def _near(one: BenchLine) -> tuple[str, str, str]:
    if one.fidelity is None:
        return "", "", ""
    return f"{one.fidelity.mean_cosine:.4f}", f"{one.fidelity.p1_cosine:.4f}", f"{one.fidelity.overlap:.3f}"
