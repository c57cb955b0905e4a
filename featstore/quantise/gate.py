"""How near quantised vectors are to those before, and whether that is near enough."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featstore.heads import bind, fold, paired_interval, predict_out_of_fold, rare
from featstore.neighbours import nearest_others
from featstore.records import Fidelity

__all__ = ["LEAST", "Judge", "Least", "failures"]

_NEIGHBOURS = 10
_FOLDS = 5

# A difference of accuracies on fewer items is wider than the point that is allowed, whatever the model.
_SURE = 1_000


@dataclass(frozen=True, slots=True)
class Least:
    """What a quantised model must keep: neighbours, cosines (first percentile), accuracy of a probe."""

    overlap: float = 0.90
    p1_cosine: float = 0.98
    accuracy_loss: float = 0.01


LEAST = Least()
"""The gate."""


@dataclass
class Judge:
    """Compares vectors with those of the model before, on the same items.

    Args:
        before: (n, d) float32 of the model in full precision.
        labels: A class for each item, None where there is none.
        contents: The items' content hashes.
        groups: The items' groups, None where there is none.
    """

    before: NDArray[np.float32]
    labels: list[str | None]
    contents: list[str]
    groups: list[str | None]
    _near: NDArray[np.int64] | None = field(default=None, init=False)
    _probed: tuple[NDArray[np.int64], NDArray[Any], NDArray[Any], NDArray[Any], NDArray[np.bool_]] | None = field(
        default=None, init=False
    )

    def look(self, after: NDArray[np.float32]) -> Fidelity:
        """The cosines alone, of the first items."""
        cosines = _cosines(self.before[: len(after)], after)
        return Fidelity(
            items=len(after), mean_cosine=_rounded(cosines.mean()), p1_cosine=_percentile(cosines), overlap=0.0
        )

    def judge(self, after: NDArray[np.float32]) -> Fidelity:
        """All of it.

        Args:
            after: (n, d) float32 of the quantised model.
        """
        cosines = _cosines(self.before, after)
        rows = np.arange(len(after))
        if self._near is None:
            self._near = nearest_others(self.before, rows, _NEIGHBOURS)[0]
        near = nearest_others(after, rows, _NEIGHBOURS)[0]
        overlap = float((self._near[:, :, None] == near[:, None, :]).any(axis=2).mean())
        found = Fidelity(
            items=len(after),
            mean_cosine=_rounded(cosines.mean()),
            p1_cosine=_percentile(cosines),
            overlap=_rounded(overlap),
        )
        return self._with_accuracy(found, after)

    def _with_accuracy(self, found: Fidelity, after: NDArray[np.float32]) -> Fidelity:
        if self._probed is None:
            self._probed = self._probe()
        rows, labels, folds, groups, right = self._probed
        if not len(rows):
            return found
        now = predict_out_of_fold(after[rows], labels, folds) == labels
        _, low, high = paired_interval(now.astype(np.float64) - right, groups)
        return Fidelity(
            items=found.items,
            mean_cosine=found.mean_cosine,
            p1_cosine=found.p1_cosine,
            overlap=found.overlap,
            labelled=len(rows),
            accuracy=_rounded(now.mean()),
            accuracy_before=_rounded(right.mean()),
            accuracy_low=_rounded(low),
            accuracy_high=_rounded(high),
        )

    def _probe(self) -> tuple[NDArray[np.int64], NDArray[Any], NDArray[Any], NDArray[Any], NDArray[np.bool_]]:
        """The labelled items, their classes, folds and groups, and which of them the model before gets right."""
        labelled = [at for at, label in enumerate(self.labels) if label is not None]
        names = [str(self.labels[at]) for at in labelled]
        nothing: NDArray[np.int64] = np.empty(0, np.int64)
        if not labelled:
            return nothing, nothing, nothing, nothing, nothing.astype(np.bool_)
        groups = bind([self.groups[at] for at in labelled], [self.contents[at] for at in labelled])
        few = rare(names, groups, _FOLDS)
        kept = [row for row, name in enumerate(names) if name not in few]
        classes = {name: number for number, name in enumerate(sorted({names[row] for row in kept}))}
        if len(classes) < 2:
            return nothing, nothing, nothing, nothing, nothing.astype(np.bool_)
        labels = np.array([classes[names[row]] for row in kept], np.int64)
        folds, rows = fold(labels, groups[kept], _FOLDS), np.array(labelled, np.int64)[kept]
        right = predict_out_of_fold(self.before[rows], labels, folds) == labels
        return rows, labels, folds, groups[kept], right


def failures(found: Fidelity, least: Least = LEAST, *, looked: bool = False) -> tuple[str, ...]:
    """What of the gate is missed, in words; nothing where it is passed.

    The accuracy may not be lower by more than a point: with 1,000 labelled items or more that is said of the lower end
    of the difference's interval, with fewer, where the interval is wider than the point, of the difference itself.

    Args:
        found: What was measured.
        least: What is needed.
        looked: Only the cosines were measured.
    """
    missed = []
    if not found.p1_cosine >= least.p1_cosine:
        missed.append(f"cosine {found.p1_cosine:.3f} at the first percentile (≥ {least.p1_cosine:g} is needed)")
    if not looked and not found.overlap >= least.overlap:
        missed.append(f"{found.overlap:.3f} of the 10 nearest neighbours stay (≥ {least.overlap:g} is needed)")
    if found.accuracy is not None and found.accuracy_before is not None and found.accuracy_low is not None:
        change = found.accuracy_low if found.labelled >= _SURE else found.accuracy - found.accuracy_before
        if change < -least.accuracy_loss:
            missed.append(
                f"a probe's accuracy {found.accuracy:.3f}, was {found.accuracy_before:.3f}: the difference is "
                f"{found.accuracy_low:+.3f} to {found.accuracy_high or 0.0:+.3f} (not below {-least.accuracy_loss:g})"
            )
    return tuple(missed)


def _cosines(one: NDArray[np.float32], other: NDArray[np.float32]) -> NDArray[np.float64]:
    a, b = one.astype(np.float64), other.astype(np.float64)
    lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    return np.asarray((a * b).sum(axis=1) / np.where(lengths > 0, lengths, 1.0))


def _percentile(cosines: NDArray[np.float64]) -> float:
    return _rounded(np.quantile(cosines, 0.01))


def _rounded(value: float | np.floating[Any]) -> float:
    return round(float(value), 6)
