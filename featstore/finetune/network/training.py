"""The training of a network, epoch by epoch, from wherever an earlier run was ended."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, replace

import numpy as np

from featstore.extract.progress import Reporter
from featstore.finetune.examples import Examples, Start
from featstore.finetune.network import batches
from featstore.finetune.network.checkpoints import Checkpoints
from featstore.finetune.network.choices import defaults
from featstore.finetune.network.course import Course, best_of
from featstore.finetune.network.heads import current
from featstore.finetune.network.preparing import prepared
from featstore.finetune.network.trained import Trained
from featstore.layout import Layout
from featstore.models.original import Original
from featstore.records import FinetuneEpoch, TunedBlock
from featstore.settings import FinetuneSettings
from featstore.storage import hashing

__all__ = ["train"]

_WITH_EFFECT = (
    *("start", "lora", "lora_alpha", "batch_norm", "epochs", "patience", "optimizer", "learning_rate", "head_rate"),
    *("layer_decay", "halving", "schedule", "warmup", "momentum", "weight_decay", "clip", "dropout", "class_weights"),
    *("crop_scale", "flip", "rotation", "color", "randaugment", "batch", "mixed_precision", "seed"),
)


def train(
    original: Original,
    start: Start,
    train: Examples,
    validation: Examples,
    settings: FinetuneSettings,
    *,
    blocks: Sequence[TunedBlock],
    layout: Layout,
    folder: str,
    reporter: Reporter,
    stop: Callable[[int, float], bool] | None = None,
    observe: Callable[[FinetuneEpoch], None] | None = None,
) -> Trained:
    """Trains a network and a head on labelled contents and goes back to the epoch that was best on others.

    With a fitted head as the start this is LP-FT. The best epoch is the one of the highest accuracy, among equals of
    the lowest loss; the start counts as epoch -1. Training ends after ``epochs``, after ``patience`` epochs without a
    better one (counted once the last block has begun), or where the loss is no longer finite.

    An interrupted training goes on from its last checkpoint in ``folder``, on the processor to the same bits. A
    finished one is taken from there as it is, without a step.

    Sources: Kumar et al., Fine-Tuning can Distort Pretrained Features (2022), for LP-FT; Prechelt, Early stopping – but
    when? (1998).

    Args:
        original: A freshly loaded network; it is trained in place.
        start: The fitted head; of a random one only the shape counts.
        train: What is learned from.
        validation: What epochs are judged by.
        settings: What is None is filled in as ``defaults`` does.
        blocks: Of ``tuned_blocks``.
        layout: The store.
        folder: Where in it the checkpoints lie.
        reporter: Told of the steps of the stage ``training``, of each epoch, and when a checkpoint is durable.
        stop: Asked after each epoch, with its number and validation accuracy, whether to end.
        observe: Told of each epoch as it ends.

    Raises:
        UsageError: A block, the device, the precision or peft is not there.
        ItemError: An example cannot be read.
        FeatstoreError: Memory runs out with one example at a time.
        StorageError: A checkpoint cannot be written.
        InterruptedRunError: A signal came; run it again to go on.
    """
    settings = defaults(settings, original, n_train=len(train))
    identity = _identity(start, train, validation, settings, blocks)
    kept = Checkpoints(layout, folder, identity, settings.checkpoint_every)
    with prepared(original, start, train.truth, settings, blocks, reporter.warning) as ready:
        course = Course(
            learner=ready.learner,
            given=batches.inputs(original, train, settings, augment=True),
            shown=batches.inputs(original, validation, settings, augment=False),
            settings=settings,
            kept=kept,
            reporter=reporter,
            last_begin=ready.last_begin,
        )
        progress = course.begun()
        reporter.stage("training", course.steps)
        reporter.advance(min(course.steps, progress.epoch * course.steps_each + progress.step))
        while not progress.finished:
            progress, record = course.epoch(progress, stop)
            if record is not None and observe is not None:
                observe(record)
        ready.learner.load(kept.best(), epoch=0)
        if ready.adapters is not None:
            ready.adapters.merge()
        head = current(ready.learner.head, unit=start.unit)
    best = best_of(progress.history).epoch
    return Trained(
        original=original,
        head=head,
        epochs=tuple(replace(record, best=record.epoch == best) for record in progress.history),
        best_epoch=best,
        stopped_early=progress.stopped_early,
        micro_batch=progress.micro_batch,
    )


def _identity(
    start: Start, train: Examples, validation: Examples, settings: FinetuneSettings, blocks: Sequence[TunedBlock]
) -> str:
    """A digest of all that determines the result, but for the contents and the network, which ``folder`` stands for.

    How many examples are computed at once matters only to statistics that follow them.
    """
    cut = settings.micro_batch if settings.batch_norm == "train" else None
    arrays = (start.weight, start.bias, train.truth, validation.truth)
    return hashing.of_json(
        {
            "settings": {name: getattr(settings, name) for name in _WITH_EFFECT} | {"micro_batch": cut},
            "blocks": [asdict(block) for block in blocks],
            "arrays": [hashing.of_bytes(np.ascontiguousarray(array).tobytes()) for array in arrays],
            "unit": start.unit,
        }
    )
