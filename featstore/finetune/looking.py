"""Test items are looked at once for each model, and every look is written down before it happens."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from featstore.records import SplitScoring
from featstore.splits import read, score

if TYPE_CHECKING:
    from featstore.layout import Layout
    from featstore.records import SplitRecord

__all__ = ["look"]


def look(layout: Layout, record: SplitRecord, key: str, space_id: str) -> None:
    """Notes that a fine-tuned model is measured on the test items of a split.

    A run that was stopped while it judged sees the same figures of the same model again: that is one look.

    Args:
        layout: The store.
        record: The split.
        key: Of the fine-tuning.
        space_id: What the model would be called.

    Raises:
        IntegrityError: The split was replaced meanwhile, or is damaged.
    """
    name = f"finetune-{key}"
    kept = read(layout, record.table, record.label)
    known = () if kept is None else kept.record.scored
    if any((one.head, one.space_id) == (name, space_id) for one in known):
        return
    now = datetime.now(UTC).isoformat(timespec="seconds")
    score(layout, record, SplitScoring(head=name, version=1, space_id=space_id, ts=now))
