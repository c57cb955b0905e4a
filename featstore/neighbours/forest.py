"""Union-find over numbers, many pairs at a time.

Source: Tarjan, Efficiency of a good but not linear set union algorithm (1975); here links always lead to the lower
number, and paths are cut short for all numbers that are asked about at once.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["Forest"]


class Forest:
    """Numbers from 0 in sets: at first each in its own, and joined from then on.

    Args:
        count: How many numbers.
    """

    def __init__(self, count: int) -> None:
        self._parent = np.arange(count)

    def roots(self, of: NDArray[np.int64]) -> NDArray[np.int64]:
        """The lowest member of the set that each number is in."""
        found = self._parent[of]
        while True:
            above = self._parent[found]
            if (above == found).all():
                break
            found = above
        self._parent[of] = found
        return found

    def join(self, a: NDArray[np.int64], b: NDArray[np.int64]) -> None:
        """Joins the sets of each pair."""
        while len(a):
            x, y = self.roots(a), self.roots(b)
            apart = x != y
            a, b, x, y = a[apart], b[apart], x[apart], y[apart]
            # Every root goes below its lowest partner; the other links of a root wait for the next round.
            np.minimum.at(self._parent, np.maximum(x, y), np.minimum(x, y))

    def join_all(self, a: NDArray[np.int64], b: NDArray[np.int64], near: NDArray[np.bool_]) -> None:
        """Joins each of ``a`` with each of ``b`` where ``near`` (a, b) says so, without listing the pairs."""
        none = len(self._parent)
        while True:
            x, y = self.roots(a), self.roots(b)
            apart = near & (x[:, None] != y)
            if not apart.any():
                return
            # One link of each is enough to come on; the others are looked at again.
            lowest = np.where(apart, y, none).min(axis=1)
            self.join(a[lowest < none], lowest[lowest < none])
            lowest = np.where(apart, self.roots(a)[:, None], none).min(axis=0)
            self.join(b[lowest < none], lowest[lowest < none])

    def united(self, a: NDArray[np.int64], b: NDArray[np.int64]) -> bool:
        """Whether all of them are in one set."""
        x, y = self.roots(a), self.roots(b)
        return bool((x == x[0]).all() and (y == x[0]).all())

    def numbered(self) -> NDArray[np.int64]:
        """The set of each number, numbered from 0 in the order of lowest members."""
        roots = self.roots(np.arange(len(self._parent)))
        return np.asarray(np.unique(roots, return_inverse=True)[1], np.int64)
