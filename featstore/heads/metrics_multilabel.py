"""How good predicted labels are where an item may have several."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

__all__ = ["average_precision", "best_thresholds", "label_figures", "multilabel"]

_BINS = 15

# A label with fewer items keeps this threshold: the best one of so few would be chance.
_FEWEST, _DEFAULT = 5, 0.5

_Measure = Callable[[NDArray[np.float64]], dict[str, NDArray[np.float64]]]


def multilabel(
    truth: NDArray[np.bool_], probabilities: NDArray[np.floating], thresholds: NDArray[np.float64] | None = None
) -> _Measure:
    """The metrics of predicted labels: from the items' weights in k draws, (k, n), to k values of each.

    ``mAP`` is the mean over the labels of their average precision, ``macro_f1`` that of their F1 and ``micro_f1`` the
    F1 of all pairs of item and label; labels that no item has are left out of both means. ``log_loss`` is the mean
    over the pairs, in nats, and ``ece`` the mean gap, in 15 bins of equal width, between the pairs' probabilities and
    the share of them that is true.

    Source: average precision as in scikit-learn: the precisions at each score, weighted by the gain in recall,
    without interpolation; equal scores come in together.

    Args:
        truth: (n, c) bool.
        probabilities: (n, c).
        thresholds: (c,) from which probability on an item gets a label; 0.5 by default.
    """
    likely = np.asarray(probabilities, np.float64)
    classes = truth.shape[1]
    given = likely >= _bounds(thresholds, classes)
    loss = -np.log(np.maximum(np.where(truth, likely, 1 - likely), np.finfo(np.float64).eps)).mean(axis=1)
    bins = np.clip(np.ceil(likely * _BINS).astype(np.int64) - 1, 0, _BINS - 1)
    gaps = np.zeros((len(truth), _BINS))
    np.add.at(gaps, (np.arange(len(truth))[:, None], bins), likely - truth)
    averages = [_average(truth[:, label], likely[:, label]) for label in range(classes)]
    listed = [[np.flatnonzero(those[:, label]) for label in range(classes)] for those in (given & truth, given, truth)]

    def measure(weights: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
        total, by_item = weights.sum(axis=1), np.ascontiguousarray(weights.T)
        hit, said, true = (np.array([by_item[items].sum(axis=0) for items in each]) for each in listed)
        precision = np.array([average(by_item) for average in averages])
        either, there = said + true, true > 0
        return {
            "mAP": _mean(precision, there),
            "micro_f1": _ratio(2 * hit.sum(axis=0), either.sum(axis=0), where_none=0.0),
            "macro_f1": _mean(_ratio(2 * hit, either), there),
            "log_loss": weights @ loss / total,
            "ece": np.abs(weights @ gaps).sum(axis=1) / (total * classes),
        }

    return measure


def average_precision(truth: NDArray[np.bool_], scores: NDArray[np.floating]) -> NDArray[np.float64]:
    """Of each label, from (n, c) truths and scores: (c,), NaN where no item has the label."""
    once = np.ones((len(truth), 1))
    columns = zip(truth.T, np.asarray(scores, np.float64).T, strict=True)
    return np.array([_average(*column)(once)[0] for column in columns])


def label_figures(
    truth: NDArray[np.bool_], probabilities: NDArray[np.floating], thresholds: NDArray[np.float64] | None = None
) -> dict[str, NDArray[np.float64]]:
    """``precision``, ``recall``, ``f1`` and ``average_precision`` of each label: (c,) each, NaN where undefined."""
    given = probabilities >= _bounds(thresholds, truth.shape[1])
    right, true = (given & truth).sum(axis=0), truth.sum(axis=0)
    return {
        "precision": _ratio(right, given.sum(axis=0)),
        "recall": _ratio(right, true),
        "f1": _ratio(2 * right, given.sum(axis=0) + true),
        "average_precision": average_precision(truth, probabilities),
    }


def best_thresholds(truth: NDArray[np.bool_], probabilities: NDArray[np.floating]) -> NDArray[np.float64]:
    """For each label the probability from which on giving it makes the best F1.

    To be chosen on items that the head had not seen. A threshold lies halfway between the scores on its two sides; of
    equally good ones the highest is taken. A label with fewer than 5 items, or that every item has, keeps 0.5.

    Args:
        truth: (n, c) bool.
        probabilities: (n, c), out of fold.

    Returns:
        (c,) float64.
    """
    found = np.full(truth.shape[1], _DEFAULT)
    true = truth.sum(axis=0)
    for label in np.flatnonzero((true >= _FEWEST) & (true < len(truth))).tolist():
        scores = np.asarray(probabilities[:, label], np.float64)
        order = np.argsort(-scores, kind="stable")
        ordered = scores[order]
        last = np.flatnonzero(np.append(ordered[1:] != ordered[:-1], True))
        f1 = 2 * np.cumsum(truth[order, label])[last] / (last + 1 + true[label])
        best = last[int(f1.argmax())]
        below = ordered[best + 1] if best + 1 < len(ordered) else 0.0
        found[label] = (ordered[best] + below) / 2 if ordered[best] > below else ordered[best]
    return found


def _average(
    truth: NDArray[np.bool_], scores: NDArray[np.float64]
) -> Callable[[NDArray[np.float64]], NDArray[np.float64]]:
    """A label's average precision, from weights (n, k) to (k,); all that can be sorted is sorted once."""
    order = np.argsort(-scores, kind="stable")
    ordered = scores[order]
    place = np.flatnonzero(truth[order])
    # For each true item the last place of equal score, and among the true ones the same.
    ends = np.flatnonzero(np.append(ordered[1:] != ordered[:-1], True))
    end = ends[np.searchsorted(ends, place)]
    upto = np.searchsorted(end, end, side="right") - 1
    item = order[place]

    def average(weights: NDArray[np.float64]) -> NDArray[np.float64]:
        true = weights[item]
        taken = np.cumsum(weights[order], axis=0)[end]
        right = np.cumsum(true, axis=0)[upto]
        gained = true * _ratio(right, taken, where_none=0.0)
        return _ratio(gained.sum(axis=0), true.sum(axis=0))

    return average


def _bounds(thresholds: NDArray[np.float64] | None, classes: int) -> NDArray[np.float64]:
    return np.full(classes, _DEFAULT) if thresholds is None else thresholds


def _ratio(
    above: NDArray[np.generic], below: NDArray[np.generic], *, where_none: float = np.nan
) -> NDArray[np.float64]:
    found = np.full(np.shape(above), where_none)
    np.divide(above, below, out=found, where=np.asarray(below, np.float64) > 0)
    return found


def _mean(values: NDArray[np.float64], there: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Over the labels that are there, (c, k): (k,); 0 where none is."""
    return _ratio(np.where(there, values, 0.0).sum(axis=0), there.sum(axis=0), where_none=0.0)
