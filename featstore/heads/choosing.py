"""On which items settings are chosen: on all folds where that is quick, else on a share of one."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from featstore.heads.calibration import losses, temperature
from featstore.heads.folds import judges
from featstore.heads.kinds import Problem

__all__ = ["Judge", "Sides", "judged_rows", "sides_for"]

# Logits that a setting is judged by, where all could be had; and the fewest items.
_LOGITS = 200_000
_ITEMS = 500


@dataclass(frozen=True, eq=False)
class Sides:
    """Pairs of rows: those to fit on, and those to judge by.

    Attributes:
        pairs: Of ascending rows.
        whole: They are all folds with all rows, so that what is predicted for the settings taken is out of fold for
            every item.
    """

    pairs: tuple[tuple[NDArray[np.int64], NDArray[np.int64]], ...]
    whole: bool

    @property
    def judged(self) -> NDArray[np.int64]:
        """The rows to judge by, one pair after the other."""
        return np.concatenate([held for _, held in self.pairs])


def sides_for(problem: Problem, *, whole: int, share: int, least: int) -> Sides:
    """The rows to choose settings on.

    Args:
        problem: What is to be learnt.
        whole: Up to as many items all folds are used.
        share: Of more, as many to fit on and as many to judge by, of one fold alone; evenly from all classes,
            as they come in a fixed random order.
        least: ``share`` is at least so many.
    """
    if problem.items <= whole:
        return Sides(tuple(problem.sides()), whole=True)
    size = max(share, least)
    held = problem.folds == judges(problem.folds)[0]
    pair = (np.flatnonzero(~held), np.flatnonzero(held))
    order = np.random.Generator(np.random.PCG64(problem.seed)).permutation(problem.items)
    picked = tuple(np.sort(order[np.isin(order, rows)][:size]) for rows in pair)
    return Sides(((picked[0], picked[1]),), whole=False)


def judged_rows(problem: Problem) -> NDArray[np.int64]:
    """Items enough to judge a setting by, ascending: the same for every candidate; all where they are few."""
    order = np.random.Generator(np.random.PCG64(problem.seed)).permutation(problem.items)
    return np.sort(order[: max(_ITEMS, _LOGITS // problem.outputs)])


class Judge:
    """What settings are chosen by: the mean loss of what was predicted, at the temperature that suits it best.

    Args:
        problem: What is to be learnt.
        rows: (m,) the items that settings are judged on.
    """

    def __init__(self, problem: Problem, rows: NDArray[np.int64]) -> None:
        weights = problem.weights(rows)
        self._weights = weights.mean(axis=1) if weights.ndim > 1 else weights
        self._task, self._truth, self._near = problem.task, problem.truth[rows], 1.0

    def score(self, logits: NDArray[np.floating]) -> float:
        """The loss, the lower the better, of (m, c) logits."""
        # Settings come one after the other: the last one's temperature is near that of the next.
        self._near = temperature(self._task, logits, self._truth, near=self._near)
        lost = losses(self._task, logits, self._truth, self._near)
        return float(self._weights @ lost / self._weights.sum())
