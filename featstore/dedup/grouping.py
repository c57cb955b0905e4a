"""Which items of a table belong together, and from which cosine on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from featstore.errors import SettingsError
from featstore.neighbours.duplicates import groups, nearest_distances
from featstore.tables import FeatureTable

__all__ = ["Grouped", "Threshold", "check", "choose", "group", "groups_of", "near"]

# The rule of cleanlab is 0.13 of the median distance to the nearest item. Copies in the table shrink that distance:
# with four of each in 15 % of 1,000 photographs by a third, the one to the tenth nearest by a twentieth. A tenth of
# the latter linked pairs that were altered copies in 99.6 % (photographs) and 99.9 % (sentences) of the cases.
_NEIGHBOUR, _SHARE = 10, 0.1

_ASKED = 1_000


@dataclass(frozen=True)
class Threshold:
    """The cosine from which two items are near, and how it was found, in words."""

    cosine: float
    rule: str


@dataclass(frozen=True)
class Grouped:
    """The items of a table and their groups, in the order of ``rows()``.

    Attributes:
        ids: (n,) the ids.
        content: (n,) int64, equal for items of equal content.
        vectors: (n, dim) float32.
        group: (n,) int64, numbered from 0 in the order of first members.
        threshold: None where there are fewer than two contents.
    """

    ids: NDArray[np.object_]
    content: NDArray[np.int64]
    vectors: NDArray[np.float32]
    group: NDArray[np.int64]
    threshold: Threshold | None


def groups_of(features: FeatureTable, threshold: float | None = None) -> NDArray[np.int64]:
    """The group of each item: items of equal content, and near ones, share it.

    Keeps copies of an item on one side of a split: give it as the groups of the folds.

    Args:
        features: The table.
        threshold: The cosine from which two items are near; by default from the data, see ``choose``.

    Returns:
        (n,) int64 in the order of ``rows()``, numbered from 0 in the order of first members.

    Raises:
        SettingsError: The threshold is no cosine above 0.
        IntegrityError: A file is missing or damaged.
    """
    return group(features, threshold).group


def group(
    features: FeatureTable, threshold: float | None = None, *, done: Callable[[int], None] = lambda _: None
) -> Grouped:
    """Like ``groups_of``, with what was read on the way.

    Args:
        features: The table.
        threshold: The cosine from which two items are near; by default from the data.
        done: Told how many contents more have been compared with all before them.
    """
    check(threshold)
    hashes = features.rows(["content_sha256"])["content_sha256"]
    ids, vectors = features.matrix()
    content, found, chosen = near(hashes, vectors, threshold, done=done)
    return Grouped(ids, content, vectors, found, chosen)


def near(
    hashes: pa.ChunkedArray[Any],
    vectors: NDArray[np.float32],
    threshold: float | None = None,
    *,
    done: Callable[[int], None] = lambda _: None,
) -> tuple[NDArray[np.int64], NDArray[np.int64], Threshold | None]:
    """The groups of any items, such as some of a table's.

    Args:
        hashes: (n,) the contents' hashes.
        vectors: (n, dim) float32.
        threshold: The cosine from which two items are near; by default from the data.
        done: Told how many contents more have been compared with all before them.

    Returns:
        (n,) int64 contents and (n,) int64 groups, both numbered from 0 in the order of first members, and the
        threshold; None where there are fewer than two contents.

    Raises:
        SettingsError: The threshold is no cosine above 0.
        UsageError: A vector is not finite.
    """
    check(threshold)
    content = _codes(hashes)
    first = np.unique(content, return_index=True)[1]
    if len(first) < 2:
        return content, np.zeros(len(content), np.int64), None
    chosen = choose(hashes, vectors, first) if threshold is None else Threshold(threshold, "given")
    # Contents and groups are both numbered in the order of their first items.
    return content, groups(vectors, chosen.cosine, rows=first, done=done)[content], chosen


def check(threshold: float | None) -> None:
    """Refuses a threshold that is no cosine above 0.

    Raises:
        SettingsError: It is none.
    """
    if threshold is not None and not 0 < threshold <= 1:
        raise SettingsError(f"threshold is {threshold}; a cosine above 0 and at most 1 was expected.")


def choose(hashes: pa.ChunkedArray[Any], vectors: NDArray[np.float32], first: NDArray[np.int64]) -> Threshold:
    """A threshold from the data: the cosine distance is a tenth of the median one to the tenth nearest content.

    What lies so much nearer than a neighbourhood is wide is not only alike. Among fewer than 100 contents the tenth
    neighbour lies far off; it is then that of a rank of a tenth of them. The median is over the 1,000 contents with
    the smallest hashes: always the same, and as good as drawn by chance.

    Source: the rule of near-duplicates in cleanlab (Datalab, ``NearDuplicateIssueManager``), changed to the tenth
    neighbour so that copies in the table hardly move it.

    Args:
        hashes: (n,) the contents' hashes.
        vectors: (n, dim) float32.
        first: (m,) int64, one row of each content, at least two.
    """
    names = hashes.take(first).to_pylist()
    asked = first[np.argsort(np.array(names, str), kind="stable")[:_ASKED]]
    neighbour = min(_NEIGHBOUR, -(-len(first) // _NEIGHBOUR))
    distance = float(np.median(nearest_distances(vectors, asked, first, neighbour)))
    rule = (
        f"{_SHARE} × {distance:.4f}, the median distance to the {_ordinal(neighbour)} nearest item "
        f"({len(asked):,} of {len(first):,} asked)"
    )
    return Threshold(1 - _SHARE * min(distance, 1.0), rule)


def _codes(hashes: pa.ChunkedArray[Any]) -> NDArray[np.int64]:
    """Equal numbers for equal values, numbered from 0 in the order of first occurrence."""
    whole: Any = pa.concat_arrays(hashes.chunks) if hashes.num_chunks else pa.array([], pa.string())
    return np.asarray(whole.dictionary_encode().indices.to_numpy(), np.int64)


def _ordinal(number: int) -> str:
    return {1: "1st", 2: "2nd", 3: "3rd"}.get(number, f"{number}th")
