"""The kinds of heads that can be tried, and what one that was tried gives back.

A candidate is a function: it is given a ``Problem``, finds its own settings by predicting every item with heads that
had not seen the item's fold, and returns ``Tried``, or ``LeftOut`` where it does not fit the data. ``fit`` in
``fitting`` compares what they return and finishes the best one. To add a kind for a task, write such a function and
add its place to the table here; it is imported when it is tried.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from featstore.errors import UsageError
from featstore.heads.blocks import Workers
from featstore.heads.head import Head
from featstore.records import HeadKind, HeadTask

if TYPE_CHECKING:
    from featstore.settings import TorchSettings

__all__ = ["Candidate", "LeftOut", "Problem", "Progress", "Tried", "candidate", "kinds_of"]

Progress = Callable[[str], None]

# From the simplest to the least simple: of equally good ones the first is taken.
_PLACES: dict[HeadTask, dict[HeadKind, str]] = {
    "classification": {
        "prototypes": "featstore.heads.nearest:prototypes",
        "ridge": "featstore.heads.ridge:ridge",
        "logistic": "featstore.heads.logistic:logistic",
        "knn": "featstore.heads.nearest:knn",
        "torch-linear": "featstore.heads.torch_heads:linear",
        "torch-mlp": "featstore.heads.torch_heads:mlp",
    },
    "multilabel": {
        "prototypes": "featstore.heads.multilabel:prototypes",
        "ridge": "featstore.heads.multilabel:ridge",
        "logistic": "featstore.heads.logistic:logistic",
        "knn": "featstore.heads.nearest:knn",
        "torch-linear": "featstore.heads.torch_heads:linear",
        "torch-mlp": "featstore.heads.torch_heads:mlp",
    },
    "regression": {
        "ridge": "featstore.heads.ridge:ridge",
        "knn": "featstore.heads.nearest:knn",
        "torch-linear": "featstore.heads.torch_heads:linear",
        "torch-mlp": "featstore.heads.torch_heads:mlp",
    },
}


@dataclass(frozen=True, eq=False, kw_only=True)
class Problem:
    """What a head is to learn.

    Attributes:
        task: What is predicted.
        vectors: (n, d) float32; an array, or a memory-mapped one.
        truth: Classification (n,) int64 class numbers; multilabel (n, c) bool; regression (n,) float64.
        classes: The classes in order; none for regression.
        folds: (n,) int64 from 0; what belongs together is in one fold. At least two of them hold items.
        groups: (n,) int64: what belongs together.
        balanced: Every class counts as much as any other, however many items it has.
        seed: Of everything drawn.
        torch: What the torch kinds are told; None for their defaults.
        patient: The kind was asked for by name: it is not left out because it takes long.
        progress: Told in a few words what is being done.
        workers: Threads for sums over many rows.
        kept: What candidates share, such as the decomposition of the covariance.
    """

    task: HeadTask
    vectors: NDArray[np.float32]
    truth: NDArray[Any]
    classes: tuple[str, ...]
    folds: NDArray[np.int64]
    groups: NDArray[np.int64]
    balanced: bool = False
    seed: int = 0
    torch: TorchSettings | None = None
    patient: bool = False
    progress: Progress = lambda _: None
    workers: Workers = field(default_factory=Workers)
    kept: dict[str, Any] = field(default_factory=dict)

    @property
    def items(self) -> int:
        """How many items there are, n."""
        return len(self.truth)

    @property
    def dim(self) -> int:
        """Values of a vector, d."""
        return int(self.vectors.shape[1])

    @property
    def outputs(self) -> int:
        """How many numbers a head gives for a vector, c; 1 for regression."""
        return len(self.classes) or 1

    def sides(self) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
        """For each fold that holds items: the rows of the others, and its own."""
        for number in np.unique(self.folds).tolist():
            held = self.folds == number
            yield np.flatnonzero(~held), np.flatnonzero(held)

    def weights(self, rows: NDArray[np.int64]) -> NDArray[np.float64]:
        """How much each of some items counts in a fit, 1 on average.

        Args:
            rows: (m,) items.

        Returns:
            (m,) float64 for classification and regression; (m, c) for multilabel, where an item counts for each label
            on its own. All 1 unless ``balanced``.
        """
        truth = self.truth[rows]
        if not self.balanced or self.task == "regression":
            return np.ones(truth.shape)
        if self.task == "classification":
            counts = np.bincount(truth, minlength=self.outputs)
            return np.asarray(len(rows) / (np.count_nonzero(counts) * counts[truth]), np.float64)
        positive = truth.mean(axis=0)
        rare = np.clip(positive, 1 / (2 * len(rows)), 1 - 1 / (2 * len(rows)))
        one_sided = (positive == 0) | (positive == 1)
        return np.asarray(np.where(one_sided, 1.0, np.where(truth, 0.5 / rare, 0.5 / (1 - rare))), np.float64)


@dataclass(frozen=True, eq=False, kw_only=True)
class Tried:
    """A kind of head at its best settings.

    Attributes:
        input: ``raw``, ``unit``, ``standard`` or ``centred``.
        settings: Numbers by name, those of ``Head.settings`` but for the temperature.
        out_of_fold: (n, c) logits (regression: (n, 1) values) of heads that had not seen the item's fold; of ``rows``
            alone where there are such.
        refit: Fits it to all items.
        rows: (m,) items that were predicted, where it would take too long to predict all.
        complete: Gives ``out_of_fold`` for all items; asked for only where the kind is taken.
    """

    input: str
    settings: dict[str, float]
    out_of_fold: NDArray[np.floating]
    refit: Callable[[], Head]
    rows: NDArray[np.int64] | None = None
    complete: Callable[[], NDArray[np.floating]] | None = None


@dataclass(frozen=True)
class LeftOut:
    """A kind that was not tried, and why, in a few words."""

    reason: str


class Candidate(Protocol):
    """A kind of head for a task."""

    def __call__(self, problem: Problem) -> Tried | LeftOut:
        """Finds the kind's best settings by what it predicts for items of other folds."""
        ...


def kinds_of(task: HeadTask) -> tuple[HeadKind, ...]:
    """The kinds that a task has, from the simplest on."""
    return tuple(_PLACES[task])


def candidate(task: HeadTask, kind: HeadKind) -> Candidate:
    """The function that tries a kind of head.

    Raises:
        UsageError: The task has no such kind.
    """
    place = _PLACES[task].get(kind)
    if place is None:
        raise UsageError(
            f"there is no head of kind '{kind}' for {task}.", hint=f"Kinds: {', '.join(kinds_of(task))}, or auto."
        )
    module, _, name = place.partition(":")
    return cast("Candidate", getattr(importlib.import_module(module), name))
