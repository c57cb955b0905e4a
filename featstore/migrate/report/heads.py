"""The heads of a table before and after it moves to another model: on the same test items of the same split."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import numpy as np

from featstore.errors import IntegrityError, NotFoundError, UsageError
from featstore.heads.opening import open_head
from featstore.records import Estimate, GateItem, HeadCard, HeadMove
from featstore.training.measuring import PRIMARY
from featstore.training.side_by_side import Side, SideBySide, side_by_side, staged

if TYPE_CHECKING:
    from featstore.layout import Layout
    from featstore.records import HeadOutcome
    from featstore.tables import FeatureTable

__all__ = ["Moved", "moves"]

_NAMED = 10
_CLASSES = 5

# What can be wrong with one head alone.
_ITS_OWN = (UsageError, NotFoundError, IntegrityError)


@dataclass(frozen=True)
class Moved:
    """A head's move and what follows from it.

    Attributes:
        move: What is written down.
        status: ``compared``; ``impossible`` where the move would take something away that was there; ``untold`` where
            there is nothing to compare by. The note of the move says why.
        items: Test items that the new head does worse on than the old one did, the worst first.
    """

    move: HeadMove
    status: Literal["compared", "impossible", "untold"]
    items: tuple[GateItem, ...] = ()


def moves(
    layout: Layout,
    before: FeatureTable,
    after: FeatureTable,
    heads: Mapping[str, int],
    outcomes: Sequence[HeadOutcome],
) -> list[Moved]:
    """Compares each head that is published with the one that would take its place, by name.

    Args:
        layout: The store.
        before: The table in the old space.
        after: The table in the new one.
        heads: The versions that are published.
        outcomes: What became of the heads in the new space.

    Raises:
        IntegrityError: A table is damaged.
    """
    made = {outcome.head: outcome for outcome in outcomes}
    return [_moved(layout, before, after, name, heads[name], made.get(name)) for name in sorted(heads)]


def _moved(
    layout: Layout, before: FeatureTable, after: FeatureTable, name: str, version: int, outcome: HeadOutcome | None
) -> Moved:
    empty = HeadMove(
        head=name,
        task="",
        label="",
        before=version,
        version=None,
        main="",
        items=0,
        figures_before={},
        figures_after={},
        difference={},
    )
    try:
        card, head = open_head(layout, f"{name}:{version}")
    except _ITS_OWN as error:
        return Moved(replace(empty, note=f"the old head cannot be opened: {error.message}"), "impossible")
    empty = replace(empty, task=card.task, label=card.label, main=PRIMARY[card.task])
    if outcome is None:
        left = "the job does not keep it, so it is not published with the new model"
        return Moved(replace(empty, note=left), "untold")
    if outcome.action == "failed" or (outcome.folder is None and outcome.version is None):
        return Moved(replace(empty, note=f"it could not be trained: {outcome.reason}"), "impossible")
    empty = replace(empty, version=outcome.version if outcome.folder is None else None)
    try:
        new = _new(layout, after, outcome)
    except _ITS_OWN as error:
        return Moved(replace(empty, note=f"the new head cannot be opened: {error.message}"), "impossible")
    if (why := _unlike(card, new.card, before, after)) is not None:
        return Moved(replace(empty, note=why), "impossible")
    found = side_by_side(layout, Side(card, head, before), new)
    if found is None:
        none = "no test item is in both tables with the same content that neither head has learned from"
        return Moved(replace(empty, note=none), "untold")
    return _compared(empty, card, new.card, found)


def _new(layout: Layout, after: FeatureTable, outcome: HeadOutcome) -> Side:
    if outcome.folder is not None:
        return staged(layout, after, outcome.folder)
    card, head = open_head(layout, f"{outcome.head}:{outcome.version}")
    return Side(card, head, after)


def _unlike(old: HeadCard, new: HeadCard, before: FeatureTable, after: FeatureTable) -> str | None:
    """Why two heads are not to be compared; None where they are."""
    for what, card, table in (("old", old, before), ("new", new, after)):
        if (card.space_id, card.dim) != (table.space_id, table.dim):
            return (
                f"the {what} head is of the space {card.space_id} (digest {card.space_digest[:16]}…), the table of "
                f"{table.space_id}"
            )
    if old.task != new.task:
        return f"it was a {old.task} and would be a {new.task}: change the task in a refresh of its own"
    if old.label != new.label:
        return f"it predicted '{old.label}' and would predict '{new.label}': change the label in a refresh of its own"
    return None


def _compared(empty: HeadMove, old: HeadCard, new: HeadCard, found: SideBySide) -> Moved:
    notes = _notes(old, new, found)
    try:
        figures = [_finite(found.figures(side)) for side in (0, 1)]
        difference = _finite(found.difference())
    except UsageError as error:
        why = "; ".join([f"it cannot be measured: {error.message.rstrip('.')}", *notes])
        return Moved(replace(empty, items=len(found.ids), note=why), "impossible")
    move = replace(
        empty,
        items=len(found.ids),
        figures_before=figures[0],
        figures_after=figures[1],
        difference=difference,
        note="; ".join(notes) or None,
    )
    return Moved(move, "compared", _lost(found))


def _notes(old: HeadCard, new: HeadCard, found: SideBySide) -> list[str]:
    notes = []
    if len(found.ids) < found.items:
        notes.append(f"measured on {len(found.ids):,} of {found.items:,} test items, which has room in memory")
    if found.items < new.n_test:
        notes.append(
            f"{new.n_test - found.items:,} of {new.n_test:,} test items are left out: they are not in both tables with "
            "the same content, or one of the heads has learned from them"
        )
    if old.split_id != new.split_id:
        notes.append("the split was made anew in between, so the old head may have learned from what is near them")
    for whose, one, other in (("only the old head", old, new), ("only the new head", new, old)):
        gone = sorted(set(one.classes) - set(other.classes))
        if gone:
            more = f" and {len(gone) - _CLASSES:,} more" if len(gone) > _CLASSES else ""
            notes.append(f"{whose} knows {', '.join(map(repr, gone[:_CLASSES]))}{more}")
    return notes


def _finite(figures: dict[str, Estimate]) -> dict[str, Estimate]:
    """Those that are numbers: a document holds no others, and a gate refuses what is not there."""
    return {name: one for name, one in figures.items() if all(map(math.isfinite, (one.value, one.low, one.high)))}


def _lost(found: SideBySide) -> tuple[GateItem, ...]:
    """The items on which the new head does worse, by how much."""
    a, b = found.values
    if found.task == "regression":
        a, b = a.reshape(-1), b.reshape(-1)
        loss = np.abs(b - found.truth) - np.abs(a - found.truth)
    elif found.task == "multilabel":
        loss = (np.abs(b - found.truth) - np.abs(a - found.truth)).mean(axis=1)
    else:
        rows = np.arange(len(found.ids))
        right = [side.argmax(axis=1) == found.truth for side in (a, b)]
        loss = np.where(right[0] & ~right[1], a[rows, found.truth] - b[rows, found.truth], 0.0)
    order = [at for at in np.argsort(-loss, kind="stable")[:_NAMED].tolist() if loss[at] > 0]
    return tuple(GateItem(item_id=found.ids[at], about=_said(found, at)) for at in order)


def _said(found: SideBySide, at: int) -> str:
    a, b = found.values
    label = found.labels[at]
    if found.task == "regression":
        return f"is {label:.4g}, was predicted {a.reshape(-1)[at]:.4g}, now {b.reshape(-1)[at]:.4g}"
    if found.task == "multilabel":
        worst = int((np.abs(b[at] - found.truth[at]) - np.abs(a[at] - found.truth[at])).argmax())
        has = "has" if found.truth[at, worst] else "lacks"
        return f"{has} '{found.classes[worst]}', which was given {a[at, worst]:.2f}, now {b[at, worst]:.2f}"
    before, now = int(a[at].argmax()), int(b[at].argmax())
    return (
        f"is '{label}', was predicted '{found.classes[before]}' ({a[at, before]:.2f}), "
        f"now '{found.classes[now]}' ({b[at, now]:.2f})"
    )
