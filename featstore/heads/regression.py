"""How far a predicted number may be off: intervals that hold the true one as often as asked.

``ridge`` and ``knn`` for numbers are the rooms of classification, which know of values.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from featstore.errors import SettingsError, UsageError
from featstore.heads.conformal import LEVELS
from featstore.heads.metrics import mean_of
from featstore.records import Conformal

__all__ = ["calibrate", "intervals", "judged"]


def calibrate(values: NDArray[np.floating], truth: NDArray[np.float64], groups: NDArray[np.int64]) -> Conformal:
    """The bounds of the absolute error, from numbers predicted out of fold.

    Items of a group say much the same, so the correction for few items counts groups: with g of them a level's bound
    is the ⌈(g + 1) · level⌉ / g quantile of the errors. Levels that so few cannot promise are left out.

    Source: Lei, G'Sell, Rinaldo, Tibshirani and Wasserman, Distribution-free predictive inference for regression
    (2018), section 2.2.

    Args:
        values: (n,) or (n, 1), of heads that had not seen the items.
        truth: (n,) float64.
        groups: (n,) int64: what belongs together.

    Returns:
        The bounds by level, in the label's unit; coverage and set size are open.

    Raises:
        UsageError: There are no items.
    """
    if not len(truth):
        raise UsageError("there are no items to calibrate intervals with.")
    errors = np.sort(np.abs(np.asarray(values, np.float64).reshape(len(truth)) - truth))
    count = len(np.unique(groups))
    shares = {level: math.ceil(round((count + 1) * level, 9)) / count for level in LEVELS}
    bounds = {
        level: float(errors[math.ceil(round(share * len(errors), 9)) - 1])
        for level, share in shares.items()
        if share <= 1
    }
    return Conformal(
        n=len(errors), levels=tuple(bounds), scores=tuple(bounds.values()), coverage=None, set_size=None
    )  # fmt: skip


def intervals(values: NDArray[np.floating], conformal: Conformal, coverage: float) -> NDArray[np.float64]:
    """From where to where each number may be.

    Args:
        values: (n,) or (n, 1), predicted.
        conformal: What ``calibrate`` gave.
        coverage: With what probability the true number is to be inside; taken up to the next level kept.

    Returns:
        (n, 2) float64: lower and upper end.

    Raises:
        SettingsError: The coverage is outside of the levels kept.
    """
    fit = [i for i, level in enumerate(conformal.levels) if level >= coverage - 1e-9]
    if not fit or coverage < LEVELS[0]:
        highest = f"{conformal.levels[-1]:g}" if conformal.levels else "none"
        raise SettingsError(
            f"the coverage is {coverage:g}; {conformal.n:,} items allow {LEVELS[0]:g} to {highest}.",
            hint="Train on more items for a higher one.",
        )
    bound = conformal.scores[fit[0]]
    middle = np.asarray(values, np.float64).reshape(len(values))
    return np.column_stack([middle - bound, middle + bound])


def judged(
    conformal: Conformal,
    values: NDArray[np.floating],
    truth: NDArray[np.float64],
    groups: NDArray[np.int64],
    *,
    coverage: float = 0.9,
) -> Conformal:
    """The bounds with what they cover on other items; as they are where so few items promise no such coverage.

    Args:
        conformal: What ``calibrate`` gave.
        values: (n,) or (n, 1), predicted for items that took part in neither the fit nor the bounds.
        truth: (n,) float64.
        groups: (n,) int64: what belongs together.
        coverage: At which level.

    Raises:
        UsageError: There are no items.
    """
    if coverage > max(conformal.levels, default=0.0):
        return conformal
    ends = intervals(values, conformal, coverage)
    inside = (ends[:, 0] <= truth) & (truth <= ends[:, 1])
    return replace(conformal, coverage=mean_of(inside.astype(np.float64), groups))
