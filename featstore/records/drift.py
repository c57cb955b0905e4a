"""What is said of how the data moved."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["DriftMeasure", "DriftReport", "ShiftedItem"]


@dataclass(frozen=True, slots=True, kw_only=True)
class DriftMeasure:
    """One way to look at a difference between two samples.

    ``effect`` is its size, in the unit that ``about`` names, and ``expected`` what it is between samples that do not
    differ (the mean over permutations). ``p`` is the chance of an effect at least as large between such samples, and
    ``adjusted`` the same with all measures taken together. ``head`` is whose classes moved, None for the others.
    """

    name: Literal["classifier", "mmd", "centroid", "norm", "novelty", "classes"]
    effect: float
    expected: float
    p: float
    adjusted: float
    about: str
    head: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ShiftedItem:
    """An item that is least like what was there before: ``score`` is the classifier's, higher is less alike."""

    item_id: str
    score: float


@dataclass(frozen=True, slots=True, kw_only=True)
class DriftReport:
    """Whether the items that came are of the kind that was there.

    ``before`` and ``after`` are items compared, each content once, at most ``sampled`` a side. With too few of them
    ``enough`` is false, nothing is measured, and ``drifted`` is None. ``note`` says what was not looked at, and why.
    """

    before: int
    after: int
    sampled: int
    enough: bool
    drifted: bool | None
    level: float
    measures: tuple[DriftMeasure, ...]
    shifted: tuple[ShiftedItem, ...]
    note: str | None
