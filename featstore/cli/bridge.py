"""Panel Change the model: ``bridge``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from featstore.cli import console
from featstore.cli.options import CHANGE, Json, Quiet, StorePath, Verbose, volume
from featstore.cli.stores import existing

if TYPE_CHECKING:
    from featstore.records import BridgeResult, RecallAt

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command(rich_help_panel=CHANGE, short_help="Make pictures findable by text, from pictures with captions.")(
        bridge
    )


def bridge(
    address: Annotated[str, typer.Argument(metavar="IMAGES", help="NAME\\[@MODEL][:VERSION] of a table of pictures.")],
    to: Annotated[str, typer.Option(metavar="MODEL", help="The text model, by any name that extract takes.")],
    pairs: Annotated[
        str,
        typer.Option(
            metavar="COLUMN|FILE.csv", help="The table's column with captions, or a file with item_id and caption."
        ),
    ],
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
    The kind of map is chosen, and its recall measured, on pairs held out; pictures and captions that are nearly the
    same stay on one side of each split. A map that finds no more than chance would is refused (exit code 5).
    """
    from featstore.cli.progress import reporting

    opened = existing(store)
    with reporting(quiet=volume.quiet) as reporter:
        result = opened.bridge(address, to=to, pairs=pairs, device=device, dry_run=dry_run, reporter=reporter)
    console.emit(result) if json else _report(result)


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


def _method(method: str, strength: float) -> str:
    return f"ridge, penalty {strength:g}" if method == "ridge" else f"rotation of {strength:g} dimensions"


def _row(direction: str, recall: RecallAt) -> tuple[str, ...]:
    interval = f"{recall.low:.3f}–{recall.high:.3f}"
    return (f"{direction}, recall@{recall.k}", f"{recall.value:.3f}", interval, f"{recall.chance:.3f}")
