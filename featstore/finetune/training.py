"""From the labelled items to a trained network, by way of a search where one is asked for."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from featstore.finetune import frozen, network, outcome
from featstore.finetune.examples import Start
from featstore.finetune.key import learned
from featstore.finetune.outcome import Outcome
from featstore.storage import hashing

if TYPE_CHECKING:
    from featstore.finetune.prepared import Prepared
    from featstore.records import FinetuneTrial, ParameterGroup, TunedBlock
    from featstore.settings import FinetuneSettings

__all__ = ["Undertaking", "train", "undertaking"]

Stop = Callable[[int, float], bool]

# The parts of an estimate's range: how far a machine's speed moves within hours.
_FASTER, _SLOWER = 0.8, 1.5


@dataclass(frozen=True)
class Undertaking:
    """What would be trained.

    Attributes:
        settings: As asked, what follows from the network filled in.
        blocks: The parts of the network from the top down.
        groups: The optimizer's, in the epoch from when on nothing more begins.
        method: In a word or two.
        steps: Of the optimizer, where no epoch is spared.
        seconds: The least and the most that it may take, by rates measured just now.
    """

    settings: FinetuneSettings
    blocks: tuple[TunedBlock, ...]
    groups: tuple[ParameterGroup, ...]
    method: str
    steps: int
    seconds: tuple[float, float]

    @property
    def trained(self) -> int:
        """How many numbers of the network, or of its adapters, are trained in the end; the head's are not counted."""
        return sum(group.parameters for group in self.groups if group.name.removesuffix(" (no decay)") != "head")


def undertaking(given: Prepared) -> Undertaking:
    """What would be trained, and for how long; the network stays as it is.

    Raises:
        UsageError: The network has no such blocks, or the settings do not fit it.
    """
    mine = given.labelled
    items, validated = int(mine.trained.sum()), int(mine.validated.sum())
    settings = network.defaults(given.settings, given.original, n_train=items)
    blocks = network.tuned_blocks(given.original, settings, n_train=items)
    last = max((block.epoch or 0 for block in blocks), default=0)
    shape = (len(mine.data.classes), given.origin.dim)
    assert settings.epochs is not None
    learning, judging = network.rate(given.original, mine.examples(mine.trained), settings, blocks)
    least = settings.epochs if settings.epochs <= settings.patience else settings.patience + 1
    passes = items * learning + validated * judging
    trials = 1 + (settings.trials or 0)
    return Undertaking(
        settings=settings,
        blocks=blocks,
        groups=network.groups(given.original, shape, settings, blocks, epoch=last),
        method=network.method(settings),
        steps=settings.epochs * -(-items // settings.batch),
        seconds=(_FASTER * least * passes, _SLOWER * trials * settings.epochs * passes),
    )


def train(given: Prepared, planned: Undertaking) -> Outcome:
    """Trains the network, or goes on where it was stopped, and writes down how it ended.

    Raises:
        FeatstoreError: The memory is not enough for a single item, or a content cannot be read any more.
        InterruptedRunError: A signal stopped it; run it again to go on.
    """
    from featstore.models import tuned

    started = time.monotonic()
    start = _start(given)
    settings, trials = planned.settings, tuple["FinetuneTrial", ...]()
    if settings.trials is not None:
        settings, trials = _searched(given, planned, start)
    folder = given.layout.finetune(given.table.name, given.key)
    found = _run(given, settings, start, folder)
    improved = found.best_epoch >= 0
    blocks = network.tuned_blocks(given.original, settings, n_train=int(given.labelled.trained.sum()))
    return outcome.write(
        given.layout,
        given.table.name,
        given.key,
        Outcome(
            settings=outcome.said(settings),
            method=network.method(settings),
            blocks=blocks,
            epochs=found.epochs,
            best_epoch=found.best_epoch,
            stopped_early=found.stopped_early,
            micro_batch=found.micro_batch,
            trials=trials,
            unit=found.head.unit,
            seconds=round(time.monotonic() - started, 3),
        ),
        found.head,
        tuned.pack(found.original) if improved else None,
    )


def _run(
    given: Prepared, settings: FinetuneSettings, start: Start, folder: str, stop: Stop | None = None
) -> network.Trained:
    mine, original = given.labelled, given.original
    blocks = network.tuned_blocks(original, settings, n_train=int(mine.trained.sum()))
    found = network.train(
        original,
        start,
        mine.examples(mine.trained),
        mine.examples(mine.validated),
        settings,
        blocks=blocks,
        layout=given.layout,
        folder=folder,
        reporter=given.reporter,
        stop=stop,
    )
    network.free()
    return found


def _searched(
    given: Prepared, planned: Undertaking, start: Start
) -> tuple[FinetuneSettings, tuple[FinetuneTrial, ...]]:
    """The best settings of a search by validation accuracy; each trial begins with the network as it was."""
    from featstore.finetune import searching
    from featstore.models import tuned

    layout, folder = given.layout, given.layout.finetune(given.table.name, given.key)
    modality = given.card.modality
    untrained = tuned.pack(given.original)

    def attempt(settings: FinetuneSettings, stop: Stop) -> float:
        place = f"{folder}/trials/{hashing.of_json(learned(settings))[:16]}"
        try:
            found = _run(given, replace(settings, trials=None), start, place, stop)
        finally:
            tuned.fill(given.original, untrained, "the network before the search")
        layout.storage.delete_folder(place)
        return max(epoch.validation_accuracy for epoch in found.epochs)

    journal = layout.storage.local(f"{folder}/search.journal")
    return searching.best(
        planned.settings,
        attempt,
        modality=modality,
        journal=journal,
        reporter=given.reporter,
        blocks=planned.blocks,
    )


def _start(given: Prepared) -> Start:
    """The head that training begins with, fitted to the origin's vectors of what is trained on."""
    mine, settings = given.labelled, given.settings
    side, classes = mine.trained, mine.data.classes
    if settings.start == "random":
        shape = (len(classes), given.origin.dim)
        return Start(weight=np.zeros(shape, np.float32), bias=np.zeros(len(classes), np.float32))
    own = given.origin.space_id == given.table.space_id
    given.reporter.stage("fitting the head to begin with")
    vectors = mine.vectors[side] if own else network.vectors(given.original, mine.examples(side))
    return frozen.start(
        vectors,
        mine.truth[side],
        classes,
        mine.fold[side],
        mine.groups[side],
        weights=settings.class_weights,
        seed=settings.seed,
    )
