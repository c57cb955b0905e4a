"""Which model is better on labels, and how sure that is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from featstore.compare.items import Items
from featstore.heads import balanced_accuracy, bind, fold, paired_interval, predict_out_of_fold, rare

__all__ = ["Score", "Verdict", "judge"]

_FOLDS = 5

# The classes named in a warning; the result has them all.
_NAMED = 5


@dataclass(frozen=True)
class Score:
    """One model's probe: shares of held-out items; ``behind`` is (difference, low, high) to the best, None for it."""

    accuracy: float
    balanced_accuracy: float
    behind: tuple[float, float, float] | None


@dataclass(frozen=True)
class Verdict:
    """The probes of all models by ``space_id``; empty where there is nothing to judge by."""

    scores: dict[str, Score] = field(default_factory=dict)
    best: str | None = None
    labelled: int = 0
    classes: int = 0
    folds: int = 0
    majority: float | None = None
    rare: dict[str, int] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()


def judge(items: Items, *, done: Callable[[], None] = lambda: None) -> Verdict:
    """Probes every model on the items that have a label, in the same five folds.

    Items of one group or of equal content share a fold. Classes with fewer groups than there are folds are left
    out, and said so. Each model is compared with the one of the highest accuracy by a paired bootstrap over groups.

    Args:
        items: What is compared.
        done: Called after each model.

    Returns:
        The scores, without any where fewer than two classes can be judged.
    """
    labelled = [at for at, label in enumerate(items.labels) if label is not None]
    if not labelled:
        return Verdict()
    groups = bind([items.groups[at] for at in labelled], [items.contents[at] for at in labelled])
    names = [str(items.labels[at]) for at in labelled]
    few = rare(names, groups, _FOLDS)
    kept = np.array([row for row, name in enumerate(names) if name not in few], np.int64)
    warnings = _told(few)
    classes = {name: number for number, name in enumerate(sorted(set(names) - set(few)))}
    if len(classes) < 2:
        why = "the labels have fewer than two classes that can be judged, so there is no probe"
        return Verdict(labelled=0, rare=few, warnings=(*warnings, why))
    labels = np.array([classes[names[row]] for row in kept.tolist()], np.int64)
    groups, rows = groups[kept], np.array(labelled, np.int64)[kept]
    folds = fold(labels, groups, _FOLDS)
    predicted = {}
    for space_id, vectors in items.vectors.items():
        predicted[space_id] = predict_out_of_fold(vectors[rows], labels, folds)
        done()
    right = {space_id: (found == labels).astype(np.float64) for space_id, found in predicted.items()}
    best = max(right, key=lambda space_id: float(right[space_id].mean()))
    scores = {
        space_id: Score(
            accuracy=float(hits.mean()),
            balanced_accuracy=balanced_accuracy(labels, predicted[space_id]),
            behind=None if space_id == best else paired_interval(hits - right[best], groups),
        )
        for space_id, hits in right.items()
    }
    return Verdict(
        scores=scores,
        best=best,
        labelled=len(labels),
        classes=len(classes),
        folds=_FOLDS,
        majority=round(Counter(labels.tolist()).most_common(1)[0][1] / len(labels), 6),
        rare=few,
        warnings=warnings,
    )


def _told(few: dict[str, int]) -> tuple[str, ...]:
    if not few:
        return ()
    named = ", ".join(f"'{name}' ({number:,})" for name, number in list(few.items())[:_NAMED])
    more = f" and {len(few) - _NAMED:,} more" if len(few) > _NAMED else ""
    return (f"left out of the probe: classes in fewer than {_FOLDS} groups of items: {named}{more}",)
