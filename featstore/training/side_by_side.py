"""Two heads asked about the same items, each with the vectors of its own table: of one space, or of two."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from featstore.errors import IntegrityError
from featstore.heads import keeping
from featstore.heads.head import Head
from featstore.heads.metrics import figures, paired
from featstore.heads.opening import CARD
from featstore.layout import Layout
from featstore.records import Estimate, HeadCard, HeadTask
from featstore.storage import documents, frames
from featstore.tables import FeatureTable
from featstore.training.learnt import learnt
from featstore.training.measuring import output

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["Side", "SideBySide", "asked", "side_by_side", "staged", "together"]

# Vectors read and asked at once: 100 MB of 384 values.
_BLOCK = 65_536

# Probabilities of two heads that are held: 400 MB each.
_VALUES, _LEAST = 50_000_000, 1_000

_One = tuple[HeadCard, Head | None, NDArray[np.float64]]


@dataclass(frozen=True)
class Side:
    """A head and the table whose vectors it is asked with; in a ``folder`` where it is none of its name's versions."""

    card: HeadCard
    head: Head
    table: FeatureTable
    folder: str | None = None


def staged(layout: Layout, table: FeatureTable, folder: str) -> Side:
    """A head that lies in a run's folder.

    Raises:
        IntegrityError: Its card or file is damaged.
    """
    card = documents.read(layout.storage, f"{folder}/{CARD}", HeadCard)
    head = keeping.read(layout.storage, f"{folder}/{card.head_file.file}", card.head_file, card)
    return Side(card, head, table, folder)


@dataclass(frozen=True)
class SideBySide:
    """What two heads say of the same items, over the classes of both and of the labels.

    Attributes:
        task: What is predicted.
        ids: n names.
        labels: n labels, several labels or numbers.
        classes: c names.
        truth: (n,) class numbers, (n, c) bool, or (n,) values.
        values: For each head (n, c) probabilities or (n,) values; what a head does not know it never says.
        thresholds: For each head (c,), of several labels.
        groups: (n,) int64.
        items: How many items both could be tested on, of which n were taken.
        seed: Of the drawing.
    """

    task: HeadTask
    ids: list[str]
    labels: list[Any]
    classes: tuple[str, ...]
    truth: NDArray[Any]
    values: list[NDArray[np.float64]]
    thresholds: list[NDArray[np.float64] | None]
    groups: NDArray[np.int64]
    items: int
    seed: int

    def figures(self, side: int) -> dict[str, Estimate]:
        """The figures of one of the two, 0 or 1.

        Raises:
            UsageError: A prediction is not finite.
        """
        bounds = self.thresholds[side]
        return figures(self.task, self.truth, self.values[side], self.groups, seed=self.seed, thresholds=bounds)

    def difference(self) -> dict[str, Estimate]:
        """Each figure of the second minus that of the first, paired by item.

        Raises:
            UsageError: A prediction is not finite.
        """
        a, b = self.values
        bounds = (self.thresholds[0], self.thresholds[1])
        return paired(self.task, self.truth, a, b, self.groups, seed=self.seed, thresholds=bounds)


def side_by_side(layout: Layout, a: Side, b: Side) -> SideBySide | None:
    """Asks two heads of one task about the same items, each with the vectors of its own table.

    The items are the test items of ``b`` that both tables hold with the same content, and that neither head has
    learned from. Where their probabilities would be too many to hold, those with the smallest content hashes are
    taken.

    Args:
        layout: The store.
        a: The first, usually the older.
        b: The second.

    Returns:
        None where there are no such items.

    Raises:
        IntegrityError: A head's file or a table is damaged.
    """
    rows = _tested(layout, b)
    seen = {content for _, content in learnt(layout, a.card)}
    seen |= {content for _, content in learnt(layout, b.card, b.folder)}
    ids, contents = frames.strings(rows, "item_id"), frames.strings(rows, "content_sha256")
    places = [side.table.find(ids) for side in (a, b)]
    fair = (places[0] >= 0) & (places[1] >= 0) & np.array([content not in seen for content in contents], np.bool_)
    for side, place in zip((a, b), places, strict=True):
        there = side.table.rows_at(place[fair], ["content_sha256"])["content_sha256"].to_pylist()
        fair[fair] = [one == contents[at] for one, at in zip(there, np.flatnonzero(fair).tolist(), strict=True)]
    both = np.flatnonzero(fair)
    if not len(both):
        return None
    some = _held(both, contents, max(len(a.card.classes), len(b.card.classes), 1))
    truth = rows["truth"].to_pylist()
    labels = [truth[at] for at in some.tolist()]
    said = [asked(side.head, side.table, place[some]) for side, place in zip((a, b), places, strict=True)]
    number, values, thresholds, classes = together(labels, (a.card, a.head, said[0]), (b.card, b.head, said[1]))
    return SideBySide(
        task=b.card.task,
        ids=[ids[at] for at in some.tolist()],
        labels=labels,
        classes=classes,
        truth=number,
        values=values,
        thresholds=thresholds,
        groups=np.asarray(rows["group"].to_numpy(), np.int64)[some],
        items=len(both),
        seed=b.card.seed,
    )


