"""Is it better than the best head on the vectors as they are? If not, it is negative transfer and refused."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from featstore.finetune.gates.outcome import Gate
from featstore.heads import paired_interval
from featstore.records import Estimate, GateOutcome

if TYPE_CHECKING:
    from featstore.heads import Head

__all__ = ["gain", "gained", "nothing"]


def gained(
    truth: NDArray[np.int64],
    frozen: tuple[Head, NDArray[np.float32]],
    tuned: tuple[Head, NDArray[np.float32]],
    groups: NDArray[np.int64],
    *,
    seed: int,
) -> Estimate:
    """The accuracy of one head minus that of another on the same items, paired, whole groups drawn.

    Args:
        truth: (n,) class numbers of the test items.
        frozen: The head on the vectors as they were, and those vectors (n, d).
        tuned: The head on the new vectors, and those.
        groups: (n,) int64, what belongs together.
        seed: Of the drawing.
    """
    before, after = (head.predict(vectors) == truth for head, vectors in (frozen, tuned))
    mean, low, high = paired_interval(after.astype(np.float64) - before, groups, seed=seed)
    return Estimate(value=mean, low=low, high=high)


def gain(found: Estimate, least: float, *, items: int) -> GateOutcome:
    """Refuses where the lower end of the gain's interval is not above the limit.

    Args:
        found: What ``gained`` gave.
        least: The limit.
        items: How many test items there are.
    """
    note = f"the lower end; the gain is {found.value:+.4f} ({found.low:+.4f} to {found.high:+.4f}) on {items:,} items"
    return _gate(least).judged(found.low, note)


def nothing(least: float) -> GateOutcome:
    """The outcome where no epoch was better than the start: there is nothing to look at the test items for."""
    note = "no epoch was better than the start on the validation items, so the test items were not looked at"
    return _gate(least).said("refused", 0.0, note)


def _gate(least: float) -> Gate:
    return Gate("gain", least, "at least", strict=True)
