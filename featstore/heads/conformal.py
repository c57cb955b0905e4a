"""Split conformal prediction: sets of classes that hold the true one as often as asked, and when to abstain.

The nonconformity of an item is 1 minus the probability of its true class. A set holds every class whose nonconformity
is at most the bound that enough items outside the fit stayed under. It covers the truth of new items of the same kind
with at least the level's probability, whatever the classifier; no bound is fitted to the items it is judged on. Where
many items have the very same probability, as neighbours that all agree give it, the sets cover more than asked.

Source: Sadinle, Lei and Wasserman, Least ambiguous set-valued classifiers with bounded error levels (2019);
Angelopoulos and Bates, A gentle introduction to conformal prediction (2021), section 1.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from featstore.errors import SettingsError, UsageError
from featstore.heads.metrics import mean_of
from featstore.records import Conformal

__all__ = ["LEVELS", "abstains", "calibrate", "judged", "sets"]

LEVELS = (*(round(0.5 + 0.01 * step, 2) for step in range(50)), 0.995, 0.999)
"""The coverages that bounds are kept for."""


def calibrate(probabilities: NDArray[np.floating], truth: NDArray[np.int64], groups: NDArray[np.int64]) -> Conformal:
    """The bounds, from items that the head's figures are honest for: those predicted out of fold.

    Items of a group say much the same, so the correction for few items counts groups: with g of them a level's bound
    is the ⌈(g + 1) · level⌉ / g quantile of the items' nonconformity, and 1 (every class) where that is above 1.

    Args:
        probabilities: (n, c) of heads that had not seen the items.
        truth: (n,) int64 class numbers.
        groups: (n,) int64: what belongs together.

    Returns:
        The bounds by level; coverage and set size are open until ``judged``.

    Raises:
        UsageError: There are no items.
    """
    if not len(truth):
        raise UsageError("there are no items to calibrate sets of classes with.")
    scores = np.sort(1.0 - np.asarray(probabilities[np.arange(len(truth)), truth], np.float64))
    count = len(np.unique(groups))
    bounds = []
    for level in LEVELS:
        share = math.ceil(round((count + 1) * level, 9)) / count
        place = math.ceil(round(share * len(scores), 9))
        bounds.append(1.0 if share > 1 else float(scores[place - 1]))
    return Conformal(n=len(scores), levels=LEVELS, scores=tuple(bounds), coverage=None, set_size=None)


def sets(probabilities: NDArray[np.floating], conformal: Conformal, coverage: float) -> NDArray[np.bool_]:
    """Which classes each item may be of.

    Args:
        probabilities: (n, c).
        conformal: What ``calibrate`` gave.
        coverage: With what probability the true class is to be among them; taken up to the next level kept.

    Returns:
        (n, c) bool. A set may be empty: the item is like none of the classes.

    Raises:
        SettingsError: The coverage is outside of the levels kept.
    """
    lowest, highest = conformal.levels[0], conformal.levels[-1]
    if not lowest <= coverage <= highest:
        raise SettingsError(f"the coverage is {coverage:g}; it must be between {lowest:g} and {highest:g}.")
    at = next(i for i, level in enumerate(conformal.levels) if level >= coverage - 1e-9)
    return np.asarray(1.0 - np.asarray(probabilities, np.float64) <= conformal.scores[at], np.bool_)


def abstains(members: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """(n,) bool: where a set is not exactly one class."""
    return np.asarray(members.sum(axis=1) != 1, np.bool_)


def judged(
    conformal: Conformal,
    probabilities: NDArray[np.floating],
    truth: NDArray[np.int64],
    groups: NDArray[np.int64],
    *,
    coverage: float = 0.9,
) -> Conformal:
    """The bounds with what they cover on other items, and how large their sets are.

    Args:
        conformal: What ``calibrate`` gave.
        probabilities: (n, c) for items that took part in neither the fit nor the bounds.
        truth: (n,) int64 class numbers.
        groups: (n,) int64: what belongs together.
        coverage: At which level.

    Raises:
        UsageError: There are no items.
    """
    members = sets(probabilities, conformal, coverage)
    hit = members[np.arange(len(truth)), truth].astype(np.float64)
    covered = mean_of(hit, groups)
    return replace(conformal, coverage=covered, set_size=float(members.sum(axis=1).mean()))
