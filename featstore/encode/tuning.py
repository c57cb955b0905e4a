"""How a model is run on this kind of machine where nobody says: as ``models bench --keep`` found it fastest."""

from __future__ import annotations

import platform
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from featstore import models
from featstore.errors import IntegrityError
from featstore.layout import Layout
from featstore.machine import available_cpus
from featstore.records import ModelCard, TunedChoice, Tuning
from featstore.storage import documents

if TYPE_CHECKING:
    from featstore.settings import ExtractSettings

__all__ = ["CHOSEN", "ORIGIN", "applied", "hardware", "keep", "kept"]

CHOSEN = ("backend", "workers", "batch_size", "token_budget")
"""The settings that a choice is about; each is None where nobody has said anything."""

ORIGIN = "models bench"
"""Where a manifest says that they came from."""

_RUNTIMES = ("onnxruntime", "onnxruntime-gpu", "openvino")


@cache
def hardware() -> tuple[str, int, dict[str, str]]:
    """What a choice depends on: the processor, the cores that may be used, the runtimes' versions."""
    model = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        pass
    versions = {name: version for name, version in models.versions().items() if name in _RUNTIMES}
    return model, available_cpus(), versions


def kept(layout: Layout, card: ModelCard) -> TunedChoice | None:
    """The choice for this kind of machine, if one was kept."""
    try:
        found = documents.find(layout.storage, layout.tuning(card.space_id), Tuning)
    except IntegrityError:  # only a note of what was fast: measuring again mends it
        return None
    return next((choice for choice in found.choices if _of(choice) == hardware()), None) if found is not None else None


def applied(layout: Layout, card: ModelCard, settings: ExtractSettings) -> ExtractSettings:
    """The settings with what is not said in them filled in from the choice for this kind of machine, on a CPU."""
    choice = kept(layout, card)
    if choice is None or settings.device.startswith("cuda") or (settings.device == "auto" and models.cuda_works()):
        return settings
    filled = {name: getattr(choice, name) for name in CHOSEN if getattr(settings, name) is None}
    return replace(settings, **filled)


def keep(layout: Layout, card: ModelCard, choice: TunedChoice) -> None:
    """Puts a choice in the place of the one for the same kind of machine."""
    try:
        found = documents.find(layout.storage, layout.tuning(card.space_id), Tuning)
    except IntegrityError:
        found = None
    others = () if found is None else tuple(one for one in found.choices if _of(one) != _of(choice))
    documents.write(
        layout.storage, layout.tuning(card.space_id), Tuning(space_id=card.space_id, choices=(*others, choice))
    )


def _of(choice: TunedChoice) -> tuple[str, int, dict[str, str]]:
    return choice.cpu, choice.cores, choice.versions
