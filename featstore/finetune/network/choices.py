"""What is trained how where nothing else is said: by the kind of network and the number of labels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from featstore.errors import UsageError
from featstore.finetune.network.parts import Part, parts
from featstore.models.original import Original
from featstore.settings import FinetuneSettings

__all__ = ["defaults", "filled", "method"]

# Training items, below which so many epochs are the most; and from the last on.
_EPOCHS, _FEWEST = ((500, 20), (2_000, 12), (10_000, 8), (50_000, 5)), 3

# Training items, below which such a share of the parts is trained; and from the last on all of them.
_DEPTHS = ((500, 1 / 4), (2_000, 1 / 2))

_EMBEDDINGS_FROM = 10_000
"""Training items from which on tables of tokens are trained too: below it most rows would never be met."""

_BATCH_NORM_FROM = 5_000
"""Training items from which on the statistics of BatchNorm may follow the new pictures."""

# The top block's rate: of AdamW for networks with LayerNorm, of SGD for the others, of AdamW for adapters; and how many
# times as high that of a head is which begins at random.
_RATES = {"adamw": 1e-4, "sgd": 3e-3, "lora": 5e-4}
_NEW_HEAD = 10.0


def defaults(settings: FinetuneSettings, original: Original, *, n_train: int) -> FinetuneSettings:
    """Fills in what follows from the network and the number of training items; what is given stays.

    Epochs and depth go by the items, optimizer and rates by the network: SGD with momentum for networks of
    convolutions and BatchNorm, AdamW where there is a LayerNorm and for adapters. A head that was fitted learns at the
    top block's rate, one that begins at random at ten times that.

    Args:
        settings: What was asked for.
        original: The loaded network.
        n_train: How many items are trained on.

    Raises:
        UsageError: ``depth`` is more than the network has parts, or stands beside ``blocks``.
    """
    return filled(settings, parts(original), n_train=n_train)


def filled(settings: FinetuneSettings, stack: Sequence[Part], *, n_train: int) -> FinetuneSettings:
    """As ``defaults``, of a network whose parts are known."""
    if settings.blocks and settings.depth is not None:
        raise UsageError(
            f"depth is {settings.depth}, and blocks are {', '.join(settings.blocks)}: both say what is trained.",
            hint="Give one of the two.",
        )
    if settings.depth is not None and settings.depth > len(stack):
        raise UsageError(f"depth is {settings.depth}, and the network has {len(stack)} blocks.")
    optimizer = settings.optimizer or ("adamw" if settings.lora or _layer_normed(stack) else "sgd")
    rate = settings.learning_rate or _RATES["lora" if settings.lora and optimizer == "adamw" else optimizer]
    head_rate = settings.head_rate
    if head_rate is None:
        head_rate = rate if settings.start == "head" else _NEW_HEAD * rate
    return replace(
        settings,
        depth=settings.depth if settings.depth or settings.blocks else _depth(stack, n_train),
        epochs=settings.epochs or next((most for below, most in _EPOCHS if n_train < below), _FEWEST),
        optimizer=optimizer,
        learning_rate=rate,
        head_rate=head_rate,
        lora_alpha=settings.lora_alpha or (2.0 * settings.lora if settings.lora else None),
        batch_norm=("frozen" if n_train < _BATCH_NORM_FROM else "train")
        if settings.batch_norm == "auto"
        else settings.batch_norm,
        micro_batch=min(settings.micro_batch or settings.batch, settings.batch),
    )


def method(settings: FinetuneSettings) -> str:
    """What the literature calls it: ``LP-FT``, ``full from a random head``, ``LoRA rank 8`` …"""
    start = "LP-FT" if settings.start == "head" else "full from a random head"
    if settings.lora is None:
        return start
    return f"LoRA rank {settings.lora}" + ("" if settings.start == "head" else " from a random head")


def _depth(stack: Sequence[Part], n_train: int) -> int:
    able = [part for part in stack if n_train >= _EMBEDDINGS_FROM or not part.embeds]
    share = next((share for below, share in _DEPTHS if n_train < below), 1.0)
    return max(1, math.ceil(share * len(able)))


def _layer_normed(stack: Sequence[Part]) -> bool:
    kinds = {type(m).__name__ for part in stack for module in part.modules.values() for m in module.modules()}
    return any("LayerNorm" in kind or "RMSNorm" in kind for kind in kinds)
