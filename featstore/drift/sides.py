"""Which item is of which sample: as it is, and permuted."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Null", "Sides"]


@dataclass(frozen=True)
class Null:
    """An effect, and what it is in permutations, (draws,)."""

    effect: float
    permuted: NDArray[np.float64]

    @property
    def p(self) -> float:
        """The chance of an effect at least as large where there is no difference.

        Source: Phipson and Smyth, Permutation p-values should never be zero (2010).
        """
        return float((1 + np.sum(self.permuted >= self.effect - 1e-12)) / (1 + len(self.permuted)))

    @property
    def expected(self) -> float:
        """The mean effect where there is no difference."""
        return float(self.permuted.mean())


@dataclass(frozen=True)
class Sides:
    """Columns of 0 (before) and 1 (after) for each item; the first column is the truth, the others permute it."""

    columns: NDArray[np.float32]

    @classmethod
    def of(cls, before: int, after: int, draws: int, seed: int) -> Sides:
        """Sides for samples of some sizes.

        Args:
            before: Items of the first sample; they come first.
            after: Items of the second.
            draws: Permutations.
            seed: Of the permutations.
        """
        truth = np.repeat(np.array([0, 1], np.float32), [before, after])
        chance = np.random.default_rng(seed)
        permuted = np.broadcast_to(truth[:, None], (len(truth), draws)).copy()
        chance.permuted(permuted, axis=0, out=permuted)
        return cls(np.concatenate([truth[:, None], permuted], axis=1))

    @property
    def contrast(self) -> NDArray[np.float32]:
        """(n, 1 + draws): weights that make the mean of the second minus the mean of the first."""
        after = self.columns.sum(axis=0)
        return np.asarray(self.columns / after - (1 - self.columns) / (len(self.columns) - after), np.float32)

    def null(self, effects: NDArray[np.floating]) -> Null:
        """The effects of all columns as one of the truth and those of the permutations."""
        exact = np.asarray(effects, np.float64)
        return Null(float(exact[0]), exact[1:])
