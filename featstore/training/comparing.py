"""Two heads on the same test items: their figures side by side, and how sure the difference is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featstore.errors import IntegrityError, UsageError
from featstore.heads.metrics import paired
from featstore.heads.opening import find_card
from featstore.layout import Layout
from featstore.records import Estimate, HeadCard, HeadDifference, PreviousHead
from featstore.storage import frames
from featstore.training.measuring import PRIMARY

__all__ = ["Said", "compare", "difference", "previous", "said_of"]

# Figures of which less is better.
_LOWER = {"log_loss", "ece", "mae", "rmse"}


@dataclass(frozen=True)
class Said:
    """What a head says of its test items, by item and content.

    Attributes:
        keys: (n,) item and content.
        truth: (n,) labels, lists of labels or values.
        values: (n, c) probabilities or (n,) values.
        groups: (n,) int64.
    """

    keys: list[tuple[str, str]]
    truth: list[Any]
    values: NDArray[np.float64]
    groups: NDArray[np.int64]


def said_of(layout: Layout, card: HeadCard, folder: str | None = None) -> Said | None:
    """Reads what a head said of its test items; None where the probabilities were too many to keep.

    Args:
        layout: The store.
        card: The head's.
        folder: Where it lies, if it is none of its name's versions yet.

    Raises:
        IntegrityError: The file is missing or damaged.
    """
    path = f"{folder or layout.head(card.head, card.version)}/{card.predictions.file}"
    if not layout.storage.exists(path):
        raise IntegrityError(f"{layout.storage.local(path)} is missing; the head's card names it.")
    rows = frames.read(layout.storage, path)
    test = np.array([side == "test" for side in rows["side"].to_pylist()], np.bool_)
    rows = rows.take(np.flatnonzero(test))
    column = rows["predicted" if card.task == "regression" else "probabilities"]
    if column.null_count:
        return None
    values = np.array(column.to_pylist(), np.float64)
    keys = list(zip(frames.strings(rows, "item_id"), frames.strings(rows, "content_sha256"), strict=True))
    return Said(keys, rows["truth"].to_pylist(), values, np.asarray(rows["group"].to_numpy(), np.int64))


def compare(layout: Layout, a: str, b: str) -> HeadDifference:
    """Two heads by their addresses, on the test items that both have.

    Raises:
        NotFoundError: There is no such head or version.
        UsageError: They have no test items in common that mean the same, or predict something else.
        IntegrityError: A card or a file is damaged.
    """
    return difference(layout, find_card(layout, a), find_card(layout, b))


def difference(layout: Layout, a: HeadCard, b: HeadCard) -> HeadDifference:
    """Each figure of ``b`` minus that of ``a``, paired by item; none where the probabilities were too many to keep.

    Raises:
        UsageError: They have no test items in common that mean the same, or predict something else.
        IntegrityError: A file is missing or damaged.
    """
    names = [f"{card.head}:{card.version}" for card in (a, b)]
    if a.split_id != b.split_id:
        raise UsageError(
            f"{names[0]} and {names[1]} were tested on different splits ({a.split_id}, {b.split_id}).",
            hint="Train both in one call, or on one table, for the same test items.",
        )
    if (a.task, a.classes) != (b.task, b.classes):
        what = f"task {a.task} and {b.task}" if a.task != b.task else "classes"
        raise UsageError(f"{names[0]} and {names[1]} do not predict the same ({what}).")
    found = _paired(layout, a, b)
    if found is None:
        return HeadDifference(a=names[0], b=names[1], metrics={}, better="neither")
    if not found:
        raise UsageError(f"{names[0]} and {names[1]} have no test item in common with the same label.")
    return HeadDifference(a=names[0], b=names[1], metrics=found, better=_better(a, found))


def previous(layout: Layout, before: HeadCard | None, card: HeadCard, said: Said) -> PreviousHead | None:
    """What the version before had, against this one; None for the first version.

    Args:
        layout: The store.
        before: The card of the version before.
        card: The card of this one, not yet written.
        said: What this one says of its test items.
    """
    if before is None:
        return None
    note, found = None, dict[str, Estimate]()
    if before.split_id != card.split_id:
        note = "it was tested on another split, so the figures cannot be compared"
    elif (before.task, before.classes) != (card.task, card.classes):
        note = "it predicted other classes, so the figures cannot be compared"
    else:
        try:
            pairs = _paired(layout, before, card, b_said=said)
        except IntegrityError as error:
            note = f"its predictions cannot be read: {error.message}"
        else:
            found = pairs or {}
            note = None if found else "they have no test item in common with the same label"
            if pairs is None:
                note = "with so many classes its probabilities were not kept, so the figures are not paired"
            if found and before.n_test != card.n_test:
                note = f"compared on the test items that both have; then {before.n_test:,}, now {card.n_test:,}"
    return PreviousHead(version=before.version, metrics=before.metrics, difference=found, note=note)


def _paired(layout: Layout, a: HeadCard, b: HeadCard, *, b_said: Said | None = None) -> dict[str, Estimate] | None:
    one, other = said_of(layout, a), b_said or said_of(layout, b)
    if one is None or other is None:
        return None
    place = {key: at for at, key in enumerate(one.keys)}
    both = [(place[key], at) for at, key in enumerate(other.keys) if key in place]
    both = [(i, j) for i, j in both if one.truth[i] == other.truth[j]]
    if not both:
        return {}
    left, right = (np.array(side, np.int64) for side in zip(*both, strict=True))
    truth = _numbers(b, [other.truth[j] for j in right.tolist()])
    thresholds = tuple(_thresholds(card) for card in (a, b))
    return paired(
        b.task,
        truth,
        one.values[left],
        other.values[right],
        other.groups[right],
        seed=b.seed,
        thresholds=(thresholds[0], thresholds[1]),
    )


def _numbers(card: HeadCard, truth: list[Any]) -> NDArray[Any]:
    if card.task == "regression":
        return np.array(truth, np.float64)
    number = {label: at for at, label in enumerate(card.classes)}
    if card.task == "classification":
        return np.array([number[label] for label in truth], np.int64)
    found = np.zeros((len(truth), len(card.classes)), np.bool_)
    for row, labels in enumerate(truth):
        found[row, [number[label] for label in labels]] = True
    return found


def _thresholds(card: HeadCard) -> NDArray[np.float64] | None:
    bounds = [figure.threshold for figure in card.classes_figures]
    if card.task != "multilabel" or not bounds or any(bound is None for bound in bounds):
        return None
    return np.array(bounds, np.float64)


def _better(card: HeadCard, found: dict[str, Estimate]) -> str:
    name = PRIMARY[card.task]
    figure, sign = found[name], -1 if name in _LOWER else 1
    if sign * figure.low > 0 and sign * figure.high > 0:
        return "b"
    return "a" if sign * figure.low < 0 and sign * figure.high < 0 else "neither"
