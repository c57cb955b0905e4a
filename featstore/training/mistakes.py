"""The items that a head is sure of, and wrong about."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featstore.records import GateItem, HeadTask

__all__ = ["wrong_of"]

_NAMED = 10


def wrong_of(
    task: HeadTask, ids: Sequence[str], labels: Sequence[Any], values: NDArray[np.float64], classes: Sequence[str]
) -> tuple[GateItem, ...]:
    """The items that a head is sure of and wrong about, the surest first; of numbers those that are farthest off.

    Args:
        task: What is predicted.
        ids: n names.
        labels: n labels, several labels or numbers.
        values: (n, c) probabilities or (n,) values.
        classes: c names.
    """
    if task == "regression":
        off = np.abs(values.reshape(-1) - np.array(labels, np.float64))
        order = np.argsort(-off, kind="stable")[:_NAMED].tolist()
        return tuple(
            GateItem(item_id=ids[at], about=f"is {labels[at]:.4g}, predicted {values.reshape(-1)[at]:.4g}")
            for at in order
        )
    number = {name: at for at, name in enumerate(classes)}
    if task == "multilabel":
        truth = np.zeros(values.shape)
        for row, names in enumerate(labels):
            truth[row, [number[name] for name in names]] = 1
        worst = np.abs(values - truth).argmax(axis=1)
        sure = np.abs(values - truth)[np.arange(len(values)), worst]
        order = [at for at in np.argsort(-sure, kind="stable")[:_NAMED].tolist() if sure[at] > 0.5]
        return tuple(
            GateItem(
                item_id=ids[at],
                about=f"{'has' if truth[at, worst[at]] else 'lacks'} '{classes[worst[at]]}', "
                f"predicted {values[at, worst[at]]:.2f}",
            )
            for at in order
        )
    guess = values.argmax(axis=1)
    sure = values[np.arange(len(values)), guess]
    wrong = np.array([classes[at] != label for at, label in zip(guess.tolist(), labels, strict=True)], np.bool_)
    order = [at for at in np.argsort(-sure, kind="stable").tolist() if wrong[at]][:_NAMED]
    return tuple(
        GateItem(item_id=ids[at], about=f"is '{labels[at]}', predicted '{classes[guess[at]]}' ({sure[at]:.2f})")
        for at in order
    )
