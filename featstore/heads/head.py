"""A head: a light model on vectors as plain arrays, and its forward pass."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featstore.errors import UsageError
from featstore.heads.calibration import probabilities
from featstore.heads.threads import one_thread
from featstore.heads.topk import largest
from featstore.records import HeadKind, HeadTask

__all__ = ["Arrays", "Head"]

Arrays = dict[str, NDArray[Any]]

# Rows computed at once, always as many, the last ones filled up with zeros: a product of float64 and of one shape gives
# a row the same bits wherever it stands and whatever stands beside it.
_ROWS = 256

# Neighbours that are compared besides those that are wanted, and values of them held at once.
_SPARE = 8
_VALUES = 8_000_000


@dataclass(frozen=True, eq=False)
class Head:
    """A fitted light model. It holds arrays and numbers only, so that a file of it can hold nothing that runs.

    The input is the vector as it is (``raw``), at length 1 (``unit``), and then, where there are ``mean`` (d,) and
    ``factor`` (d,) among the arrays, ``(x − mean) · factor``. The forward pass is one of three:

    * linear: ``weights`` (c, d), ``bias`` (c,): logistic, ridge, prototypes, torch-linear, majority;
    * mlp: ``hidden_weights`` (h, d), ``hidden_bias`` (h,), ReLU, then linear (c, h): torch-mlp;
    * neighbours: ``known`` (m, d) float32 at length 1 and what they are, ``known_target`` (m, c): knn, with the
      settings ``k`` and ``tau``. Its logits are the logarithms of the neighbours' weighted shares, of at least the
      setting ``floor``.

    Attributes:
        task: What is predicted.
        kind: How.
        classes: The classes in order; none for regression.
        dim: Values of a vector, d.
        input: ``raw``, ``unit``, ``standard`` or ``centred``: the last two are ``raw`` and ``unit`` with mean and
            factor, which a linear head may have in its weights instead.
        arrays: By name.
        settings: By name: ``temperature``, ``penalty``, ``k``, ``tau`` …
    """

    task: HeadTask
    kind: HeadKind
    classes: tuple[str, ...]
    dim: int
    input: str
    arrays: Arrays
    settings: dict[str, float]

    @property
    def outputs(self) -> int:
        """How many numbers come out for a vector."""
        return len(self.classes) or 1

    def logits(self, vectors: NDArray[np.floating]) -> NDArray[np.float64]:
        """What comes out before any temperature.

        Args:
            vectors: (n, d), any real type.

        Returns:
            (n, c) float64; for regression (n, 1), the values themselves.

        Raises:
            UsageError: Another dimension, or a value that is not finite.
        """
        if vectors.ndim != 2 or vectors.shape[1] != self.dim:
            raise UsageError(
                f"the vectors' shape is {'×'.join(map(str, vectors.shape))}; this head takes {self.dim} values each.",
                hint="Encode them with the model of the head's space.",
            )
        found = np.empty((len(vectors), self.outputs))
        with one_thread():
            for start in range(0, len(vectors), _ROWS):
                rows = slice(start, min(start + _ROWS, len(vectors)))
                values = np.zeros((_ROWS, self.dim))
                values[: rows.stop - start] = vectors[rows]
                found[rows] = self._forward(self._prepared(values, start))[: rows.stop - start]
        return found

    def probabilities(self, vectors: NDArray[np.floating]) -> NDArray[np.float64]:
        """Calibrated probabilities: of the classes, or for each label on its own where there may be several.

        Args:
            vectors: (n, d), any real type.

        Returns:
            (n, c) float64 in [0, 1]; rows of a classification sum to 1.

        Raises:
            UsageError: Another dimension, a value that is not finite, or a head that predicts numbers.
        """
        if self.task == "regression":
            raise UsageError("a head that predicts numbers has no probabilities.", hint="Ask it to predict.")
        return probabilities(self.task, self.logits(vectors), self.settings.get("temperature", 1.0))

    def predict(self, vectors: NDArray[np.floating]) -> NDArray[np.generic]:
        """What it says of each vector.

        Args:
            vectors: (n, d), any real type.

        Returns:
            Classification: (n,) int64 class numbers. Multilabel: (n, c) bool, by the labels' ``thresholds`` (0.5
            where there are none). Regression: (n,) float64.

        Raises:
            UsageError: Another dimension, or a value that is not finite.
        """
        if self.task == "regression":
            return self.logits(vectors)[:, 0]
        if self.task == "multilabel":
            bounds = self.arrays.get("thresholds", np.full(self.outputs, 0.5))
            return np.asarray(self.probabilities(vectors) >= bounds, np.bool_)
        return np.asarray(self.logits(vectors).argmax(axis=1), np.int64)

    def _prepared(self, values: NDArray[np.float64], first: int) -> NDArray[np.float64]:
        if not np.isfinite(values).all():
            at = first + int(np.flatnonzero(~np.isfinite(values).all(axis=1))[0])
            raise UsageError(f"row {at} holds a value that is not finite (NaN or infinite).")
        if self.input in ("unit", "centred"):
            lengths = np.sqrt(np.vecdot(values, values))[:, None]
            values = values / np.where(lengths > 0, lengths, 1)
        if "mean" in self.arrays:
            values = (values - self.arrays["mean"]) * self.arrays["factor"]
        return values

    def _forward(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        if "known" in self.arrays:
            return self._neighbours(values)
        if "hidden_weights" in self.arrays:
            values = np.maximum(values @ self.arrays["hidden_weights"].T + self.arrays["hidden_bias"], 0.0)
        return np.asarray(values @ self.arrays["weights"].T + self.arrays["bias"], np.float64)

    def _neighbours(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        known, target = self.arrays["known"], self.arrays["known_target"]
        k = min(int(self.settings["k"]), len(known))
        lengths = np.sqrt(np.vecdot(values, values))[:, None]
        best, cosines = _nearest(values / np.where(lengths > 0, lengths, 1), known, k)
        scores = cosines / self.settings["tau"]
        weights = np.exp(scores - scores.max(axis=1, keepdims=True))
        weights /= weights.sum(axis=1, keepdims=True)
        shares = np.zeros((len(values), target.shape[1]))
        for column in range(k):
            shares += weights[:, column, None] * target[best[:, column]]
        if self.task == "regression":
            return np.asarray(shares, np.float64)
        floor = self.settings.get("floor", 1e-6)
        shares = np.clip(shares, floor, 1 - floor) if self.task == "multilabel" else np.maximum(shares, floor)
        odds = np.log(shares) - np.log1p(-shares) if self.task == "multilabel" else np.log(shares)
        return np.asarray(odds, np.float64)


def _nearest(
    values: NDArray[np.float64], known: NDArray[np.float32], k: int
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """The k nearest of what is known for each row, nearest first, and their cosines; of equal ones the first.

    A product of float32 finds who comes into question. Some processors give it other last bits where a row stands
    elsewhere, so the cosines that count are computed pair by pair.
    """
    wanted = min(k + _SPARE, len(known))
    among = np.sort(largest(values.astype(known.dtype) @ known.T, wanted), axis=1)
    cosines = np.empty(among.shape)
    step = max(1, _VALUES // (wanted * values.shape[1]))
    for start in range(0, len(values), step):
        rows = slice(start, start + step)
        cosines[rows] = np.vecdot(known[among[rows]].astype(np.float64), values[rows, None, :])
    order = np.argsort(-cosines, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(among, order, 1), np.take_along_axis(cosines, order, 1)
