"""Which labels are likely wrong: confident learning, from probabilities of heads that had not seen the item.

A class's threshold is how sure heads are, on average, of the items that carry its label. An item that reaches the
threshold of another class than its own, and of none more likely, is likely labelled wrong. Nothing is assumed of how
well the probabilities are calibrated, nor of how many labels are wrong.

Source: Northcutt, Jiang, Chuang: Confident Learning, JAIR 70 (2021), equations 1 and 2; the order is its "normalised
margin", the label's probability minus that of the best other class.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["Thresholds", "suggested"]


class Thresholds:
    """The classes' thresholds, gathered block by block.

    Args:
        classes: How many classes there are.
    """

    def __init__(self, classes: int) -> None:
        self._sums = np.zeros(classes)
        self._counts = np.zeros(classes)

    def add(self, probabilities: NDArray[np.float64], given: NDArray[np.int64]) -> None:
        """Takes in items: (n, c) probabilities, and (n,) the classes of their labels (−1: none of them)."""
        rows = np.flatnonzero(given >= 0)
        self._sums += np.bincount(given[rows], probabilities[rows, given[rows]], len(self._sums))
        self._counts += np.bincount(given[rows], minlength=len(self._sums))

    @property
    def values(self) -> NDArray[np.float64]:
        """(c,) the thresholds; infinite for a class that no item carries."""
        return np.where(self._counts > 0, self._sums / np.maximum(self._counts, 1), np.inf)


def suggested(
    probabilities: NDArray[np.float64], given: NDArray[np.int64], thresholds: NDArray[np.float64]
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """The class that each item likely is.

    Args:
        probabilities: (n, c), out of fold.
        given: (n,) int64, the classes of their labels; −1: none of them.
        thresholds: (c,), as ``Thresholds`` found them.

    Returns:
        (n,) int64 the likely class, −1 where the item reaches no threshold; and (n,) float64 the margin: the label's
        probability minus the best other's, lowest where the label is least believable.
    """
    reached = np.where(probabilities >= thresholds, probabilities, -1.0)
    likely = np.where(reached.max(axis=1) >= 0, reached.argmax(axis=1), -1)
    rows = np.arange(len(given))
    own = np.where(given >= 0, probabilities[rows, np.maximum(given, 0)], 0.0)
    others = probabilities.copy()
    others[rows[given >= 0], given[given >= 0]] = -1.0
    return np.asarray(likely, np.int64), np.asarray(own - others.max(axis=1), np.float64)
