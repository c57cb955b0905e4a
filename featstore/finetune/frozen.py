"""Heads beside the network: the one that training begins with, the one that it has to beat, the one on new vectors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from featstore.errors import UsageError
from featstore.finetune.examples import Start
from featstore.finetune.weighing import class_weights
from featstore.heads import figures, fit, fold, probabilities

if TYPE_CHECKING:
    from collections.abc import Callable

    from featstore.heads import Head
    from featstore.records import Estimate, HeadKind

__all__ = ["Scored", "best", "renewed", "start"]

_FOLDS = 3

# The simplest first, which of equally good ones is taken.
_KINDS: tuple[HeadKind, ...] = ("prototypes", "ridge", "logistic", "knn")


@dataclass(frozen=True, eq=False)
class Scored:
    """The best head on some vectors.

    Attributes:
        head: Fitted to the whole training side.
        unseen: Its figures on items of the training side, each by a head that had not seen it.
        items: How many these are.
    """

    head: Head
    unseen: dict[str, Estimate]
    items: int


def best(
    vectors: NDArray[np.float32],
    truth: NDArray[np.int64],
    classes: tuple[str, ...],
    fold: NDArray[np.int64],
    groups: NDArray[np.int64],
    *,
    weights: str | None,
    seed: int,
    progress: Callable[[str], None],
) -> Scored:
    """The best head of all kinds, as ``train-head`` finds it.

    Args:
        vectors: (n, d) float32 of the training side.
        truth: (n,) class numbers.
        classes: The classes in order.
        fold: (n,) int64.
        groups: (n,) int64, what belongs together.
        weights: ``balanced`` makes every class count as much as any other.
        seed: Of everything drawn.
        progress: Told in a few words what is being done.

    Raises:
        UsageError: Nothing can be fitted, or a vector is not finite.
    """
    found = fit(vectors, truth, classes, fold, weights=weights, groups=groups, seed=seed, progress=progress)
    said = probabilities("classification", found.out_of_fold, found.head.settings.get("temperature", 1.0))
    return Scored(found.head, figures("classification", truth, said, groups, seed=seed), len(truth))


def renewed(
    vectors: NDArray[np.float32],
    truth: NDArray[np.int64],
    classes: tuple[str, ...],
    fold: NDArray[np.int64],
    groups: NDArray[np.int64],
    validated: NDArray[np.bool_],
    *,
    weights: str | None,
    seed: int,
    progress: Callable[[str], None],
) -> Scored:
    """The best head on the vectors of a network that has learned from most of these items.

    What it has learned from lies further apart than new items will, so that out of fold every kind looks right. The
    kind is chosen by the items that have only validated, each fitted to the others, and then fitted to all. The figures
    are of these items too.

    Args:
        vectors: (n, d) float32 of the training side.
        truth: (n,) class numbers.
        classes: The classes in order.
        fold: (n,) int64.
        groups: (n,) int64, what belongs together.
        validated: (n,) bool, the items that the network has not learned from.
        weights: ``balanced`` makes every class count as much as any other.
        seed: Of everything drawn.
        progress: Told in a few words what is being done.

    Raises:
        UsageError: Nothing can be fitted, or a vector is not finite.
    """
    learned = ~validated
    counts = class_weights(truth[learned], len(classes), weights)[truth[validated]]
    right: dict[HeadKind, float] = {}
    heads: dict[HeadKind, Head] = {}
    for kind in _KINDS:
        progress(f"fitting {kind} to the new vectors")
        try:
            head = fit(
                vectors[learned],
                truth[learned],
                classes,
                fold[learned],
                kind=kind,
                weights=weights,
                groups=groups[learned],
                seed=seed,
            ).head
        except UsageError:  # such as too many items for this kind
            continue
        heads[kind] = head
        right[kind] = float(np.average(head.predict(vectors[validated]) == truth[validated], weights=counts))
    if not right:
        raise UsageError("no kind of head can be fitted to the training side.", hint="Label more items.")
    kind = max(right, key=lambda kind: right[kind])
    found = fit(vectors, truth, classes, fold, kind=kind, weights=weights, groups=groups, seed=seed).head
    said = heads[kind].probabilities(vectors[validated])
    unseen = figures("classification", truth[validated], said, groups[validated], seed=seed)
    return Scored(found, unseen, int(validated.sum()))


def start(
    vectors: NDArray[np.float32],
    truth: NDArray[np.int64],
    classes: tuple[str, ...],
    folds: NDArray[np.int64],
    groups: NDArray[np.int64],
    *,
    weights: str | None,
    seed: int,
) -> Start:
    """The linear head that training begins with, fitted to what is trained on and to nothing else.

    What validates must be new to it: else no epoch could ever look better than the start.

    Source: Kumar et al., Fine-tuning can distort pretrained features and underperform out-of-distribution (2022).

    Args:
        vectors: (n, d) float32 of the origin, for the items that are trained on.
        truth: (n,) class numbers.
        classes: The classes in order.
        folds: (n,) int64.
        groups: (n,) int64, what belongs together.
        weights: ``balanced`` makes every class count as much as any other.
        seed: Of everything drawn.

    Raises:
        UsageError: Nothing can be fitted, or a vector is not finite.
    """
    if len(np.unique(folds)) < 2:
        folds = fold(np.zeros_like(truth), groups, min(_FOLDS, len(np.unique(groups))), seed=seed)
    head = fit(vectors, truth, classes, folds, kind="logistic", weights=weights, groups=groups, seed=seed).head
    heat = head.settings.get("temperature", 1.0)
    return Start(
        weight=np.ascontiguousarray(head.arrays["weights"] / heat, np.float32),
        bias=np.ascontiguousarray(head.arrays["bias"] / heat, np.float32),
        unit=head.input == "unit",
    )
