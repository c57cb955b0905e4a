"""What a head says of some vectors, as columns.

==============  ==============================================================================================
task            columns
==============  ==============================================================================================
classification  ``predicted``, ``probability`` (of it), ``abstain`` and ``set`` (where there is a coverage),
                ``top_labels`` and ``top_probabilities`` (lists, the likeliest first)
multilabel      ``predicted`` (list, by each label's threshold), ``top_labels``, ``top_probabilities``
regression      ``predicted`` (a number), ``low`` and ``high`` (where there is a coverage)
==============  ==============================================================================================
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from featstore.errors import UsageError
from featstore.heads import conformal, regression
from featstore.heads.head import Head

if TYPE_CHECKING:
    from featstore.records import HeadCard

__all__ = ["Columns"]

# Numbers of one row of probabilities times rows that are held at once: 32 MB of float64.
_VALUES = 4_000_000

_USUAL = 0.9

_TEXTS = pa.list_(pa.string())
_NUMBERS = pa.list_(pa.float64())


class Columns:
    """Makes the columns of a head.

    Args:
        card: The head's card.
        head: The head.
        top_k: How many of the likeliest classes to name.
        coverage: The share of items whose set of classes shall hold the true one; by default 0.9 where the head
            was calibrated for it.

    Raises:
        UsageError: ``top_k`` or the coverage is out of range, or the head was not calibrated for one.
    """

    def __init__(self, card: HeadCard, head: Head, *, top_k: int, coverage: float | None) -> None:
        if top_k < 1:
            raise UsageError(f"--top-k is {top_k}; it is at least 1.")
        if coverage is not None and not 0 < coverage < 1:
            raise UsageError(f"--coverage is {coverage}; it lies between 0 and 1, such as 0.9.")
        if coverage is not None and card.conformal is not None:
            least, most = min(card.conformal.levels), max(card.conformal.levels)
            if not least <= coverage <= most:
                raise UsageError(f"--coverage is {coverage:g}; this head's sets cover from {least:g} to {most:g}.")
        if coverage is not None and card.conformal is None:
            raise UsageError(
                f"--coverage: the head '{card.head}:{card.version}' ({card.task}) was not calibrated for any.",
                hint="Leave the option out.",
            )
        levels = () if card.conformal is None else card.conformal.levels
        self.coverage = coverage if coverage is not None or max(levels, default=0.0) < _USUAL else _USUAL
        self._conformal = card.conformal
        self._head = head
        self._top = min(top_k, max(1, len(head.classes)))
        self._classes = pa.array(head.classes, pa.string())

    def schema(self) -> pa.Schema:
        """The columns' names and types."""
        return self.of(np.zeros((0, self._head.dim), np.float32)).schema

    def of(self, vectors: NDArray[np.float32]) -> pa.Table:
        """The columns for some vectors.

        Args:
            vectors: (n, d) float32 of the head's space.
        """
        step = max(1, _VALUES // max(1, len(self._head.classes)))
        starts = range(0, max(1, len(vectors)), step)
        return pa.concat_tables([self._some(vectors[start : start + step]) for start in starts])

    def _some(self, vectors: NDArray[np.float32]) -> pa.Table:
        if self._head.task == "regression":
            return self._numbers(vectors)
        probabilities = self._head.probabilities(vectors)
        top = _likeliest(probabilities, self._top)
        shares = np.take_along_axis(probabilities, top, 1)
        named = {
            "top_labels": self._labels(top.reshape(-1), np.full(len(top), top.shape[1])),
            "top_probabilities": _lists(pa.array(shares.reshape(-1)), np.full(len(top), top.shape[1]), _NUMBERS),
        }
        if self._head.task == "multilabel":
            said = np.asarray(self._head.predict(vectors), np.bool_)
            return pa.table({"predicted": self._labels(np.nonzero(said)[1], said.sum(axis=1)), **named})
        found: dict[str, pa.Array[Any]] = {
            "predicted": self._classes.take(top[:, 0]),
            "probability": pa.array(shares[:, 0], pa.float64()),
        }
        if self.coverage is not None and self._conformal is not None:
            sets = conformal.sets(probabilities, self._conformal, self.coverage)
            sizes = sets.sum(axis=1)
            found["abstain"] = pa.array(sizes != 1, pa.bool_())
            found["set"] = self._labels(np.nonzero(sets)[1], sizes)
        return pa.table({**found, **named})

    def _numbers(self, vectors: NDArray[np.float32]) -> pa.Table:
        values = np.asarray(self._head.predict(vectors), np.float64)
        found = {"predicted": pa.array(values, pa.float64())}
        if self.coverage is not None and self._conformal is not None:
            bounds = regression.intervals(values, self._conformal, self.coverage)
            found |= {name: pa.array(bounds[:, at], pa.float64()) for at, name in enumerate(("low", "high"))}
        return pa.table(found)

    def _labels(self, numbers: NDArray[np.int64], sizes: NDArray[Any]) -> pa.Array[Any]:
        return _lists(self._classes.take(numbers), sizes, _TEXTS)


def _likeliest(probabilities: NDArray[np.float64], count: int) -> NDArray[np.int64]:
    """The first classes of each row, the likeliest first; of equal ones the first in order: (n, count)."""
    return np.argsort(-probabilities, axis=1, kind="stable")[:, :count].astype(np.int64)


def _lists(values: pa.Array[Any], sizes: NDArray[Any], kind: pa.ListType[Any]) -> pa.Array[Any]:
    offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(sizes, dtype=np.int64)]).astype(np.int32)
    found: pa.Array[Any] = pa.ListArray.from_arrays(
        pa.array(offsets, pa.int32()), values.cast(kind.value_type), type=kind
    )
    return found
