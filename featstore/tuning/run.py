"""One bench: open a model in every way, time all of them in turn, mark the best, keep it on request."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime

from featstore import founding, models
from featstore.encode import rate, tuning
from featstore.errors import SettingsError, UsageError
from featstore.extract.progress import Reporter
from featstore.layout import Layout
from featstore.records import BenchLine, Fidelity, ModelBench, ModelCard, TunedChoice
from featstore.settings import ExtractSettings
from featstore.tuning.items import gather
from featstore.tuning.ways import Asked, Way, ways

__all__ = ["bench"]

_ROUNDS = 5

# What is not faster than the default by so much, in the median of its rounds, is taken for noise.
_WORTH = 1.05


def bench(
    layout: Layout,
    settings: ExtractSettings,
    asked: Asked,
    *,
    table: str | None = None,
    seconds: float = 5.0,
    keep: bool = False,
    reporter: Reporter | None = None,
) -> ModelBench:
    """Measures how fast a model is on this machine's CPU, from contents to vectors, in several ways side by side.

    Every round times each way once, beginning with another one, so that what else the machine does weighs on all. The
    best of a space is the one with the highest median, unless the default comes within 5 % of it, round by round.

    Args:
        layout: The store.
        settings: The model with its options, and the source with how it is read; an empty source means the samples
            that come with the program.
        asked: What is varied.
        table: A table whose source is taken.
        seconds: How long each way is timed, about, all rounds together.
        keep: Makes the best of each space what is used on such machines where nobody says anything else.
        reporter: Told of progress.

    Raises:
        UsageError: The model, the source or a way cannot be used as asked.
        NotFoundError: There is no such model, source or table.
        IntegrityError: The model gives other vectors here than its space has.
    """
    reporter = reporter or Reporter()
    started = time.monotonic()
    if settings.source and table is not None:
        raise SettingsError("a source and a table were both named.", hint="Give --source or --table.")
    if not seconds > 0:
        raise SettingsError(f"seconds must be more than 0, not {seconds:g}.")
    asked.check(models.modality_of(models.requested(settings, table=table), layout))
    founding.found(layout)
    cards = _cards(layout, settings, asked, table, reporter)
    items = gather(layout, cards[0], settings, table)
    found, warnings = ways(layout, cards, settings, asked)
    for warning in warnings:
        reporter.warning(warning)
    reporter.stage("timing", len(found) * _ROUNDS)
    rates = rate.side_by_side(
        [way.encoder for way in found],
        items.read,
        1 << 20,
        rounds=_ROUNDS,
        seconds=seconds / _ROUNDS,
        alike=True,
        done=lambda: reporter.advance(1),
    )
    best = {_best(card, found, rates) for card in cards if any(way.card is card for way in found)}
    lines = tuple(_line(way, rates[at], at in best) for at, way in enumerate(found))
    kept = []
    for at in sorted(best) if keep else ():
        tuning.keep(layout, found[at].card, _choice(lines[at], found[at].card, items.source))
        kept.append(found[at].card.space_id)
    cpu, cores, _ = tuning.hardware()
    return ModelBench(
        model=settings.model,
        modality=cards[0].modality,
        source=items.source,
        items=items.count,
        cpu=cpu,
        cores=cores,
        lines=lines,
        kept=tuple(kept),
        seconds=round(time.monotonic() - started, 3),
        warnings=tuple(warnings),
    )


def _cards(
    layout: Layout, settings: ExtractSettings, asked: Asked, table: str | None, reporter: Reporter
) -> list[ModelCard]:
    """The spaces to measure: the model's own, and what was made of it in fewer bits and is in the store."""
    request = models.requested(settings, table=table)
    cards = []
    for precision in dict.fromkeys(asked.precisions) or ("fp32", "int8"):
        if precision == "fp32":
            cards.append(models.ensure(layout, request, progress=reporter.message))
            continue
        if not asked.precisions and (cards[0].space_id == settings.model or cards[0].precision != "fp32"):
            continue  # one space was named, and it says all
        card = models.find(layout, replace(request, options=replace(request.options, precision="int8")))
        if card is not None:
            cards.append(card)
        elif asked.precisions:
            raise UsageError(
                f"the store has no int8 version of {settings.model}"
                + (f" that passed on the items of '{table}'." if table is not None else "."),
                hint=f"It is made of your own items: featstore extract SOURCE --model {settings.model} "
                "--precision int8; then name the table, or the space it made.",
            )
    return cards


def _best(card: ModelCard, found: Sequence[Way], rates: Sequence[Sequence[float]]) -> int:
    own = [at for at, way in enumerate(found) if way.card is card]
    fastest = max(own, key=lambda at: statistics.median(rates[at]))
    usual = next((at for at in own if found[at].default), None)
    if usual is None or not all(rates[usual]):
        return fastest
    gain = statistics.median(a / b for a, b in zip(rates[fastest], rates[usual], strict=True))
    return fastest if gain >= _WORTH else usual


def _line(way: Way, rates: Sequence[float], best: bool) -> BenchLine:
    return BenchLine(
        space_id=way.card.space_id,
        precision=way.card.precision,
        backend=way.backend,
        runtime=way.encoder.backbone.runtime,
        workers=way.encoder.threads,
        batch=way.encoder.batch,
        items_per_s=round(statistics.median(rates), 3),
        low=round(min(rates), 3),
        high=round(max(rates), 3),
        rounds=tuple(round(value, 3) for value in rates),
        best=best,
        fidelity=_fidelity(way.card),
    )


def _fidelity(card: ModelCard) -> Fidelity | None:
    if card.quantisation is None:
        return None
    passed = [step.fidelity for step in card.quantisation.steps if not step.failed]
    return passed[-1] if passed else None


def _choice(line: BenchLine, card: ModelCard, source: str | None) -> TunedChoice:
    cpu, cores, versions = tuning.hardware()
    return TunedChoice(
        cpu=cpu,
        cores=cores,
        versions=versions,
        backend=line.backend,
        workers=line.workers,
        batch_size=line.batch if card.modality == "image" else None,
        token_budget=line.batch if card.modality == "text" else None,
        items_per_s=line.items_per_s,
        source=source or "built-in samples",
        measured_ts=datetime.now(UTC).isoformat(timespec="seconds"),
    )
