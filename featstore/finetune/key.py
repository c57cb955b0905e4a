"""What makes two fine-tunings the same one."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from featstore.errors import UsageError
from featstore.heads.opening import find_card
from featstore.storage import hashing

if TYPE_CHECKING:
    from collections.abc import Sequence

    from featstore.finetune.data import Labelled
    from featstore.jobs import HeadJob
    from featstore.layout import Layout
    from featstore.settings import FinetuneSettings

__all__ = ["LIMITS", "judged_by", "key", "learned", "limits"]

LIMITS = ("min_gain", "max_forgetting", "max_rank_loss", "max_slower")
"""The settings that only the gates read."""

# How the work is cut and where it goes: none of it changes what is learned. Labels are counted as they are, wherever
# they come from, and the model by what it computes.
_BESIDES = (
    "label", "labels", "name", "model", "weights", "device", "workers", "micro_batch", "checkpointing",
    "checkpoint_every", "report", "mlflow", *LIMITS,
)  # fmt: skip


def key(table: str, base: str, labelled: Labelled, settings: FinetuneSettings) -> str:
    """Names a fine-tuning by all that determines it.

    The split says the side of every item that it has seen, so that its id stands for the sides.

    Args:
        table: The table's name.
        base: The digest of the backbone to begin with.
        labelled: The items.
        settings: What was asked.

    Returns:
        16 hexadecimal digits.
    """
    sides = {"split": labelled.record.split_id, "items": labelled.digest}
    found = {"table": table, "label": settings.label, "base": base, **sides, "settings": learned(settings)}
    return hashing.of_json(found)[:16]


def learned(settings: FinetuneSettings) -> dict[str, Any]:
    """The settings that change what is learned."""
    return {name: value for name, value in asdict(settings).items() if name not in _BESIDES}


def judged_by(layout: Layout, space_id: str, heads: Sequence[HeadJob], settings: FinetuneSettings) -> str:
    """A digest of what the gates' answers rest on beside what was trained.

    Args:
        layout: The store.
        space_id: Of the table that the new vectors are compared with.
        heads: The table's registered heads.
        settings: What was asked.
    """
    versions: dict[str, int | None] = {}
    for head in heads:
        try:
            versions[head.name] = find_card(layout, head.name).version
        except UsageError:  # it is gone, or of another space
            versions[head.name] = None
    asked = {"limits": limits(settings), "device": settings.device}
    return hashing.of_json({"space": space_id, "heads": versions, **asked})[:16]


def limits(settings: FinetuneSettings) -> dict[str, float]:
    """What the gates are told."""
    return {name: getattr(settings, name) for name in LIMITS}
