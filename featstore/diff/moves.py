"""How far the vectors of one space have moved between two versions."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from featstore.diff.matching import Match
from featstore.records import ItemCosine, VectorChanges
from featstore.tables import FeatureTable

__all__ = ["QUANTILES", "moves", "quantiles"]

QUANTILES = ("0", "0.01", "0.05", "0.25", "0.5", "0.75", "0.95", "1")

# Vectors held at once of each table; 768 values each make 400 MB.
_ROWS = 131_072


def moves(a: FeatureTable, b: FeatureTable, found: Match, *, examples: int) -> VectorChanges:
    """Compares the vectors of the common items bit by bit; those that differ by their cosine.

    Rows that both versions share are not read.

    Args:
        a: The first version.
        b: The second, of the same space.
        found: Their common items.
        examples: How many of the worst to name.

    Raises:
        IntegrityError: A file is missing or damaged.
    """
    pairs = np.flatnonzero(found.stirred)
    pairs = pairs[np.lexsort((found.a.at[pairs], found.a.file[pairs].astype(str)))] if len(pairs) else pairs
    cosines = np.ones(len(found.ids), np.float64)
    differs = np.zeros(len(found.ids), np.bool_)
    for start in range(0, len(pairs), _ROWS):
        some = pairs[start : start + _ROWS]
        x, y = _vectors(a, found, some, "a"), _vectors(b, found, some, "b")
        unlike = (x.view(np.int32) != y.view(np.int32)).any(axis=1)
        differs[some] = unlike
        cosines[some[unlike]] = _cosines(x[unlike], y[unlike])
    moved = np.flatnonzero(differs)
    worst = moved[np.argsort(cosines[moved], kind="stable")][:examples]
    return VectorChanges(
        changed=len(moved),
        same_content=int((~found.changed[moved]).sum()),
        cosines=quantiles(cosines[moved]),
        worst=tuple(
            ItemCosine(item_id=str(found.ids[at]), cosine=float(cosines[at]), content_changed=bool(found.changed[at]))
            for at in worst.tolist()
        ),
    )


def quantiles(values: NDArray[np.float64]) -> dict[str, float]:
    """The quantiles of some values, by name; none of no values."""
    if not len(values):
        return {}
    return dict(zip(QUANTILES, np.quantile(values, [float(q) for q in QUANTILES]).tolist(), strict=True))


def _vectors(table: FeatureTable, found: Match, some: NDArray[np.int64], side: str) -> NDArray[np.float32]:
    place = (found.a if side == "a" else found.b).of(some)
    return table.vectors(place.file.tolist(), place.at)


def _cosines(x: NDArray[np.float32], y: NDArray[np.float32]) -> NDArray[np.float64]:
    left, right = x.astype(np.float64), y.astype(np.float64)
    lengths = np.linalg.norm(left, axis=1) * np.linalg.norm(right, axis=1)
    product = np.einsum("ij,ij->i", left, right)
    return np.asarray(np.clip(product / np.where(lengths > 0, lengths, 1), -1, 1), np.float64)
