"""A network made ready to be trained, and put back as it was afterwards."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from featstore.finetune.examples import Start
from featstore.finetune.network import devices
from featstore.finetune.network.blocks import trained_parts
from featstore.finetune.network.heads import random_head
from featstore.finetune.network.learner import Learner
from featstore.finetune.network.lora import Adapters, adapted
from featstore.finetune.network.memory import recomputed
from featstore.finetune.network.modes import restored
from featstore.finetune.network.parts import parts
from featstore.finetune.weighing import class_weights
from featstore.models.original import Original
from featstore.records import TunedBlock
from featstore.settings import FinetuneSettings

__all__ = ["Prepared", "prepared"]


@dataclass(frozen=True, eq=False)
class Prepared:
    """A network on its device that can take steps; ``last_begin`` is the epoch in which its last block begins."""

    learner: Learner
    adapters: Adapters | None
    last_begin: int


@contextmanager
def prepared(
    original: Original,
    start: Start,
    truth: NDArray[np.int64],
    settings: FinetuneSettings,
    blocks: Sequence[TunedBlock],
    warn: Callable[[str], None],
) -> Iterator[Prepared]:
    """Puts a network on its device, with adapters where they are asked for; the weights are as they were until a step.

    Afterwards it is on the processor and in evaluation mode, its values in the memory that ``original.state`` shares,
    and without adapters: those that were not merged are gone.

    Args:
        original: The loaded network.
        start: The head to begin with, or the shape of a random one.
        truth: The classes of what is trained on.
        settings: With every default filled in.
        blocks: What is trained from when on.
        warn: Told when memory runs out.

    Raises:
        UsageError: The device, the precision, a block or peft is not there.
    """
    device = devices.chosen(settings.device)
    stack, trained = parts(original), trained_parts(original, blocks, settings)
    begin = start if settings.start == "head" else random_head(start, seed=settings.seed)
    weights = class_weights(truth, len(start.weight), settings.class_weights)
    with ExitStack() as undone:
        undone.enter_context(devices.placed(original, device))
        undone.enter_context(restored(original.graph))
        adapters = None
        if settings.lora is not None:
            adapters = adapted(original, [block.part for block in trained], settings)
            undone.callback(adapters.remove)
        if settings.checkpointing:
            undone.enter_context(recomputed(stack))
        tensors = None if adapters is None else adapters.tensors
        learner = Learner(original, begin, trained, tensors, settings, weights, device, warn)
        yield Prepared(learner, adapters, max((block.epoch for block in trained), default=0))
