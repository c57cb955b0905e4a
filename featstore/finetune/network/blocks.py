"""Which blocks are trained, and from which epoch on: gradual unfreezing from the top.

Source: Howard and Ruder, Universal Language Model Fine-tuning for Text Classification (2018).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from featstore.errors import UsageError
from featstore.finetune.network.choices import filled
from featstore.finetune.network.lora import adaptable, adapter_shapes
from featstore.finetune.network.parts import Part, named, parts
from featstore.models.original import Original
from featstore.records import TunedBlock
from featstore.settings import FinetuneSettings

__all__ = ["TrainedPart", "trained_parts", "tuned_blocks"]


@dataclass(frozen=True, eq=False)
class TrainedPart:
    """A part of the network that is trained from an epoch on.

    Attributes:
        part: The part.
        epoch: When it begins, from 0.
        shapes: What of it is trained, by name: its own parameters, or the adapters beside them.
    """

    part: Part
    epoch: int
    shapes: dict[str, tuple[int, ...]]


def tuned_blocks(original: Original, settings: FinetuneSettings, *, n_train: int) -> tuple[TunedBlock, ...]:
    """Says of every block of a network, from the top down, when it begins to be trained.

    Where the settings name no blocks, as many from the top as ``depth`` says are trained, and all of them have begun
    by the middle of the epochs: where there are too few epochs for one block each, several begin at once.

    Args:
        original: The loaded network.
        settings: As asked for; ``defaults`` are filled in.
        n_train: How many items are trained on.

    Raises:
        UsageError: A block is not in the network, is named twice, would begin after the last epoch or has nothing
            that an adapter fits on; the nearest names are given.
    """
    stack = parts(original)
    settings = filled(settings, stack, n_train=n_train)
    wanted = [_parsed(text) for text in settings.blocks]
    if settings.blocks:
        trained = [named(original, stack, name) for name, _ in wanted]
        _check(trained, settings)
    else:
        able = [part for part in stack if not settings.lora or adaptable(part)]
        trained = able[: settings.depth]
    if not trained or (settings.lora and not all(adaptable(part) for part in trained)):
        raise UsageError(
            f"{original.model}: an adapter fits on linear layers and convolutions, and there is none in "
            f"{', '.join(part.name for part in trained) or 'this network'}.",
            hint="Leave lora out.",
        )
    own = dict(wanted)
    trained = sorted(trained, key=lambda part: _place(part, stack))
    begins = _begins(len(trained), settings)
    found = [
        TunedBlock(
            name=part.name, parameters=part.size, epoch=begin if (asked := own.get(part.name)) is None else asked
        )
        for part, begin in zip(trained, begins, strict=True)
    ]
    taken = {name for part in trained for name in part.parameters}
    rest = [(part, sum(p.numel() for n, p in part.parameters.items() if n not in taken)) for part in stack]
    frozen = [(part, TunedBlock(name=part.name, parameters=size, epoch=None)) for part, size in rest if size]
    placed = [*zip(trained, found, strict=True), *frozen]
    return tuple(block for _, block in sorted(placed, key=lambda entry: _place(entry[0], stack)))


def trained_parts(
    original: Original, blocks: Sequence[TunedBlock], settings: FinetuneSettings
) -> tuple[TrainedPart, ...]:
    """The parts of a network that blocks stand for, without those that are never trained.

    Args:
        original: The loaded network, before adapters are put into it.
        blocks: Of ``tuned_blocks``.
        settings: Whether adapters are trained.

    Raises:
        UsageError: The network has no such block.
    """
    stack = parts(original)
    found = []
    for block in blocks:
        if block.epoch is not None:
            part = named(original, stack, block.name)
            own = {name: tuple(p.shape) for name, p in part.parameters.items()}
            shapes = own if settings.lora is None else adapter_shapes(part, settings.lora)
            found.append(TrainedPart(part, block.epoch, shapes))
    return tuple(found)


def _begins(count: int, settings: FinetuneSettings) -> list[int]:
    """The epoch that each of so many blocks begins in."""
    assert settings.epochs is not None
    if settings.unfreeze_every == 0:
        return [0] * count
    events = max(1, math.ceil(settings.epochs / 2 / settings.unfreeze_every))
    return [min(i, i * events // count) * settings.unfreeze_every for i in range(count)]


def _parsed(text: str) -> tuple[str, int | None]:
    name, colon, epoch = text.partition(":")
    if colon and not epoch.isdecimal():
        raise UsageError(f"block '{text}': behind the colon stands an epoch, from 0.", hint="Such as layer3:2")
    return name, int(epoch) if colon else None


def _check(trained: Sequence[Part], settings: FinetuneSettings) -> None:
    assert settings.epochs is not None
    for text in settings.blocks:
        begin = _parsed(text)[1]
        if begin is not None and begin >= settings.epochs:
            raise UsageError(f"block '{text}' would begin after the end: there are {settings.epochs} epochs, from 0.")
    owner: dict[str, str] = {}
    for part in trained:
        for name in part.parameters:
            if name in owner:
                raise UsageError(
                    f"blocks: {name} is in '{owner[name]}' and in '{part.name}'.", hint="Name each part once."
                )
            owner[name] = part.name


def _place(part: Part, stack: Sequence[Part]) -> tuple[int, int]:
    """Where a part lies, from the top: by its own last parameter."""
    order = [name for known in reversed(stack) for name in known.parameters]
    last = max(order.index(name) for name in part.parameters)
    # A named piece of a part stands before the rest of that part.
    return -last, len(part.parameters)
