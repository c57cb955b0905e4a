"""How much an item of each class counts."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["class_weights"]


def class_weights(truth: NDArray[np.int64], classes: int, kind: str | None) -> NDArray[np.float32]:
    """The weight of an item of each class; with ``balanced`` every class of ``truth`` counts as much as any other.

    Args:
        truth: (n,) class numbers of what is trained on.
        classes: How many classes there are.
        kind: ``balanced``, or None for equal items.

    Returns:
        (classes,) float32, 1 on average over the items.
    """
    if kind is None:
        return np.ones(classes, np.float32)
    counts = np.bincount(truth, minlength=classes)
    return np.asarray(len(truth) / (classes * np.maximum(counts, 1)), np.float32)
