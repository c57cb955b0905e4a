"""A probe: how well a linear classifier does on vectors, measured on items it has not seen.

The protocol: logistic regression with an L2 penalty. For each fold, what is fitted (mean, scale, the
penalty, the weights) is fitted on the others: one of them serves to choose the input and the penalty by
accuracy, then all of them are fitted again. So every item is predicted once, by a model that knew
neither it nor its group, and nothing was chosen on what it is judged by.

Source: DINOv2, ``eval/log_regression.py`` (penalty chosen on held-out data, then fitted again on all); vectors as
they are and standardised are both tried there and in ssl-transfer's ``linear.py``.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

__all__ = ["balanced_accuracy", "predict_out_of_fold"]

# Inverse strengths of the penalty, for inputs of mean squared length 1; the weakest fit first, so that each
# starts from the one before.
_PENALTIES = (0.1, 1.0, 10.0, 100.0, 1000.0)

# The predicted class stands still then (99 % or more agree with the exact optimum); with 1e-3 a weak penalty's fit
# began and ended where the one before it had stopped.
_ITERATIONS = 1000
_TOLERANCE = 1e-5

_Scale = Callable[[NDArray[np.float32]], NDArray[np.float64]]


def predict_out_of_fold(
    vectors: NDArray[np.float32],
    labels: NDArray[np.int64],
    folds: NDArray[np.int64],
    *,
    done: Callable[[int], None] = lambda _: None,
) -> NDArray[np.int64]:
    """Predicts each item's class by a probe fitted on the other folds.

    Args:
        vectors: (n, d) float32.
        labels: (n,) int64 classes.
        folds: (n,) int64, the fold of each item, as ``fold`` gives them; at least 3 folds.
        done: Told how many folds are done.

    Returns:
        (n,) int64 predicted classes.

    Raises:
        ValueError: There are fewer than 3 folds.
    """
    count = int(folds.max(initial=-1)) + 1
    if count < 3:
        raise ValueError(f"a probe needs at least 3 folds, not {count}")
    predicted = np.empty(len(labels), np.int64)
    for number in range(count):
        held, judge = folds == number, folds == (number + 1) % count
        rest = ~held & ~judge
        kind, penalty = _choose(vectors[rest], labels[rest], vectors[judge], labels[judge])
        scale = kind(vectors[~held])
        predicted[held] = _fit(scale(vectors[~held]), labels[~held], penalty)(scale(vectors[held]))
        done(number + 1)
    return predicted


def balanced_accuracy(labels: NDArray[np.int64], predicted: NDArray[np.int64]) -> float:
    """The mean, over the classes, of the share of their items that were predicted right."""
    right = labels == predicted
    return float(np.mean([right[labels == label].mean() for label in np.unique(labels)]))


def _choose(
    vectors: NDArray[np.float32], labels: NDArray[np.int64], others: NDArray[np.float32], truth: NDArray[np.int64]
) -> tuple[Callable[[NDArray[np.float32]], _Scale], float]:
    """The input and penalty that are right most often on other items; of equal ones the strongest penalty."""
    best, found = -1.0, (_unit, _PENALTIES[0])
    for kind in (_unit, _standard):
        scale = kind(vectors)
        inputs, tests = scale(vectors), scale(others)
        path = _Path(inputs, labels)
        for penalty in _PENALTIES:
            right = float((path.fit(penalty)(tests) == truth).mean()) if len(truth) else 0.0
            if right > best:
                best, found = right, (kind, penalty)
    return found


def _unit(known: NDArray[np.float32]) -> _Scale:
    """Vectors of length 1, centred: what cosine sees."""
    unit = _of_length_one(known)
    mean = unit.mean(axis=0)
    size = float(np.sqrt(np.square(unit - mean).sum(axis=1).mean())) or 1.0
    return lambda vectors: (_of_length_one(vectors) - mean) / size


def _standard(known: NDArray[np.float32]) -> _Scale:
    """Every value of mean 0 and equal spread; those that never vary are left at 0."""
    exact = known.astype(np.float64)
    mean, spread = exact.mean(axis=0), exact.std(axis=0)
    alive = spread > 1e-6 * max(float(spread.max(initial=0)), 1e-300)
    factor = np.where(alive, 1 / np.where(alive, spread, 1), 0) / np.sqrt(max(1, int(alive.sum())))
    return lambda vectors: (vectors.astype(np.float64) - mean) * factor


def _of_length_one(vectors: NDArray[np.float32]) -> NDArray[np.float64]:
    exact = vectors.astype(np.float64)
    lengths = np.linalg.norm(exact, axis=1, keepdims=True)
    return np.asarray(exact / np.where(lengths > 0, lengths, 1), np.float64)


_Predict = Callable[[NDArray[np.float64]], NDArray[np.int64]]


def _fit(inputs: NDArray[np.float64], labels: NDArray[np.int64], penalty: float) -> _Predict:
    """Fits at a penalty, by way of the stronger ones: as it was when the penalty was chosen."""
    path = _Path(inputs, labels)
    for stronger in _PENALTIES:
        found = path.fit(stronger)
        if stronger == penalty:
            break
    return found


class _Path:
    """Fits of one set of items at several penalties, each starting where the last one ended."""

    def __init__(self, inputs: NDArray[np.float64], labels: NDArray[np.int64]) -> None:
        from sklearn.linear_model import LogisticRegression

        self._inputs, self._labels = inputs, labels
        self._model = LogisticRegression(max_iter=_ITERATIONS, tol=_TOLERANCE, warm_start=True)

    def fit(self, penalty: float) -> _Predict:
        from sklearn.exceptions import ConvergenceWarning

        if len(np.unique(self._labels)) < 2:  # large groups can leave a single class to learn from
            only = self._labels[0] if len(self._labels) else 0
            return lambda inputs: np.full(len(inputs), only, np.int64)
        self._model.set_params(C=penalty)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            self._model.fit(self._inputs, self._labels)
        return lambda inputs: np.asarray(self._model.predict(inputs), np.int64)
