"""What to do next, in plain words: more labels, another backbone, fine-tuning, or nothing."""

from __future__ import annotations

import numpy as np

from featstore.records import BaselineFigures, CurvePoint, Estimate, HeadTask
from featstore.training.measuring import PRIMARY

__all__ = ["advise"]

# Below so many labels a network that is trained itself forgets more than it learns.
# Source: Kumar et al., Fine-tuning can distort pretrained features (2022), and the practice it started.
_FINE_TUNING_FROM = 1_000

# With fewer test items an interval of the accuracy is some 20 points wide.
_FEW_TESTED = 50

# Points of the main figure that are worth the work of labelling twice as much.
_WORTH = 0.005
_ENOUGH = 0.99


def advise(
    task: HeadTask,
    n_train: int,
    n_test: int,
    curve: tuple[CurvePoint, ...],
    metrics: dict[str, Estimate],
    training: dict[str, Estimate],
    baselines: dict[str, BaselineFigures],
) -> tuple[str, ...]:
    """Says from the learning curve and the baselines what would help, the most helpful first.

    Args:
        task: What is predicted.
        n_train: Items that were learned from.
        n_test: Items that were tested.
        curve: The learning curve.
        metrics: The figures on the test items.
        training: Those on the items learned.
        baselines: What something simple reaches.
    """
    name = PRIMARY[task]
    score, learnt = metrics[name], training[name]
    said = []
    if n_test < _FEW_TESTED:
        said.append(f"Label more items: {n_test:,} test items say little, whatever their figures are.")
    simple = {key: base.metrics[name].value for key, base in baselines.items() if key in ("majority", "text", "colour")}
    better = [key for key, value in simple.items() if value >= score.low]
    if better and n_test >= _FEW_TESTED:
        what = {"majority": "always saying the same", "text": "counting words", "colour": "colours alone"}
        said.append(
            f"Check the labels and the backbone: {' and '.join(what[key] for key in better)} does as well, within what "
            "chance allows."
        )
    gain = _gain(curve)
    if gain is not None and len(curve) >= 2:
        last, before = curve[-1], curve[-2]
        if n_test < _FEW_TESTED:
            pass
        elif score.value >= _ENOUGH and gain < _WORTH:
            said.append(f"Enough: {_shown(task, score.value)} {_word(task)}, and more labels would change little.")
        elif gain >= _WORTH:
            said.append(
                f"More labels would pay: from {before.items:,} to {last.items:,} items the {_word(task)} went from "
                f"{_shown(task, before.score)} to {_shown(task, last.score)}; twice as many would bring about "
                f"{_shown(task, min(1.0, last.score + gain))}."
            )
        else:
            said.append(
                f"More labels of the same kind would bring little: from {before.items:,} to {last.items:,} items the "
                f"{_word(task)} went from {_shown(task, before.score)} to {_shown(task, last.score)}."
            )
            if learnt.value - score.value < 0.02:
                said.append("Another backbone would: even the items it learned are not told apart better than this.")
            elif n_train >= _FINE_TUNING_FROM:
                said.append("Another backbone may, or fine-tuning this one.")
            else:
                said.append("Another backbone may.")
    if n_train < _FINE_TUNING_FROM and score.value < _ENOUGH:
        said.append(f"With {n_train:,} labels stay with frozen features; fine-tuning starts to pay from about 1,000.")
    return tuple(said)


def _gain(curve: tuple[CurvePoint, ...]) -> float | None:
    """What the next doubling would bring: the error falls as a power of the items, fitted to the last points.

    Source: Hestness et al., Deep learning scaling is predictable, empirically (2017).
    """
    points = curve[-4:]
    if len({point.items for point in points}) < 2:
        return None
    items = np.log2([point.items for point in points])
    error = np.log2([max(1e-4, 1 - point.score) for point in points])
    slope = float(np.polyfit(items, error, 1)[0])
    left = max(0.0, 1 - points[-1].score)
    return left * (1 - 2 ** min(0.0, slope))


def _word(task: HeadTask) -> str:
    return {"classification": "accuracy", "multilabel": "mAP", "regression": "R²"}[task]


def _shown(task: HeadTask, value: float) -> str:
    return f"{value:.1%}" if task != "regression" else f"{value:.3f}"
