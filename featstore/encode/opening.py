"""A model of the store, opened to encode contents."""

from __future__ import annotations

from featstore import models
from featstore.encode.encoder import Encoder
from featstore.inputs.texts import Tokenizer
from featstore.layout import Layout
from featstore.records import ModelCard
from featstore.settings import ExtractSettings, available_cpus

__all__ = ["open_encoder"]


def open_encoder(layout: Layout, card: ModelCard, settings: ExtractSettings) -> Encoder:
    """Opens a model of the store for encoding.

    Every thread makes its own calls of a session that uses one thread inside: decoding and inference
    then share the cores without waiting for each other.

    Raises:
        IntegrityError: A file is missing, damaged, or not what the card describes.
        UsageError: The device does not work here.
    """
    threads = settings.workers or available_cpus()
    backbone = models.open_backbone(layout, card, device=settings.device, threads=1)
    tokenizer = None
    if card.text is not None:
        tokenizer = Tokenizer(layout.storage.local(layout.model(card.space_id, "tokenizer.json")), card.text)
    return Encoder(
        backbone=backbone,
        tokenizer=tokenizer,
        threads=threads,
        batch_size=settings.batch_size,
        token_budget=settings.token_budget,
    )
