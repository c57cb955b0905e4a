"""Group ``models``: ``list``, ``show`` and ``export``."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from featstore.cli import bench, compare, console
from featstore.cli.options import GROUPS, Json, Quiet, StorePath, Verbose, volume
from featstore.errors import NotFoundError, SettingsError

if TYPE_CHECKING:
    from featstore.models import CatalogEntry
    from featstore.records import ModelCard, Quantisation

__all__ = ["register"]

_Model = Annotated[str, typer.Argument(help="A name, a model's folder or file, or the id of a space in the store.")]
_Weights = Annotated[
    Path | None, typer.Option(metavar="FILE", help="Take the model's weights from a .safetensors or .pth file.")
]
_CHANGED = "What is changed of the model (makes another space)"
_Pooling = Annotated[
    str | None, typer.Option(metavar="mean|cls|last|max", help="Pool in another way.", rich_help_panel=_CHANGED)
]
_Layer = Annotated[str | None, typer.Option(help="Take another layer's output, by its name.", rich_help_panel=_CHANGED)]
_Dim = Annotated[
    int | None, typer.Option(help="Keep the first N values, made of length 1 again.", rich_help_panel=_CHANGED)
]
_PromptDocument = Annotated[
    str | None, typer.Option(metavar="TEXT", help="Put this in front of each text.", rich_help_panel=_CHANGED)
]
_PromptQuery = Annotated[
    str | None, typer.Option(metavar="TEXT", help="Put this in front of each query.", rich_help_panel=_CHANGED)
]
_Decode = Annotated[
    str | None,
    typer.Option(metavar="exact|fast", help="Read large JPEGs at a fraction of their size.", rich_help_panel=_CHANGED),
]
_Precision = Annotated[
    str | None,
    typer.Option(metavar="fp32|int8", help="One that extract has made of it.", rich_help_panel=_CHANGED),
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
    compare.register(group)
    bench.register(group)
    app.add_typer(group, name="models", rich_help_panel=GROUPS)


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

    entries = {entry.name: entry for entry in catalog(words or ())}
    held: dict[str, list[ModelCard]] = {}
    for card in featstore.open(store).models():
        short = card.model.partition("." if card.model.startswith("timm:") else ":")[0]
        held.setdefault(short if short in entries else card.model, []).append(card)
    lines = [
        ModelLine(name=name, entry=entries.get(name), spaces=tuple(card.space_id for card in held.get(name, ())))
        for name in [*entries, *(name for name in held if name not in entries)]
        if all(_fits(word.lower(), name, entries.get(name), held.get(name, [])) for word in words or ())
    ]
    if json:
        console.emit(lines)
        return
    if not lines:
        found = console.plain(" ".join(words or ()))
        console.line(f"no backbone with a name or in the store has: {found}")
        console.line(
            f"among timm's: featstore models list timm:{found.split()[0]}; on the hub: --model hf:ORG/NAME"
            if found and not found.startswith("timm:")
            else "on the hub: --model hf:ORG/NAME"
        )
        return
    console.grid(
        ("model", "takes", "dim", "input", "parameters", "weights", "from", "in the store"),
        ((line.name, *_columns(line.entry, held.get(line.name, [])), ", ".join(line.spaces)) for line in lines),
        right=("dim", "input", "parameters"),
    )


def show(
    model: _Model,
    weights: _Weights = None,
    pooling: _Pooling = None,
    layer: _Layer = None,
    dim: _Dim = None,
    prompt_document: _PromptDocument = None,
    prompt_query: _PromptQuery = None,
    decode: _Decode = None,
    precision: _Precision = None,
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
    from featstore.models import ModelOptions, ModelRequest, describe, entry

    options = _given(pooling, layer, dim, prompt_document, prompt_query, decode, precision)
    known = None
    try:
        card = featstore.open(store).model(model, weights=weights, **options)
        asked = ModelRequest(model=model, weights=weights, options=ModelOptions(**options))  # type: ignore[arg-type]
        known = entry(model) if card is not None else describe(asked)
    except NotFoundError:
        known = entry(model)
        if known is None or weights is not None or ":" in model:
            raise
        card = None  # packaged weights that are not installed: the entry says how to get them
    if json:
        console.emit(ModelDetails(model=model, entry=known, card=card))
        return
    if card is not None:
        _show_card(card)
    elif known is not None:
        _show_entry(model, known)
    else:
        console.line(f"{console.plain(model)}: not in the store yet; it is exported when it is first used")


def export(
    model: _Model,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", metavar="FOLDER", help="Write its files into a folder.")
    ] = None,
    bundle: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write one .featstore file, which --model takes where there is no network."),
    ] = None,
    weights: _Weights = None,
    pooling: _Pooling = None,
    layer: _Layer = None,
    dim: _Dim = None,
    prompt_document: _PromptDocument = None,
    prompt_query: _PromptQuery = None,
    decode: _Decode = None,
    precision: _Precision = None,
    store: StorePath = None,
    json: Json = False,
    verbose: Verbose = False,
    quiet: Quiet = False,
) -> None:
    """$ featstore models export efficientnet_lite0 -o lite0

    Writes a backbone out: ONNX file, tokenizer, card, canaries and a note on the licence.

    One that is not in the store yet is exported into it first. Give -o, --bundle or both.
    """
    import featstore
    from featstore.cli.progress import reporting

    options = _given(pooling, layer, dim, prompt_document, prompt_query, decode, precision)
    opened = featstore.open(store)
    with reporting(quiet=volume.quiet) as reporter:
        done = opened.export_model(model, output, bundle=bundle, weights=weights, reporter=reporter, **options)
    if json:
        console.emit(done)
        return
    paths = [output / name for name in done.files] if output is not None else []
    for path in [*paths, *([bundle] if bundle is not None else [])]:
        console.line(console.plain(f"{path} ({console.size(path.stat().st_size)})"))
    card = opened.model(done.space_id)
    if card is not None:
        console.line(f"licence of the weights: {console.plain(card.weights.licence)}")
    if bundle is not None:
        console.line(f"on another host: featstore extract SOURCE --model {console.plain(bundle.name)}")


def _given(
    pooling: str | None,
    layer: str | None,
    dim: int | None,
    document: str | None,
    query: str | None,
    decode: str | None,
    precision: str | None,
) -> dict[str, str | int | None]:
    if pooling not in (None, "mean", "cls", "last", "max"):
        raise SettingsError(f"--pooling {pooling}: there is mean, cls, last and max.")
    if dim is not None and dim < 1:
        raise SettingsError(f"--dim {dim}: a vector has at least one value.")
    if decode not in (None, "exact", "fast"):
        raise SettingsError(f"--decode {decode}: there is exact and fast.")
    if precision not in (None, "fp32", "int8"):
        raise SettingsError(f"--precision {precision}: there is fp32 and int8.")
    return {
        "pooling": pooling,
        "layer": layer,
        "dim": dim,
        "prompt_document": document,
        "prompt_query": query,
        "decode": None if decode == "exact" else decode,
        "precision": None if precision == "fp32" else precision,
    }


def _fits(word: str, name: str, entry: CatalogEntry | None, cards: list[ModelCard]) -> bool:
    """Whether a word is found in what is known of a model; ``timm:WORD`` asks among timm's only."""
    if word.startswith("timm:") and not name.startswith("timm:"):
        return False
    known = [name, *((entry.family, entry.modality, entry.origin, entry.licence) if entry else ())]
    for card in cards:
        known += [card.space_id, card.family, card.modality, card.weights.licence]
    return word.removeprefix("timm:") in " ".join(known).lower()


