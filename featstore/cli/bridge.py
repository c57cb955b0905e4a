"""Panel Change the model: ``bridge``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from featstore.cli import console
from featstore.cli.options import CHANGE, Json, Quiet, StorePath, Verbose, volume
from featstore.cli.stores import existing
from featstore.errors import UsageError

if TYPE_CHECKING:
    from featstore.records import BridgeResult, RecallAt, SpaceBridgeResult

__all__ = ["register"]

_TEXTS = "From pictures to texts"
_MODELS = "From one model to another"


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command(rich_help_panel=CHANGE, short_help="Make pictures findable by text, or a table by another model.")(
        bridge
    )


def bridge(
    address: Annotated[
        str, typer.Argument(metavar="NAME", help="NAME\\[@MODEL][:VERSION] of the table that the bridge leads from.")
    ],
    to: Annotated[
        str | None,
        typer.Option(metavar="MODEL", help="The text model, by any name that extract takes.", rich_help_panel=_TEXTS),
    ] = None,
    pairs: Annotated[
        str | None,
        typer.Option(
            metavar="COLUMN|FILE.csv",
            help="The table's column with captions, or a file with item_id and caption.",
            rich_help_panel=_TEXTS,
        ),
    ] = None,
    onto: Annotated[
        str | None,
        typer.Option(
            metavar="NAME@MODEL",
            help="The same source by the model whose vectors are to be searched.",
            rich_help_panel=_MODELS,
        ),
    ] = None,
    device: Annotated[
        str | None,
        typer.Option(metavar="auto|cpu|cuda[:N]", help="Where the captions are embedded.", show_default="auto"),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Learn and measure, but keep nothing.")] = False,
    store: StorePath = None,
    json: Json = False,
    verbose: Verbose = False,
    quiet: Quiet = False,
) -> None:
    """$ featstore bridge stamps --to minilm --pairs caption

    Learns a linear map from the pictures' vectors to the captions', so that text finds any picture of that model.

    From then on `featstore search NAME --text …` works on every table of the pictures' model.
    With --onto it leads from one model to another that has embedded the same source: queries of the new model then
    search vectors and indexes of the old one (`featstore search NAME --model NEW …`).
    The kind of map is chosen, and its recall measured, on items held out; what is nearly the same stays on one side of
    each split. A map that finds no more than chance would is refused (exit code 5).
    """
    from featstore.cli.progress import reporting

    if onto is None and to is not None and pairs is None:
        raise UsageError(
            "--pairs is missing: a bridge to texts is learned from pictures with captions.",
            hint="Name the table's column with captions, or a file with item_id and caption: --pairs COLUMN|FILE.csv",
        )
    if onto is None and to is None and pairs is not None:
        raise UsageError(
            "--to is missing: --pairs has the captions, but no model to embed them with.",
            hint="Name the text model: --to minilm",
        )
    if onto is None and (to is None or pairs is None):
        raise UsageError(
            "where should the bridge lead?",
            hint="To texts: featstore bridge IMAGES --to MODEL --pairs COLUMN. "
            "To another model: featstore bridge NAME@NEW --onto NAME@OLD",
        )
    if onto is not None and (to is not None or pairs is not None or device is not None):
        raise UsageError("--onto joins two tables as they are; --to, --pairs and --device are of a bridge to texts.")
    opened = existing(store)
    with reporting(quiet=volume.quiet) as reporter:
        if onto is not None:
            joined = opened.bridge_spaces(address, onto, dry_run=dry_run, reporter=reporter)
        else:
            assert to is not None
            assert pairs is not None
            result = opened.bridge(address, to=to, pairs=pairs, device=device, dry_run=dry_run, reporter=reporter)
    if json:
        console.emit(result if onto is None else joined)
    elif onto is None:
        _report(result)
    else:
        _report_spaces(joined)


def _report(result: BridgeResult) -> None:
    card = result.card
    console.line(f"{card.image_space} to {card.text_space}: {'learned' if result.kept else 'nothing was kept'}")
    console.line(
        f"{console.count(card.pairs, 'pair')} of {console.plain(card.table)}:{card.version}, {card.groups:,} of them "
        f"not nearly the same; {_method(card.method, card.strength)}; {result.seconds:,.1f} s"
    )
    for count, what in (
        (result.without_caption, "item without a caption"),
        (result.without_item, "captioned item that the table does not have"),
        (result.refused, "caption that the model does not take"),
    ):
        if count:
            console.line(f"left out: {count:,} × {what}")
    if result.sampled:
        console.line(f"{card.pairs:,} of the pairs were drawn")
    console.line(f"{card.queries:,} held-out pairs, each searched for among {card.gallery:,.0f}:")
    console.grid(
        ("", "recall", "95 % interval", "by chance"),
        [
            *(_row("text to image", recall) for recall in card.text_to_image),
            *(_row("image to text", recall) for recall in card.image_to_text),
        ],
        right=("recall", "95 % interval", "by chance"),
    )
    for warning in result.warnings:
        console.line(f"warning: {console.plain(warning)}")
    console.line(console.plain(result.path))


def _report_spaces(result: SpaceBridgeResult) -> None:
    card = result.card
    console.line(f"{card.from_space} to {card.to_space}: {'learned' if result.kept else 'nothing was kept'}")
    console.line(
        f"{console.count(card.items, 'item')} of {console.plain(card.table)} in versions {card.from_version} and "
        f"{card.to_version}, {card.groups:,} of them not nearly the same; {_method(card.method, card.strength)}; "
        f"{result.seconds:,.1f} s"
    )
    console.line(f"{card.queries:,} held-out items, each searched for among {card.gallery:,.0f} by its new vector:")
    rows = [
        ("the item itself", card.itself),
        ("what the old model finds", card.neighbours),
        ("what the new model finds", card.reembedded),
        ("the same by its old vector", card.old),
    ]
    console.grid(
        ("", "recall", "95 % interval", "by chance"),
        [_row(what, recall) for what, recalls in rows for recall in recalls],
        right=("recall", "95 % interval", "by chance"),
    )
    for warning in result.warnings:
        console.line(f"warning: {console.plain(warning)}")
    console.line(console.plain(result.path))


def _method(method: str, strength: float) -> str:
    return f"ridge, penalty {strength:g}" if method == "ridge" else f"rotation of {strength:g} dimensions"


def _row(direction: str, recall: RecallAt) -> tuple[str, ...]:
    interval = f"{recall.low:.3f}–{recall.high:.3f}"
    return (f"{direction}, recall@{recall.k}", f"{recall.value:.3f}", interval, f"{recall.chance:.3f}")
