"""The learning curve: the chosen kind on fewer training items, judged by items it has not seen, none of them test."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featstore.errors import FeatstoreError
from featstore.heads.fitting import fit
from featstore.heads.folds import judges
from featstore.heads.head import Head
from featstore.heads.metrics import figures
from featstore.records import CurvePoint
from featstore.settings import TorchSettings
from featstore.storage import hashing
from featstore.training.measuring import PRIMARY, Side, output

__all__ = ["learning_curve"]

_SHARES = (1 / 16, 1 / 8, 1 / 4, 1 / 2)

# With few items three folds are held out in turn, so that the points are steady; with many one is enough. With few the
# last point is fitted like the others: what is known of unseen items had a part in choosing the head's settings, which
# makes labels by chance look some points better than they are.
_FEW, _SOME = 1_500, 6_000


def learning_curve(
    head: Head,
    train: Side,
    folds: NDArray[np.int64],
    keys: list[str],
    unseen: NDArray[np.float64],
    *,
    weights: str | None,
    torch: TorchSettings | None,
    seed: int,
    progress: Callable[[str], None],
) -> tuple[CurvePoint, ...]:
    """Fits the head's kind to growing parts of the training items, settings and all, and judges it on a held-out fold.

    The parts are nested: each class's items in the order of their hashes.

    Args:
        head: The chosen head; its kind is fitted.
        train: The training items.
        folds: (n,) int64, their folds.
        keys: Their contents' hashes.
        unseen: What heads that had not seen them say of them, fitted to all other folds: with many items the last
            point.
        weights: Class weights.
        torch: What the torch kinds are told.
        seed: Of everything drawn.
        progress: Told in a few words what is being done.

    Returns:
        The task's main figure by the number of items, smallest first; empty where there are too few folds.
    """
    numbers = judges(folds)
    if len(numbers) < 3:
        return ()
    n = len(folds)
    held = numbers[: 3 if n <= _FEW else 2 if n <= _SOME else 1].tolist()
    order = np.array(sorted(range(n), key=lambda at: hashing.of_text(f"curve\0{seed}\0{keys[at]}")), np.int64)

    def point(rows: NDArray[np.int64], said: NDArray[np.float64], items: int) -> CurvePoint:
        found = figures(head.task, train.truth[rows], said, train.groups[rows], draws=400, seed=seed)
        score = found[PRIMARY[head.task]]
        return CurvePoint(items=items, score=score.value, low=score.low, high=score.high)

    def fitted(share: float) -> CurvePoint | None:
        rows, said, items = [], [], 0
        for number in held:
            part = np.sort(_part(train.truth, order[folds[order] != number], share, head))
            if not _enough(train.truth[part], folds[part], head):
                return None
            own = np.flatnonzero(folds == number)
            try:
                found = fit(
                    train.vectors[part], train.truth[part], head.classes, folds[part], task=head.task, kind=head.kind,
                    weights=weights, groups=train.groups[part], seed=seed, torch=torch,
                ).head  # fmt: skip
            except FeatstoreError:  # too few items for this kind
                return None
            rows.append(own)
            said.append(output(found, train.vectors[own]))
            items += len(part)
        return point(np.concatenate(rows), np.concatenate(said), items // len(held))

    points: list[CurvePoint] = []
    for share in _SHARES:
        sizes = [len(_part(train.truth, order[folds[order] != number], share, head)) for number in held]
        smaller = all(size < 0.75 * (n - (folds == number).sum()) for size, number in zip(sizes, held, strict=True))
        if not smaller or (points and sum(sizes) // len(held) < 1.2 * points[-1].items):
            continue  # classes of a few items cannot be made smaller
        progress(f"learning curve: {share:.0%} of the training items")
        reached = fitted(share)
        if reached is not None:
            points.append(reached)
    if n <= _FEW:
        progress("learning curve: all training items")
        reached = fitted(1.0)
        if reached is not None:
            return (*points, reached)
    last = np.flatnonzero(np.isin(folds, held))
    points.append(point(last, unseen[last], round(n - len(last) / len(held))))
    return tuple(points)


def _part(truth: NDArray[Any], rest: NDArray[np.int64], share: float, head: Head) -> NDArray[np.int64]:
    if head.task != "classification":
        return rest[: max(1, round(share * len(rest)))]
    by_class = rest[np.argsort(truth[rest], kind="stable")]
    label = truth[by_class]
    first, last = np.searchsorted(label, label), np.searchsorted(label, label, "right")
    kept = np.arange(len(label)) - first < np.maximum(2, np.rint(share * (last - first)))
    return np.asarray(by_class[kept], np.int64)


def _enough(truth: NDArray[Any], folds: NDArray[np.int64], head: Head) -> bool:
    if len(np.unique(folds)) < 2:
        return False
    if head.task == "classification":
        return len(np.unique(truth)) > 1
    return len(truth) >= 10 and bool(np.any(truth != truth[:1]))
