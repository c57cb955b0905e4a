"""How fast a network is trained here, before it is."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace

import numpy as np

from featstore.finetune.examples import Examples, Start
from featstore.finetune.network import batches
from featstore.finetune.network.choices import defaults
from featstore.finetune.network.judging import judged, vectors
from featstore.finetune.network.preparing import prepared
from featstore.models.original import Original
from featstore.records import TunedBlock
from featstore.settings import FinetuneSettings

__all__ = ["rate"]

_MEASURED = 3  # batches, after a first one that only warms up
_AT_MOST = 8  # examples of each


def rate(
    original: Original, examples: Examples, settings: FinetuneSettings, blocks: Sequence[TunedBlock]
) -> tuple[float, float]:
    """Measures a few passes with all blocks learning; the weights stay as they are.

    Args:
        original: The loaded network.
        examples: What will be trained on; a few dozen are looked at.
        settings: As asked for; ``defaults`` are filled in.
        blocks: Of ``tuned_blocks``.

    Returns:
        Seconds for an item that is trained on, decoding and augmentation included, and for one that is judged.

    Raises:
        UsageError: A block, the device, the precision or peft is not there.
        ItemError: An example cannot be read.
    """
    # Statistics that follow would be changed by looking.
    settings = replace(defaults(settings, original, n_train=len(examples)), batch_norm="frozen")
    count = min(len(examples), _AT_MOST * (1 + _MEASURED))
    some = Examples(read=examples.read, truth=examples.truth[:count])
    dim = vectors(original, Examples(read=examples.read, truth=examples.truth[:1])).shape[1]
    classes = int(examples.truth.max()) + 1
    start = Start(weight=np.zeros((classes, dim), np.float32), bias=np.zeros(classes, np.float32))
    with prepared(original, start, some.truth, settings, blocks, lambda _: None) as ready:
        learner = ready.learner
        learner.begin(ready.last_begin)
        given = batches.inputs(original, some, settings, augment=True)
        rows = batches.cut(np.arange(count), min(_AT_MOST, settings.batch))
        done, begun = 0, time.perf_counter()
        with closing(given.batches(rows)) as made:
            for number, batch in enumerate(made):
                learner.gradients(batch, seed=0)
                if number == 0 and len(rows) > 1:
                    begun = time.perf_counter()
                else:
                    done += len(batch)
        trained = (time.perf_counter() - begun) / done
        shown = batches.inputs(original, some, settings, augment=False)
        begun = time.perf_counter()
        judged(learner.graph, learner.head, shown, learner.class_weights, device=learner.device, size=_AT_MOST)
        return trained, (time.perf_counter() - begun) / count
