"""Panel Look: ``dedup``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from featstore.cli import console
from featstore.cli.options import LOOK, Json, Quiet, StorePath, Verbose, volume
from featstore.cli.stores import existing

if TYPE_CHECKING:
    from featstore.records import DuplicateGroup, DuplicateItem, DuplicateReport

__all__ = ["register"]

_TEXT = 60


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command(rich_help_panel=LOOK, short_help="Find items that a table holds more than once.")(dedup)


def dedup(
    address: Annotated[str, typer.Argument(metavar="ADDRESS", help="NAME\\[@MODEL][:VERSION].")],
    threshold: Annotated[
        float | None,
        typer.Option(
            metavar="COSINE", help="Two items are near from it on. Default: from the data.", show_default=False
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "-o", "--output", metavar="FILE", help="Write every item that has a twin there: .parquet or .csv."
        ),
    ] = None,
    png: Annotated[
        Path | None, typer.Option("--png", metavar="FILE", help="Draw the largest groups there, for images.")
    ] = None,
    examples: Annotated[int, typer.Option(metavar="N", help="How many groups to name and to draw.")] = 10,
    store: StorePath = None,
    json: Json = False,
    verbose: Verbose = False,
    quiet: Quiet = False,
) -> None:
    """$ featstore dedup photos

    Finds items that a table holds more than once: of equal content, or nearly equal by their vectors.

    Items whose cosine reaches the threshold are in one group, directly or through others.
    Without --threshold it is 1 - 0.1 × the median cosine distance to the 10th nearest item.
    Nothing is removed. Every group is in the file of --output.
    """
    from featstore.cli.progress import reporting

    opened = existing(store)
    with reporting(quiet=volume.quiet) as reporter:
        found = opened.table(address).dedup(
            threshold=threshold, output=output, png=png, examples=examples, reporter=reporter
        )
    console.emit(found) if json else _report(found)


def _report(found: DuplicateReport) -> None:
    at = console.plain(f"{found.table.table}@{found.table.space_id}:{found.table.version}")
    console.line(f"{at}: {console.count(found.table.items, 'item')} of {found.contents:,} different contents")
    if found.threshold is not None:
        console.line(f"near from cosine {found.threshold:.4f} on: {console.plain(found.rule or '')}")
    near = found.surplus - found.exact_surplus
    if not found.groups:
        console.line("no item has a twin")
    else:
        console.line(
            f"{console.count(found.groups, 'group')} of {console.count(found.items, 'item')}; "
            f"{found.surplus:,} beside one of each: {found.exact_surplus:,} of equal content, {near:,} nearly equal"
        )
    if found.chained:
        console.line(
            f"{console.count(found.chained, 'group')} with items that are near the first one only through others; "
            "a higher --threshold parts them"
        )
    if found.largest:
        texts = any(item.text for group in found.largest for item in group.first)
        console.grid(
            ("group", "items", "item", "cosine", "content", *(("text",) if texts else ())),
            (line for number, group in enumerate(found.largest) for line in _lines(number, group, texts)),
            right=("group", "items", "cosine"),
        )
    for file in (found.path, found.png):
        if file:
            console.line(console.plain(file))


def _lines(number: int, group: DuplicateGroup, texts: bool) -> list[tuple[object, ...]]:
    lines = [
        (
            number if at == 0 else "",
            f"{group.items:,}" if at == 0 else "",
            item.item_id,
            "" if at == 0 else f"{item.score:.4f}",
            "" if at == 0 else "the same" if item.exact else "another",
            *((_text(item),) if texts else ()),
        )
        for at, item in enumerate(group.first)
    ]
    if group.items > len(group.first):
        more = f"… {group.items - len(group.first):,} more"
        lines.append(("", "", more, f"{group.lowest:.4f}", "", *(("",) if texts else ())))
    return lines


def _text(item: DuplicateItem) -> str:
    text = " ".join((item.text or "").split())
    return text if len(text) <= _TEXT else f"{text[: _TEXT - 1]}…"
