"""One comparison: each model embeds the same sample into the source's table, then all are judged on it."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from featstore import founding, models
from featstore.compare import agreement, sheets
from featstore.compare.items import Items, gather
from featstore.compare.judge import Verdict, judge
from featstore.compare.request import Request, check
from featstore.encode import rate
from featstore.errors import TooManyRejectsError, UsageError
from featstore.extract import extract, previews
from featstore.extract.prepare import Preparation
from featstore.extract.progress import Reporter
from featstore.extract.shard import open_encoder
from featstore.layout import Layout
from featstore.records import ComparedModel, Comparison, ExtractResult, ModelCard

__all__ = ["compare"]

_NEIGHBOURS = 10
_OVERLAP_QUERIES = 1_000
_SHEET_QUERIES = 5

# Bytes of a table's row besides its vector, about: id, hash, times, run.
_ROW_BYTES = 120


def compare(
    layout: Layout,
    source: str,
    names: Sequence[str],
    given: Mapping[str, object],
    *,
    output: Path | None = None,
    reporter: Reporter | None = None,
) -> Comparison:
    """Compares models on a fixed sample of a source.

    The sample goes through the ordinary ``extract`` for each model, so its vectors are kept and a later extract
    reuses them. With labels, a probe is judged on the same folds for all models; see ``heads.probe`` and
    ``heads.interval`` for how. Without, the overlap of their neighbourhoods says where looking is worth while.

    Args:
        layout: The store.
        source: What ``extract`` takes.
        names: The models, all for images or all for texts.
        given: Settings of ``extract`` by name; ``sample`` is 2,000 by default.
        output: A folder for one sheet a model of the neighbours of the same five queries.
        reporter: Told of progress.

    Raises:
        UsageError: The source, a model or a setting cannot be used as given, or models of images and of texts
            were named together.
        GateError: The source is gone or empty, or an exported model does not compute what the original does.
    """
    reporter = reporter or Reporter()
    started = time.monotonic()
    if output is not None and output.exists() and not output.is_dir():
        raise UsageError(f"{output} is a file; the sheets go into a folder.", hint="Name another --output.")
    asked = check(layout, source, names, given)
    founding.found(layout)
    cards: dict[str, ModelCard] = {}
    warnings: list[str] = []
    for request in asked.requests:  # all of them before the first hour of embedding
        card = models.ensure(layout, request, progress=reporter.message)
        if card.space_id in cards:
            warnings.append(f"'{request.model}' is the same model as another one ({card.space_id}): compared once")
        else:
            cards[card.space_id] = replace(card, model=_shown(request.model, card))
    runs: dict[str, ExtractResult] = {}
    for request in asked.requests:
        reporter.message(f"embedding the sample with {request.model}")
        run = _extract(layout, asked, request.model, reporter, warnings)
        runs.setdefault(run.space_id, run)

    found = Preparation(layout, asked.settings, Reporter(), asked.name, asked.source, asked.record, None)
    scan = found.scan()
    items = gather(layout, asked.name, list(cards.values()), scan.items)
    warnings += [text for text in found.warnings if text not in warnings]
    if len(items) < scan.items.num_rows:
        missing = scan.items.num_rows - len(items)
        warnings.append(f"{missing:,} of {scan.items.num_rows:,} items of the sample lack a vector of some model")
    reporter.stage("judging", len(cards))
    verdict = judge(items, done=lambda: reporter.advance(1))
    warnings += verdict.warnings
    rates = {}
    read = asked.source.reader(items.rows).read
    reporter.stage("timing", len(cards))
    for space_id, card in cards.items():
        encoder = open_encoder(layout, card, asked.settings)
        rates[space_id] = (rate.items_per_second(encoder, read, len(items)), encoder.backbone.device)
        reporter.advance(1)
    whole = found.whole.num_rows if found.whole is not None else scan.items.num_rows
    near = _neighbourhoods(items)
    comparison = Comparison(
        table=asked.name,
        source=asked.source.uri,
        modality=asked.source.modality,
        source_items=whole,
        sampled=scan.items.num_rows,
        compared=len(items),
        labelled=verdict.labelled,
        classes=verdict.classes,
        folds=verdict.folds,
        majority=verdict.majority,
        rare=verdict.rare,
        best=verdict.best,
        models=tuple(_line(card, runs[space], verdict, rates[space], whole) for space, card in cards.items()),
        neighbours=near.neighbours,
        overlap=near.overlap,
        chance=near.chance,
        queries=tuple(items.ids[at] for at in near.queries),
        files=(),
        seconds=0.0,
        warnings=tuple(warnings),
    )
    if output is not None:
        comparison = replace(comparison, files=_sheets(layout, output, asked.name, list(cards.values()), items, near))
    return replace(comparison, seconds=round(time.monotonic() - started, 3))


def _shown(name: str, card: ModelCard) -> str:
    """The name that was asked for, unless it is the id of a space, which says less than the card."""
    return card.model if name == card.space_id else name


def _extract(layout: Layout, asked: Request, model: str, reporter: Reporter, warnings: list[str]) -> ExtractResult:
    try:
        return extract(layout, replace(asked.settings, model=model), asked.origins_of(model), reporter=reporter)
    except TooManyRejectsError as error:  # the good items are stored, which is all that a comparison needs
        result = error.context["result"]
        assert isinstance(result, ExtractResult)
        warnings.append(f"{model}: {error.message}")
        return result


@dataclass(frozen=True)
class _Neighbourhoods:
    neighbours: int
    overlap: dict[str, dict[str, float]] = field(default_factory=dict)
    queries: tuple[int, ...] = ()
    chance: float | None = None


def _neighbourhoods(items: Items) -> _Neighbourhoods:
    """Overlap and queries among items of different contents: twins are neighbours in every space."""
    first = {content: at for at, content in reversed(list(enumerate(items.contents)))}
    distinct = np.array(sorted(first.values()), np.int64)
    spaces = {space: vectors[distinct] for space, vectors in items.vectors.items()}
    k = max(0, min(_NEIGHBOURS, len(distinct) - 1))
    others = len(distinct) - 1
    told = 0 < k < others  # all of the others are the same for every model
    overlap = agreement.overlap(spaces, np.arange(min(len(distinct), _OVERLAP_QUERIES)), k) if told else {}
    queries = distinct[agreement.farthest(spaces, _SHEET_QUERIES)]
    return _Neighbourhoods(k, overlap, tuple(queries.tolist()), round(k / others, 6) if told else None)


def _line(
    card: ModelCard, run: ExtractResult, verdict: Verdict, measured: tuple[float, str], whole: int
) -> ComparedModel:
    speed, device = measured
    score = verdict.scores.get(card.space_id)
    behind = score.behind if score is not None else None
    return ComparedModel(
        model=card.model,
        space_id=card.space_id,
        accuracy=None if score is None else round(score.accuracy, 6),
        balanced_accuracy=None if score is None else round(score.balanced_accuracy, 6),
        difference=None if behind is None else round(behind[0], 6),
        difference_low=None if behind is None else round(behind[1], 6),
        difference_high=None if behind is None else round(behind[2], 6),
        items_per_s=round(speed, 3),
        device=device,
        whole_seconds=round(whole / speed, 1) if speed else 0.0,
        whole_bytes=whole * (card.dim * 4 + _ROW_BYTES),
        dim=card.dim,
        parameters=card.weights.parameters,
        model_bytes=card.onnx.bytes,
        licence=card.weights.licence,
        training_data=card.weights.training_data,
        stored=run.stored,
        reused=run.reused,
        rejected=run.rejected,
    )


def _sheets(
    layout: Layout, output: Path, name: str, cards: list[ModelCard], items: Items, near: _Neighbourhoods
) -> tuple[str, ...]:
    if not near.neighbours:
        return ()
    drawn = [sheets.Sheet.of(card, items, near.queries) for card in cards]
    wanted = {items.contents[at] for sheet in drawn for at in sheet.shown}
    return tuple(str(path) for path in sheets.write(output, drawn, items, previews.find(layout, name, wanted)))
