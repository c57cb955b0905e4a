"""What a head has learned from, and how far that is from what is there now."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from featstore.errors import IntegrityError, NotFoundError, UsageError
from featstore.layout import Layout
from featstore.records import HeadCard
from featstore.settings import HeadSettings
from featstore.storage import frames
from featstore.tables import FeatureTable, past
from featstore.training.dataset import Dataset, gather
from featstore.training.standing import Standing

__all__ = ["Changes", "Key", "changes", "labels_of", "learnt"]

Key = tuple[str, str]
"""An item's id and its content's hash."""


@dataclass(frozen=True)
class Changes:
    """How the items to learn from differ from those that a head has learned from.

    ``new`` are items that had no label, or were not there, ``gone`` those that are there no more, or test items now,
    and ``relabelled`` have another label.
    """

    new: int
    gone: int
    relabelled: int

    def __bool__(self) -> bool:
        return bool(self.new or self.gone or self.relabelled)

    def __str__(self) -> str:
        said = {"new": self.new, "gone": self.gone, "relabelled": self.relabelled}
        return ", ".join(f"{count:,} {name}" for name, count in said.items() if count) or "none changed"


def learnt(layout: Layout, card: HeadCard, folder: str | None = None) -> dict[Key, Any]:
    """The items that a head has learned from, with what they were: a label, several (sorted) or a number.

    Args:
        layout: The store.
        card: The head's.
        folder: Where it lies, if it is none of its name's versions yet.

    Raises:
        IntegrityError: The head's predictions are missing or damaged.
    """
    path = f"{folder or layout.head(card.head, card.version)}/{card.predictions.file}"
    if not layout.storage.exists(path):
        raise IntegrityError(f"{layout.storage.local(path)} is missing; the head's card names it.")
    rows = pl.from_arrow(frames.read(layout.storage, path, ["item_id", "content_sha256", "side", "truth"]))
    assert isinstance(rows, pl.DataFrame)
    mine = rows.filter(pl.col("side") == "train")
    keys = zip(mine["item_id"].to_list(), mine["content_sha256"].to_list(), strict=True)
    return dict(zip(keys, (_plain(value) for value in mine["truth"].to_list()), strict=True))


def labels_of(data: Dataset, which: NDArray[Any] | None = None) -> list[Any]:
    """What some items are: a label, a sorted tuple of labels, or a number."""
    truth = data.truth if which is None else data.truth[which]
    if data.task == "regression":
        return [float(value) for value in truth.tolist()]
    if data.task == "classification":
        return [data.classes[at] for at in truth.tolist()]
    return [tuple(sorted(data.classes[at] for at in np.flatnonzero(row).tolist())) for row in truth]


def changes(
    layout: Layout,
    card: HeadCard,
    known: Mapping[Key, Any],
    table: FeatureTable,
    now: Standing,
    settings: HeadSettings,
) -> Changes:
    """Compares what there is to learn from now with what a head has learned from.

    Args:
        layout: The store.
        card: The head's.
        known: What it has learned from, as ``learnt`` gives it.
        table: The table as it is now.
        now: Its items' sides.
        settings: What the head would be trained with.
    """
    data, at = now.data, np.flatnonzero(now.train)
    keys = list(zip(data.ids, data.contents, strict=True))
    here = dict(zip((keys[row] for row in at.tolist()), labels_of(data, at), strict=True))
    relabelled = sum(key in here and here[key] != label for key, label in known.items())
    gone = sum(key not in here for key in known)
    if card.table_version == table.version and settings.labels is None:
        return Changes(0, 0, relabelled)
    fresh = [key for key in here if key not in known]
    if not fresh:
        return Changes(0, gone, relabelled)
    then = _labelled_then(layout, card, settings)
    # Some items had labels and were left out of the training all the same: they are none that came.
    new = len(fresh) - card.n_excluded if then is None else sum(key not in then for key in fresh)
    return Changes(max(0, new), gone, relabelled)


def _labelled_then(layout: Layout, card: HeadCard, settings: HeadSettings) -> set[Key] | None:
    """The items that had a label at the version that a head was trained on; None where that is no longer known."""
    if settings.labels is not None:  # a file says nothing of what it held then
        return None
    try:
        table = FeatureTable.open(layout, card.table, card.space_id, card.table_version)
        past.check_kept(layout, table)
        data = gather(layout, [table], settings)
    except (NotFoundError, UsageError, IntegrityError):
        return None
    return set(zip(data.ids, data.contents, strict=True))


def _plain(value: Any) -> Any:
    return tuple(sorted(value)) if isinstance(value, list) else value