def _columns(entry: CatalogEntry | None, cards: list[ModelCard]) -> tuple[object, ...]:
    if entry is not None:
        where = entry.origin if entry.installed else entry.install
        parameters = "" if entry.parameters is None else f"{entry.parameters:,}"
        return f"{entry.modality}s", entry.dim or "", entry.input_side, parameters, ", ".join(entry.weights), where
    card = cards[0]
    return f"{card.modality}s", card.dim, _side(card), f"{card.weights.parameters:,}", "", "store"


def _side(card: ModelCard) -> int | str:
    return card.text.max_length if card.text else card.image.crop[0] if card.image else ""


def _show_entry(model: str, entry: CatalogEntry) -> None:
    console.facts(
        (
            ("model", f"{model} (not in the store yet; it is exported when it is first used)"),
            ("takes", f"{entry.modality}s, input {entry.input_side or 'not known yet'}"),
            ("gives", f"{entry.dim} values" if entry.dim else None),
            ("parameters", None if entry.parameters is None else f"{entry.parameters:,}"),
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
            ("takes", f"{card.modality}s, input {_side(card)}"),
            ("gives", f"{card.dim} values, {card.precision}" + (", of length 1" if card.normalize else "")),
            ("layer", f"{card.layer}, pooling {card.pooling}"),
            ("preparing", ", ".join(f"{key} {value}" for key, value in asdict(prepared).items()) if prepared else None),
            ("parameters", f"{weights.parameters:,}"),
            ("weights", weights.source),
            ("licence", weights.licence),
            ("data", weights.training_data),
            ("see", weights.url),
            ("ONNX", f"{console.size(card.onnx.bytes)}, sha256 {card.onnx.sha256}"),
            ("parity", f"cosine {parity.min_cosine:.6f} or more with {parity.reference} on {parity.items} items"),
        )
    )
    if card.quantisation is not None:
        _show_quantisation(card.quantisation)


def _show_quantisation(made: Quantisation) -> None:
    console.line("")
    console.line(
        console.plain(
            f"made from {made.base}, calibrated on {made.calibrated:,} items of '{made.table}', judged on others:"
        )
    )
    console.grid(
        ("way", "times fp32", "size", "cosine", "1st percentile", "neighbours", "probe, was", "gate"),
        (
            (
                step.recipe,
                f"{step.items_per_s / made.base_items_per_s:.1f}",
                console.size(step.bytes),
                f"{step.fidelity.mean_cosine:.4f}",
                f"{step.fidelity.p1_cosine:.4f}",
                f"{step.fidelity.overlap:.3f}" if step.fidelity.overlap else "",
                ""
                if step.fidelity.accuracy is None
                else f"{step.fidelity.accuracy:.3f}, {step.fidelity.accuracy_before:.3f}",
                "refused" if step.failed else "passed",
            )
            for step in made.steps
        ),
        right=("times fp32", "size", "cosine", "1st percentile", "neighbours"),
    )
