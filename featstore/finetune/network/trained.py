"""What training ends with."""

from __future__ import annotations

from dataclasses import dataclass

from featstore.finetune.examples import Start
from featstore.models.original import Original
from featstore.records import FinetuneEpoch

__all__ = ["Trained"]


@dataclass(frozen=True, kw_only=True)
class Trained:
    """A fine-tuned network, as it was after its best epoch.

    Attributes:
        original: The very one that was given, its graph in evaluation mode with the best weights in place (adapters
            merged), so that ``original.state`` holds them too.
        head: The linear head of the same epoch.
        epochs: From epoch -1 (before the first step) on.
        best_epoch: The one whose weights these are; -1 where no epoch was better than the start.
        stopped_early: Whether patience ended it.
        micro_batch: How many items were computed at once in the end.
    """

    original: Original
    head: Start
    epochs: tuple[FinetuneEpoch, ...]
    best_epoch: int
    stopped_early: bool
    micro_batch: int