def _tested(layout: Layout, side: Side) -> pa.Table:
    """The test items of a head, with their truth and groups."""
    path = f"{side.folder or layout.head(side.card.head, side.card.version)}/{side.card.predictions.file}"
    if not layout.storage.exists(path):
        raise IntegrityError(f"{layout.storage.local(path)} is missing; the head's card names it.")
    rows = frames.read(layout.storage, path, ["item_id", "content_sha256", "side", "truth", "group"])
    return rows.take(np.flatnonzero([one == "test" for one in rows["side"].to_pylist()]))


def _held(rows: NDArray[np.int64], contents: Sequence[str], classes: int) -> NDArray[np.int64]:
    most = max(_LEAST, _VALUES // classes)
    if len(rows) <= most:
        return rows
    order = sorted(rows.tolist(), key=lambda at: contents[at])
    return np.sort(np.array(order[:most], np.int64))


def asked(head: Head, table: FeatureTable, rows: NDArray[np.int64]) -> NDArray[np.float64]:
    """What a head says of some rows of a table: (n, c) probabilities or (n,) values.

    Raises:
        IntegrityError: A file of the table is missing or damaged.
    """
    parts = [rows[start : start + _BLOCK] for start in range(0, len(rows), _BLOCK)]
    return np.concatenate([output(head, table.vectors_at(part)) for part in parts])


def together(
    labels: Sequence[Any], *heads: _One
) -> tuple[NDArray[Any], list[NDArray[np.float64]], list[NDArray[np.float64] | None], tuple[str, ...]]:
    """Truth and predictions over the classes of all heads and labels; what a head does not know it never says.

    Args:
        labels: n labels, several labels or numbers.
        *heads: Each head's card, the head where its thresholds are not to be those of the card, and what it said.

    Returns:
        The truth, each head's predictions and thresholds, and the classes.
    """
    task = heads[0][0].task
    if task == "regression":
        return np.array(labels, np.float64), [said for _, _, said in heads], [None] * len(heads), ()
    several = task == "multilabel"
    there = {name for label in labels for name in (label if several else (label,))}
    classes = tuple(sorted(there.union(*(card.classes for card, _, _ in heads))))
    number = {name: at for at, name in enumerate(classes)}
    values, thresholds = [], []
    for card, head, said in heads:
        at = [number[name] for name in card.classes]
        wide = np.zeros((len(said), len(classes)))
        wide[:, at] = said
        values.append(wide)
        # Above every probability: a label that the head does not know is never given.
        bounds = np.full(len(classes), 2.0)
        bounds[at] = _bounds(card, head)
        thresholds.append(bounds if several else None)
    if not several:
        return np.array([number[label] for label in labels], np.int64), values, thresholds, classes
    truth = np.zeros((len(labels), len(classes)), np.bool_)
    for row, names in enumerate(labels):
        truth[row, [number[name] for name in names]] = True
    return truth, values, thresholds, classes


def _bounds(card: HeadCard, head: Head | None) -> NDArray[np.float64]:
    if head is not None and "thresholds" in head.arrays:
        return np.asarray(head.arrays["thresholds"], np.float64)
    found = [0.5 if figure.threshold is None else figure.threshold for figure in card.classes_figures]
    return np.array(found or [0.5] * len(card.classes), np.float64)
