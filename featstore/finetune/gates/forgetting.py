"""What other tasks lose: every other head of the table, and the neutral items that no table has.

A head's task is fitted again by its own kind, on the old vectors and on the new ones, to the same items, and both are
tested on the same other items: what is compared are the vectors alone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from featstore.finetune.gates.outcome import Gate
from featstore.heads import figures, fit, paired, paired_interval
from featstore.records import Estimate, FinetuneForgetting, GateOutcome, HeadKind
from featstore.training.measuring import PRIMARY, output

if TYPE_CHECKING:
    from featstore.heads import Head
    from featstore.records import HeadTask

__all__ = ["Task", "head", "judged", "probe", "unknown"]


@dataclass(frozen=True, eq=False)
class Task:
    """What a registered head was trained for: items to learn from and others to test on.

    Attributes:
        name: The head's.
        task: What is predicted.
        kind: The head's kind.
        weights: Its class weights.
        classes: The classes in order.
        truth: (n,) class numbers, (n, c) bool or (n,) values.
        fold: (n,) int64, the fold of an item to learn from; -1 for one to test on.
        groups: (n,) int64, what belongs together.
        seed: Of everything drawn.
    """

    name: str
    task: HeadTask
    kind: HeadKind
    weights: str | None
    classes: tuple[str, ...]
    truth: NDArray[Any]
    fold: NDArray[np.int64]
    groups: NDArray[np.int64]
    seed: int


def head(
    task: Task, before: NDArray[np.float32], after: NDArray[np.float32], progress: Callable[[str], None]
) -> FinetuneForgetting:
    """Fits a head's task on both kinds of vectors.

    Args:
        task: The task, of n items.
        before: (n, d) their vectors as they were.
        after: (n, e) as they are now.
        progress: Told in a few words what is being done.

    Raises:
        UsageError: The head's kind cannot be fitted to the new vectors.
    """
    test, main = task.fold < 0, PRIMARY[task.task]
    truth, groups = task.truth[test], task.groups[test]
    heads = [_fitted(task, vectors[~test], progress) for vectors in (before, after)]
    said = [output(one, vectors[test]) for one, vectors in zip(heads, (before, after), strict=True)]
    bounds = [one.arrays.get("thresholds") for one in heads]
    found = [
        figures(task.task, truth, values, groups, seed=task.seed, thresholds=bound)[main].value
        for values, bound in zip(said, bounds, strict=True)
    ]
    difference = paired(task.task, truth, said[0], said[1], groups, seed=task.seed, thresholds=(bounds[0], bounds[1]))
    return FinetuneForgetting(
        name=task.name,
        kind="head",
        items=len(truth),
        before=found[0],
        after=found[1],
        difference=difference[main],
    )


def probe(name: str, before: NDArray[np.bool_], after: NDArray[np.bool_], *, seed: int) -> FinetuneForgetting:
    """What a linear probe on the neutral items loses.

    Args:
        name: What the items are.
        before: (n,) bool, which of them it got right on the old vectors.
        after: (n,) bool, which on the new ones.
        seed: Of the drawing.
    """
    mean, low, high = paired_interval(after.astype(np.float64) - before, np.arange(len(before)), seed=seed)
    return FinetuneForgetting(
        name=name,
        kind="probe",
        items=len(before),
        before=float(before.mean()),
        after=float(after.mean()),
        difference=Estimate(value=mean, low=low, high=high),
    )


def judged(found: FinetuneForgetting, most: float) -> GateOutcome:
    """Refuses where more than the limit is lost on the test items; the interval is in the note.

    The loss itself is judged, not an end of its interval: two fittings of the same head differ by chance on the few
    hundred items there usually are, and either end would refuse, or let pass, by their number alone.
    """
    change = found.difference
    note = (
        f"{found.before:.4f} → {found.after:.4f}, {change.value:+.4f} ({change.low:+.4f} to {change.high:+.4f}) on "
        f"{found.items:,} items"
    )
    return _gate(found.kind, found.name, most).judged(-change.value, note)


def unknown(name: str, most: float, why: str) -> GateOutcome:
    """The outcome of a head that could not be measured."""
    return _gate("head", name, most).said("not judged", None, why)


def _gate(kind: str, name: str, most: float) -> Gate:
    return Gate(f"forgetting.{name}" if kind == "head" else "forgetting.probe", most, "at most")


def _fitted(task: Task, vectors: NDArray[np.float32], progress: Callable[[str], None]) -> Head:
    side = task.fold >= 0
    return fit(
        vectors,
        task.truth[side],
        task.classes,
        task.fold[side],
        task=task.task,
        kind=task.kind,
        weights=task.weights,
        groups=task.groups[side],
        seed=task.seed,
        progress=progress,
    ).head
