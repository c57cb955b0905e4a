"""Who learns how fast: the optimizer's groups, block by block.

Sources: Howard and Ruder (2018) for discriminative rates; Clark et al., ELECTRA (2020), for a decay from layer to
layer; no decay of biases and norms as in Goyal et al., Accurate, Large Minibatch SGD (2017).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from featstore.finetune.network.blocks import TrainedPart, trained_parts
from featstore.models.original import Original
from featstore.records import ParameterGroup, TunedBlock
from featstore.settings import FinetuneSettings

__all__ = ["HEAD", "Allotment", "allotted", "groups"]

HEAD = "head"

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Allotment:
    """A group, and the names of the tensors in it."""

    group: ParameterGroup
    names: tuple[str, ...]


def groups(
    original: Original,
    head_shape: tuple[int, int],
    settings: FinetuneSettings,
    blocks: Sequence[TunedBlock],
    *,
    epoch: int,
) -> tuple[ParameterGroup, ...]:
    """The optimizer's groups in an epoch: the head, then the blocks that have begun, from the top down.

    Args:
        original: The loaded network, without adapters.
        head_shape: Classes and the vector's length.
        settings: With ``defaults`` filled in.
        blocks: Of ``tuned_blocks``.
        epoch: From 0.
    """
    return tuple(a.group for a in allotted(trained_parts(original, blocks, settings), head_shape, settings, epoch))


def allotted(
    trained: Sequence[TrainedPart], head_shape: tuple[int, int], settings: FinetuneSettings, epoch: int
) -> tuple[Allotment, ...]:
    """As ``groups``, with the tensors' names: ``head.weight``, those of the network, ``… lora_A`` and ``… lora_B``."""
    assert settings.learning_rate is not None
    assert settings.head_rate is not None
    begins = {block.epoch for block in trained}
    halved = 0.5 ** sum(0 < begin <= epoch for begin in begins) if settings.halving else 1.0
    found = _split(
        HEAD, {"head.weight": head_shape, "head.bias": head_shape[:1]}, settings.head_rate * halved, settings
    )
    for place, block in enumerate(trained):
        if block.epoch <= epoch:
            rate = settings.learning_rate * settings.layer_decay**place * halved
            # SigLIP calls its pooling so too; a group is known by its name.
            name = f"{HEAD} of the network" if block.part.name == HEAD else block.part.name
            found += _split(name, block.shapes, rate, settings)
    return tuple(found)


def _split(name: str, shapes: Mapping[str, Shape], rate: float, settings: FinetuneSettings) -> list[Allotment]:
    """Matrices decay, biases and scales do not."""
    found = []
    for suffix, decay, flat in (("", settings.weight_decay, False), (" (no decay)", 0.0, True)):
        own = [known for known, shape in shapes.items() if (len(shape) <= 1) == flat]
        if own:
            count = sum(math.prod(shapes[known]) for known in own)
            group = ParameterGroup(name=name + suffix, parameters=count, rate=rate, decay=decay)
            found.append(Allotment(group, tuple(own)))
    return found
