"""Which settings a search tries, and between which ends."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from featstore.records import Modality, TunedBlock
from featstore.settings import FinetuneSettings

__all__ = ["Field", "Space", "space_of"]

_RANKS = (4, 8, 16, 32)


@dataclass(frozen=True)
class Field:
    """One setting: a range, on a scale of factors with ``log``, whole numbers with ``whole``; or some choices."""

    name: str
    start: float | int | None
    low: float = 0.0
    high: float = 0.0
    log: bool = False
    whole: bool = False
    choices: tuple[int, ...] = ()

    def drawn(self, trial: Any) -> float | int:
        """What an Optuna trial tries; once drawn, it stays."""
        if self.choices:
            return int(trial.suggest_categorical(self.name, list(self.choices)))
        if self.whole:
            return int(trial.suggest_int(self.name, int(self.low), int(self.high)))
        return float(trial.suggest_float(self.name, self.low, self.high, log=self.log))


@dataclass(frozen=True)
class Space:
    """All of them."""

    fields: tuple[Field, ...]

    @property
    def start(self) -> dict[str, float | int]:
        """The settings that the search begins with, as far as they are said."""
        return {one.name: one.start for one in self.fields if one.start is not None}

    def applied(self, settings: FinetuneSettings, tried: Mapping[str, Any]) -> FinetuneSettings:
        """The settings with what is tried in their place; adapters keep the ratio of their scale to their rank."""
        changes = {one.name: tried[one.name] for one in self.fields if one.name in tried}
        rank = changes.get("lora")
        if rank is not None and settings.lora and settings.lora_alpha is not None:
            changes["lora_alpha"] = settings.lora_alpha * rank / settings.lora
        return replace(settings, **changes)


def space_of(settings: FinetuneSettings, modality: Modality, blocks: Sequence[TunedBlock] = ()) -> Space:
    """What can be searched around some settings.

    The rate and how it falls from block to block, how deep it trains where no blocks are named, the decay, the rank of
    adapters where there are any, and how pictures are cropped and coloured. A decay of 0 and a crop that is switched
    off are a decision and stay.

    Args:
        settings: Where the search begins.
        modality: Of the items.
        blocks: The network's, with what the settings make of them; without them the depth stays as it is.
    """
    rate = settings.learning_rate
    usual = (1e-4, 1e-1) if settings.optimizer == "sgd" else (1e-6, 1e-3)
    ends = usual if rate is None else (rate / 10, rate * 10)
    found = [
        Field("learning_rate", rate, *ends, log=True),
        Field("layer_decay", settings.layer_decay, min(0.5, settings.layer_decay), 1.0),
    ]
    if settings.weight_decay > 0:
        low, high = min(1e-4, settings.weight_decay), max(1e-1, settings.weight_decay)
        found.append(Field("weight_decay", settings.weight_decay, low, high, log=True))
    if len(blocks) > 1 and not settings.blocks:
        deep = sum(block.epoch is not None for block in blocks)
        found.append(Field("depth", max(deep, 1), 1, len(blocks), whole=True))
    if settings.lora is not None:
        ranks = tuple(sorted({*_RANKS, settings.lora}))
        found.append(Field("lora", settings.lora, choices=ranks))
    if modality == "image" and settings.crop_scale < 1:
        found.append(Field("crop_scale", settings.crop_scale, min(0.2, settings.crop_scale), 1.0))
    if modality == "image":
        found.append(Field("color", settings.color, 0.0, max(0.4, settings.color)))
    return Space(tuple(found))
