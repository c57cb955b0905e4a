"""Which pairs are nearly the same, so that a split does not learn from what it is asked about."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from featstore.bridge.maps import unit
from featstore.neighbours.duplicates import groups as linked

__all__ = ["NEAR", "grouped"]

NEAR = 0.9
"""The cosine, after the mean is taken away, from which two pictures or two captions count as nearly the same.

Without the mean, cosines of different models are alike in scale: unrelated items are near 0 in all of them.
"""


def grouped(images: NDArray[np.float32], texts: NDArray[np.float32], *known: NDArray[np.int64]) -> NDArray[np.int64]:
    """Groups pairs that are known to belong together, or whose pictures or captions are nearly the same.

    Directly or through others.

    Args:
        images: (n, image_dim) float32.
        texts: (n, text_dim) float32.
        *known: (n,) int64 each: pairs of equal numbers belong together, such as those of one item.

    Returns:
        (n,) int64, numbered from 0 in the order of their first members.
    """
    if not len(images):
        return np.zeros(0, np.int64)
    ties = [*known, *(linked(_centred(vectors), NEAR) for vectors in (images, texts))]
    # The groups of one tie are the nodes that those of the others join.
    found = np.arange(len(images))
    while True:
        before = found
        for tie in ties:
            least = np.full(int(tie.max()) + 1, len(images))
            np.minimum.at(least, tie, found)
            found = least[tie]
        if (found == before).all():
            return np.asarray(np.unique(found, return_inverse=True)[1], np.int64)


def _centred(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    centred = unit(vectors)
    centred -= centred.mean(axis=0)
    return centred
