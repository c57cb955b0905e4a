"""The ways of running a model that are measured: precision, backend, threads, and how much at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from featstore import models
from featstore.encode import Encoder
from featstore.encode.opening import open_encoder
from featstore.errors import IntegrityError, UsageError
from featstore.layout import Layout
from featstore.machine import available_cpus
from featstore.records import ModelCard
from featstore.settings import ExtractSettings

__all__ = ["Asked", "Way", "ways"]

_BATCHES = {"image": (8, 16, 32), "text": (128, 256, 512)}
_LEAST = {"image": 1, "text": 16}


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What is to be varied; what is empty is chosen here.

    ``batches`` are in images a call, for texts in padded tokens.
    """

    precisions: Sequence[str] = ()
    backends: Sequence[str] = ()
    threads: Sequence[int] = ()
    batches: Sequence[int] = ()

    def check(self, modality: str) -> None:
        """Refuses what cannot be run.

        Raises:
            UsageError: A precision, a backend or a number does not exist or work here.
        """
        for precision in self.precisions:
            if precision not in ("fp32", "int8"):
                raise UsageError(f"there is no precision '{precision}'.", hint="Precisions: fp32, int8")
        for backend in self.backends:
            models.check_backend(backend, "cpu")
        least = _LEAST[modality]
        if any(number < 1 for number in self.threads):
            raise UsageError(f"threads must be at least 1, not {min(self.threads)}.")
        if any(number < least for number in self.batches):
            unit = "images" if modality == "image" else "tokens"
            raise UsageError(f"a batch has at least {least} {unit}, not {min(self.batches)}.")


@dataclass(frozen=True)
class Way:
    """One way, ready to be timed; ``default`` is how the model is run where nobody says anything."""

    card: ModelCard
    backend: Literal["onnxruntime", "openvino"]
    encoder: Encoder
    default: bool


def ways(
    layout: Layout, cards: Sequence[ModelCard], settings: ExtractSettings, asked: Asked
) -> tuple[list[Way], list[str]]:
    """Opens the models in every way that was asked for, on the CPU; each must give its space's canary vectors.

    Returns:
        The ways, and what to say of those that were left out.

    Raises:
        IntegrityError: No way gives the right vectors.
    """
    found: list[Way] = []
    left: list[str] = []
    refused: IntegrityError | None = None
    there = [name for name in models.BACKENDS if name == "onnxruntime" or name in models.versions()]
    for card in cards:
        batches = tuple(dict.fromkeys(asked.batches)) or _BATCHES[card.modality]
        for backend in tuple(dict.fromkeys(asked.backends)) or there:
            for threads in tuple(dict.fromkeys(asked.threads)) or (available_cpus(),):
                said = replace(settings, device="cpu", backend=backend, workers=threads, batch_size=None)  # type: ignore[arg-type]
                opened = open_encoder(layout, card, replace(said, token_budget=None), tuned=False)
                try:
                    models.check_canaries(layout, card, opened.backbone)
                except IntegrityError as error:
                    refused = error
                    left.append(f"left out: {error.message}")
                    break
                usual = backend == "onnxruntime" and threads == available_cpus()
                found += [
                    Way(card, backend, _sized(opened, size), usual and size == opened.batch)  # type: ignore[arg-type]
                    for size in batches
                ]
    if not found and refused is not None:
        raise refused
    return found, left


def _sized(encoder: Encoder, size: int) -> Encoder:
    if encoder.backbone.card.modality == "image":
        return replace(encoder, batch_size=size)
    return replace(encoder, token_budget=size)
