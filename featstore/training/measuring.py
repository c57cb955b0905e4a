"""What a head is worth: the same figures on what it learned, on what it was validated by, and on the test."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featstore.heads import regression
from featstore.heads.calibration import probabilities
from featstore.heads.conformal import calibrate, judged
from featstore.heads.fitting import Fitted
from featstore.heads.head import Head
from featstore.heads.metrics import figures
from featstore.records import ClassFigures, Conformal, Estimate, HeadTask

__all__ = ["PRIMARY", "Measured", "Side", "class_figures", "measure", "output", "word"]

PRIMARY: dict[HeadTask, str] = {"classification": "accuracy", "multilabel": "mAP", "regression": "r2"}
"""The figure that curves, words and advice go by."""

# Values or probabilities of training items that their figures are taken from: 400 MB of float64.
_VALUES, _LEAST = 50_000_000, 1_000

# Points of the main figure between the items learned and the same items unseen.
_SOME, _MUCH = 0.05, 0.15


@dataclass(frozen=True)
class Side:
    """Items of one side: (n, d) vectors, their truth and what belongs together."""

    vectors: NDArray[np.float32]
    truth: NDArray[Any]
    groups: NDArray[np.int64]

    def of(self, rows: NDArray[Any]) -> Side:
        """The same for some of the items."""
        return Side(self.vectors[rows], self.truth[rows], self.groups[rows])


@dataclass(frozen=True)
class Measured:
    """A head's figures, and what it says of the test items and, unseen, of the training items.

    ``tested`` and ``unseen`` are probabilities (n, c), or values (n,) for regression.
    """

    metrics: dict[str, Estimate]
    validation: dict[str, Estimate]
    training: dict[str, Estimate]
    tested: NDArray[np.float64]
    unseen: NDArray[np.float64]
    conformal: Conformal | None
    fit: str


def measure(fitted: Fitted, train: Side, test: Side, *, seed: int) -> Measured:
    """Takes the figures; the test items are looked at here."""
    head = fitted.head
    bounds = head.arrays.get("thresholds")
    unseen = _unseen(fitted)
    tested = output(head, test.vectors)

    def of(side: Side, said: NDArray[np.float64]) -> dict[str, Estimate]:
        return figures(head.task, side.truth, said, side.groups, seed=seed, thresholds=bounds)

    metrics, validation = of(test, tested), of(train, unseen)
    some = train.of(_sample(len(train.truth), max(head.outputs, 2 * head.dim), seed))
    training = of(some, output(head, some.vectors))
    return Measured(
        metrics=metrics,
        validation=validation,
        training=training,
        tested=tested,
        unseen=unseen,
        conformal=_conformal(head.task, train, unseen, test, tested),
        fit=word(head, training, validation, metrics),
    )


def output(head: Head, vectors: NDArray[np.float32]) -> NDArray[np.float64]:
    """Probabilities (n, c), or for regression the values (n,)."""
    if head.task == "regression":
        return np.asarray(head.predict(vectors), np.float64)
    return head.probabilities(vectors)


def word(head: Head, training: dict[str, Estimate], validation: dict[str, Estimate], test: dict[str, Estimate]) -> str:
    """In plain words how a head fits: from the figure on what it learned, the same items unseen, and the test."""
    name = PRIMARY[head.task]
    learnt, unseen, tested = training[name], validation[name], test[name]
    gap = learnt.value - unseen.value
    if head.kind == "knn":
        said = "it remembers its items, so its training figures say nothing"
    elif gap > _MUCH:
        said = "it overfits: much of what it knows of its training items does not carry over"
    elif gap > _SOME:
        said = "it overfits a little"
    else:
        said = "it fits well: what it learned carries over to unseen items"
    if tested.high < unseen.low:
        said += "; the test items are harder than the training items"
    elif tested.low > unseen.high:
        said += "; the test items are easier than the training items"
    return said


def class_figures(
    head: Head, train: NDArray[Any], test: NDArray[Any], tested: NDArray[np.float64]
) -> tuple[ClassFigures, ...]:
    """Precision, recall and F1 of each class on the test items; for regression none."""
    if head.task == "regression":
        return ()
    bounds = head.arrays.get("thresholds")
    count = len(head.classes)
    if head.task == "classification":
        guess = tested.argmax(axis=1)
        right = np.bincount(test[guess == test], minlength=count)
        said, true = np.bincount(guess, minlength=count), np.bincount(test, minlength=count)
        learnt = np.bincount(train, minlength=count)
    else:
        given = tested >= (0.5 if bounds is None else bounds)
        right, said, true, learnt = (part.sum(axis=0) for part in (given & test, given, test, train))
    return tuple(
        ClassFigures(
            label=label,
            n_train=int(learnt[at]),
            n_test=int(true[at]),
            precision=float(right[at] / said[at]) if said[at] else None,
            recall=float(right[at] / true[at]) if true[at] else None,
            f1=float(2 * right[at] / (said[at] + true[at])) if true[at] else None,
            threshold=None if bounds is None else float(bounds[at]),
        )
        for at, label in enumerate(head.classes)
    )


def _sample(items: int, outputs: int, seed: int) -> NDArray[np.int64]:
    """All items, or as many as there is room for; what is known of them needs no more."""
    room = max(_LEAST, _VALUES // outputs)
    if items <= room:
        return np.arange(items)
    return np.sort(np.random.Generator(np.random.PCG64(seed)).permutation(items)[:room])


def _conformal(
    task: HeadTask, train: Side, unseen: NDArray[np.float64], test: Side, tested: NDArray[np.float64]
) -> Conformal | None:
    """Bounds from the training items unseen, judged on the test items; none where an item may have several labels."""
    if task == "multilabel":
        return None
    if task == "regression":
        bounds = regression.calibrate(unseen, train.truth, train.groups)
        return regression.judged(bounds, tested, test.truth, test.groups)
    return judged(calibrate(unseen, train.truth, train.groups), tested, test.truth, test.groups)


def _unseen(fitted: Fitted) -> NDArray[np.float64]:
    head = fitted.head
    if head.task == "regression":
        return np.asarray(fitted.out_of_fold, np.float64).reshape(-1)
    return probabilities(head.task, fitted.out_of_fold, head.settings.get("temperature", 1.0))
