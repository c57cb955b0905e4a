"""Linear maps from vectors x to vectors y, fitted in closed form from sums over the pairs."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

__all__ = ["CANDIDATES", "Candidate", "Map", "Sums", "fit", "unit"]


@dataclass(frozen=True)
class Map:
    """x → (x / |x| - x_mean) @ matrix + y_mean, made of length 1; all float32."""

    x_mean: NDArray[np.float32]
    matrix: NDArray[np.float32]
    y_mean: NDArray[np.float32]

    def apply(self, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        """Maps (n, x_dim) to (n, y_dim), float32 of length 1."""
        return unit((unit(vectors) - self.x_mean) @ self.matrix + self.y_mean)


@dataclass(frozen=True)
class Candidate:
    """One way to fit: a ridge with its penalty, or a rotation of that many principal components into the space of y."""

    method: Literal["ridge", "procrustes"]
    strength: float


# The most regular first: of equal ones the first is taken.
CANDIDATES = (
    *(Candidate("ridge", strength) for strength in (1000.0, 300.0, 100.0, 30.0, 10.0, 3.0, 1.0, 0.3, 0.1, 0.03)),
    *(Candidate("procrustes", float(dimensions)) for dimensions in (64, 256, 1024)),
)
"""A ridge's penalty is in units of the mean squared length of the centred vectors, so that it fits any model."""


@dataclass(frozen=True)
class Sums:
    """All that a fit needs of some pairs; those of two sets of pairs add up to those of both. All float64."""

    count: int
    x: NDArray[np.float64]
    y: NDArray[np.float64]
    xx: NDArray[np.float64]
    xy: NDArray[np.float64]

    @classmethod
    def of(cls, x: NDArray[np.floating[Any]], y: NDArray[np.floating[Any]]) -> Sums:
        """The sums over n pairs.

        Args:
            x: (n, x_dim) of length 1.
            y: (n, y_dim) of length 1.
        """
        x, y = x.astype(np.float64), y.astype(np.float64)
        return cls(len(x), x.sum(axis=0), y.sum(axis=0), x.T @ x, x.T @ y)

    @classmethod
    def total(cls, parts: Iterable[Sums]) -> Sums:
        """The sums over all parts; at least one."""
        first, *others = parts
        for part in others:
            first = cls(
                first.count + part.count,
                first.x + part.x,
                first.y + part.y,
                first.xx + part.xx,
                first.xy + part.xy,
            )
        return first


def fit(sums: Sums, candidates: Iterable[Candidate] = CANDIDATES) -> dict[Candidate, Map]:
    """Fits a map in each way; rotations of more dimensions than there are count as one of all.

    Source: Hoerl and Kennard, Ridge regression (1970), and Schönemann, A generalized solution of the orthogonal
    Procrustes problem (1966); the rotation is scaled as in Procrustes analysis with dilation.

    Args:
        sums: Of the pairs to learn from, at least two different ones.
        candidates: The ways.
    """
    mean_x, mean_y = sums.x / sums.count, sums.y / sums.count
    xx = sums.xx - sums.count * np.outer(mean_x, mean_x)
    xy = sums.xy - sums.count * np.outer(mean_x, mean_y)
    eigenvalues, vectors = np.linalg.eigh(xx)
    values, axes = np.maximum(0, eigenvalues[::-1]), vectors[:, ::-1]  # the principal components, longest first
    turned = axes.T @ xy
    most = min(*xy.shape, max(1, sums.count - 1))
    rotations: dict[int, NDArray[np.float64]] = {}
    found: dict[Candidate, Map] = {}
    for candidate in candidates:
        if candidate.method == "ridge":
            penalty = candidate.strength * max(float(values.sum()) / sums.count, 1e-12)
            matrix = axes @ (turned / (values + penalty)[:, None])
        else:
            many = min(most, int(candidate.strength))
            if many not in rotations:
                u, s, vt = np.linalg.svd(turned[:many], full_matrices=False)
                scale = s.sum() / max(float(values[:many].sum()), 1e-12)
                rotations[many] = scale * axes[:, :many] @ (u @ vt)
            matrix = rotations[many]
        found[candidate] = Map(*(np.asarray(part, np.float32) for part in (mean_x, matrix, mean_y)))
    return found


def unit(vectors: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
    """The vectors at length 1; those of zeros stay."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.where(lengths > 0, lengths, 1), np.float32)
