"""Items through the graphs of two models, as extraction embeds them."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from featstore.encode import Encoder
from featstore.encode.opening import open_encoder
from featstore.inputs.texts import Tokenizer
from featstore.machine import available_cpus
from featstore.models import session
from featstore.settings import ExtractSettings

if TYPE_CHECKING:
    from featstore.encode.encoder import Read
    from featstore.extract.progress import Reporter
    from featstore.layout import Layout
    from featstore.models.making import Draft
    from featstore.records import ModelCard
    from featstore.settings import FinetuneSettings

__all__ = ["Embedded", "embed", "of_draft", "of_store"]


@dataclass(frozen=True, eq=False)
class Embedded:
    """The vectors (n, d) of n items; those of refused ones are zero.

    ``refused`` is how many have none, ``why`` what was said of the first.
    """

    vectors: NDArray[np.float32]
    refused: int
    why: str | None


def of_draft(made: Draft, settings: FinetuneSettings) -> Encoder:
    """A model that is not kept yet, opened to encode contents."""
    threads = settings.workers or available_cpus()
    card = made.card
    backbone = session.open_bytes(
        card, made.files["model.onnx"], name="the exported graph", device=settings.device, threads=1, callers=threads
    )
    if card.text is None:
        return Encoder(backbone=backbone, threads=threads)
    with tempfile.TemporaryDirectory(prefix="featstore-") as folder:
        file = Path(folder) / "tokenizer.json"
        file.write_bytes(made.files["tokenizer.json"])
        return Encoder(backbone=backbone, tokenizer=Tokenizer(file, card.text), threads=threads)


def of_store(layout: Layout, card: ModelCard, settings: FinetuneSettings) -> Encoder:
    """A model of the store, opened alike: what a bench found to be faster is left aside."""
    asked = ExtractSettings(source="", model=card.space_id, device=settings.device, workers=settings.workers)
    return open_encoder(layout, card, asked, tuned=False)


def embed(encoder: Encoder, read: Read, count: int, stage: str, reporter: Reporter) -> Embedded:
    """Embeds items 0 … count-1.

    Raises:
        IntegrityError: The graph gave another shape than its card says.
    """
    reporter.stage(stage, count)
    found = encoder.encode(read, count, _Telling(reporter))
    first = next(iter(sorted(found.errors.items())), None)
    return Embedded(found.vectors, len(found.errors), None if first is None else first[1].message)


class _Telling:
    def __init__(self, reporter: Reporter) -> None:
        self._reporter = reporter

    def decoded(self, row: int, content: NDArray[np.uint8] | str) -> None:
        """Nothing is kept of it."""

    def done(self, count: int, rejected: int) -> None:
        self._reporter.advance(count, rejected)
