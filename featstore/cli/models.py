"""Group ``models``: ``list``, ``show`` and ``export``."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from featstore.cli import console
from featstore.cli.options import MODELS, Json, Quiet, StorePath, Verbose, volume
from featstore.errors import NotFoundError

if TYPE_CHECKING:
    from featstore.models import CatalogEntry
    from featstore.records import ModelCard

__all__ = ["register"]

_Weights = Annotated[
    Path | None, typer.Option(metavar="FILE", help="Take the model's weights from a .safetensors or .pth file.")
]


def register(app: typer.Typer) -> None:
    """Adds the group."""
    group = typer.Typer(
        help="$ featstore models list\n\nThe backbones: those that have a name, and those in the store.",
        short_help="List, show or export backbones.",
        no_args_is_help=True,
    )
    group.command("list", short_help="List the backbones.")(list_models)
    group.command(short_help="Show one backbone.")(show)
    group.command(short_help="Write a backbone out as ONNX.")(export)
    app.add_typer(group, name="models", rich_help_panel=MODELS)


def list_models(
    words: Annotated[
        list[str] | None, typer.Argument(metavar="[WORDS]...", help="Only those with all these words.")
    ] = None,
    store: StorePath = None,
    json: Json = False,
    verbose: Verbose = False,
    quiet: Quiet = False,
) -> None:
    """$ featstore models list resnet

    Lists the backbones that have a name, and those that the store holds.
    """
    import featstore
    from featstore.cli.outputs import ModelLine
    from featstore.models import catalog

    cards = featstore.open(store).models()
    entries = {entry.name: entry for entry in catalog()}
    held: dict[str, list[str]] = {}
    for card in cards:
        name = card.model.partition(":")[0]
        held.setdefault(name if name in entries else card.model, []).append(card.space_id)
    lines = [
        ModelLine(name=name, entry=entries.get(name), spaces=tuple(held.get(name, ())))
        for name in [*entries, *(name for name in held if name not in entries)]
    ]
    lines = [line for line in lines if all(word.lower() in _searched(line.name, line.entry) for word in words or ())]
    if json:
        console.emit(lines)
        return
    console.grid(
        ("model", "takes", "dim", "input", "weights", "from", "in the store"),
        (
            (
                line.name,
                *(
                    (
                        f"{line.entry.modality}s",
                        line.entry.dim,
                        line.entry.input_side,
                        ", ".join(line.entry.weights),
                        line.entry.origin if line.entry.installed else line.entry.install,
                    )
                    if line.entry
                    else ("", "", "", "", "store")
                ),
                ", ".join(line.spaces),
            )
            for line in lines
        ),
        right=("dim", "input"),
    )


def show(
    model: Annotated[str, typer.Argument(help="A name, a model's folder, or the id of a space in the store.")],
    weights: _Weights = None,
    store: StorePath = None,
    json: Json = False,
    verbose: Verbose = False,
    quiet: Quiet = False,
) -> None:
    """$ featstore models show efficientnet_lite0

    Shows what is known of a backbone; all of it once the store holds it.
    """
    import featstore
    from featstore.cli.outputs import ModelDetails
    from featstore.models import ModelRequest, catalog, find

    layout = featstore.open(store).layout
    entry = next((e for e in catalog() if e.name == model.partition(":")[0]), None)
    try:
        card = find(layout, ModelRequest(model=model, weights=weights))
    except NotFoundError:
        if entry is None or weights is not None or ":" in model:
            raise
        card = None  # packaged weights that are not installed: the entry says how to get them
    if json:
        console.emit(ModelDetails(model=model, entry=entry, card=card))
        return
    if card is not None:
        _show_card(card)
    elif entry is not None:
        _show_entry(model, entry)
    else:
        console.line(f"{console.plain(model)}: not in the store yet; it is exported when it is first used")


def export(
    model: Annotated[str, typer.Argument(help="A name, a model's folder, or the id of a space in the store.")],
    output: Annotated[Path, typer.Option("-o", "--output", metavar="FOLDER", help="Where to write it.")],
    weights: _Weights = None,
    store: StorePath = None,
    json: Json = False,
    verbose: Verbose = False,
    quiet: Quiet = False,
) -> None:
    """$ featstore models export efficientnet_lite0 -o lite0

    Writes a backbone out: ONNX file, tokenizer, card and a note on the licence.

    One that is not in the store yet is exported into it first.
    """
    import featstore
    from featstore import founding
    from featstore.cli.outputs import ModelExport
    from featstore.cli.progress import reporting
    from featstore.models import ModelRequest, ensure, export_model

    layout = featstore.open(store).layout
    founding.found(layout)
    with reporting(quiet=volume.quiet) as reporter:
        card = ensure(layout, ModelRequest(model=model, weights=weights), progress=reporter.message)
        written = export_model(layout, card, output)
    if json:
        artefacts = tuple(a for a in (card.onnx, card.tokenizer, card.canaries) if a is not None)
        files = tuple(path.name for path in written)
        folder = str(output.resolve())
        console.emit(
            ModelExport(model=card.model, space_id=card.space_id, folder=folder, files=files, artefacts=artefacts)
        )
        return
    for path in written:
        console.line(console.plain(f"{path} ({console.size(path.stat().st_size)})"))
    console.line(f"licence of the weights: {console.plain(card.weights.licence)}")


def _searched(name: str, entry: CatalogEntry | None) -> str:
    more = (entry.family, entry.modality, entry.origin) if entry else ()
    return " ".join((name, *more)).lower()


def _show_entry(model: str, entry: CatalogEntry) -> None:
    console.facts(
        (
            ("model", f"{model} (not in the store yet; it is exported when it is first used)"),
            ("takes", f"{entry.modality}s, input {entry.input_side}"),
            ("gives", f"{entry.dim} values"),
            ("weights", ", ".join(entry.weights)),
            ("from", entry.origin),
            ("licence", entry.licence),
            ("install", None if entry.installed else entry.install),
        )
    )


def _show_card(card: ModelCard) -> None:
    weights, parity, prepared = card.weights, card.parity, card.image or card.text
    console.facts(
        (
            ("model", card.model),
            ("space", card.space_id),
            ("takes", f"{card.modality}s"),
            ("gives", f"{card.dim} values, {card.precision}" + (", of length 1" if card.normalize else "")),
            ("layer", f"{card.layer}, pooling {card.pooling}"),
            ("preparing", ", ".join(f"{key} {value}" for key, value in asdict(prepared).items()) if prepared else None),
            ("weights", f"{weights.source}, {weights.parameters:,} parameters"),
            ("licence", weights.licence),
            ("data", weights.training_data),
            ("see", weights.url),
            ("ONNX", f"{console.size(card.onnx.bytes)}, sha256 {card.onnx.sha256}"),
            ("parity", f"cosine {parity.min_cosine:.6f} or more with {parity.reference} on {parity.items} items"),
        )
    )
