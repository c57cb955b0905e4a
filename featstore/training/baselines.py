"""What something simple reaches on the same test items: without it no figure says anything."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from featstore.errors import FeatstoreError, ItemError
from featstore.heads.fitting import Fitted, fit
from featstore.heads.head import Arrays, Head
from featstore.heads.metrics import figures
from featstore.heads.words import of_words
from featstore.inputs.images_decode import decode
from featstore.records import BaselineFigures, HeadKind, HeadTask
from featstore.training.measuring import Side, output

__all__ = ["baselines", "majority"]

_SIMPLE: dict[HeadTask, tuple[HeadKind, ...]] = {
    "classification": ("prototypes", "knn", "ridge"),
    "multilabel": ("prototypes", "knn", "ridge"),
    "regression": ("knn", "ridge"),
}
# Levels of each colour: 512 values say what colours a picture has, and nothing of what is where.
_LEVELS = 8

# Beyond so many items a baseline of words or colours is fitted to as many, drawn from them.
_MOST = 20_000


def baselines(
    fitted: Fitted,
    train: Side,
    test: Side,
    folds: NDArray[np.int64],
    *,
    previews: tuple[Mapping[str, bytes], list[str], list[str]] | None,
    modality: str,
    weights: str | None,
    seed: int,
    progress: Callable[[str], None],
) -> tuple[dict[str, BaselineFigures], list[str]]:
    """Fits and measures the simple ones: the most frequent class, prototypes, knn, ridge, words or colours.

    Args:
        fitted: The head, with the other kinds that were tried.
        train: What to learn from.
        test: What to measure on.
        folds: (n,) int64, the training items' folds.
        previews: Thumbnails or beginnings of texts by content, the contents of the training items and of the test
            items; None to leave words and colours out.
        modality: ``image`` or ``text``.
        weights: Class weights.
        seed: Of everything drawn.
        progress: Told in a few words what is being done.

    Returns:
        The figures by name, and what was left out and why.
    """
    head = fitted.head
    found = {"majority": majority(head, train)}
    notes = []
    for kind in _SIMPLE[head.task]:
        if kind == head.kind:
            found[kind] = head
            continue
        progress(f"baseline: {kind}")
        try:
            found[kind] = (
                fitted.others[kind]()
                if kind in fitted.others
                else fit(
                    train.vectors, train.truth, head.classes, folds,
                    task=head.task, kind=kind, weights=weights, groups=train.groups, seed=seed,
                ).head
            )  # fmt: skip
        except FeatstoreError as error:
            notes.append(f"the baseline {kind} is left out: {error.message}")
    said = {name: output(simple, test.vectors) for name, simple in found.items()}
    if previews is not None:
        name = "text" if modality == "text" else "colour"
        progress(f"baseline: {name}")
        other = _of_previews(head, train, test, folds, previews, modality, weights, seed)
        if isinstance(other, str):
            notes.append(f"the baseline {name} is left out: {other}")
        else:
            said[name] = other
    # Each name has its label thresholds: those of the simple head itself, or one half.
    return {
        name: BaselineFigures(
            name=name,
            metrics=figures(
                head.task,
                test.truth,
                values,
                test.groups,
                seed=seed,
                thresholds=found[name].arrays.get("thresholds") if name in found else None,
            ),
        )
        for name, values in said.items()
    }, notes


def majority(head: Head, train: Side) -> Head:
    """A head that looks at nothing: how frequent each class or label is, or the mean."""
    count = head.outputs
    if head.task == "regression":
        bias = np.array([train.truth.mean()])
    elif head.task == "multilabel":
        often = (train.truth.sum(axis=0) + 0.5) / (len(train.truth) + 1)
        bias = np.log(often) - np.log1p(-often)
    else:
        often = np.bincount(train.truth, minlength=count) + 0.5
        bias = np.log(often / often.sum())
    arrays: Arrays = {"weights": np.zeros((count, head.dim), np.float32), "bias": np.asarray(bias, np.float64)}
    return Head(head.task, "majority", head.classes, head.dim, "raw", arrays, {})


def _of_previews(
    head: Head,
    train: Side,
    test: Side,
    folds: NDArray[np.int64],
    previews: tuple[Mapping[str, bytes], list[str], list[str]],
    modality: str,
    weights: str | None,
    seed: int,
) -> NDArray[np.float64] | str:
    kept, learnt, tested = previews
    missing = sum(content not in kept for content in (*learnt, *tested))
    if missing:
        return f"{missing:,} items have no preview in the store"
    rows = np.arange(len(learnt))[:_MOST] if len(learnt) <= _MOST else _some(len(learnt), seed)
    part = Side(train.vectors[:0], train.truth[rows], train.groups[rows])
    try:
        if modality == "text":
            words = [kept[learnt[row]].decode("utf-8", "replace") for row in rows.tolist()]
            asked = [kept[content].decode("utf-8", "replace") for content in tested]
            return of_words(head.task, words, part.truth, len(head.classes), asked, weights=weights, seed=seed)
        colours = _histograms([kept[learnt[row]] for row in rows.tolist()])
        simple = fit(
            colours, part.truth, head.classes, folds[rows],
            task=head.task, kind="ridge" if head.task == "regression" else "logistic", weights=weights,
            groups=part.groups, seed=seed,
        ).head  # fmt: skip
        return output(simple, _histograms([kept[content] for content in tested]))
    except (FeatstoreError, ItemError) as error:
        return error.message if isinstance(error, FeatstoreError) else str(error)


def _some(count: int, seed: int) -> NDArray[np.int64]:
    return np.sort(np.random.Generator(np.random.PCG64(seed)).permutation(count)[:_MOST])


def _histograms(pictures: list[bytes]) -> NDArray[np.float32]:
    """(n, 512) float32: the square roots of the shares of a picture's pixels by colour; each of length 1."""
    found = np.empty((len(pictures), _LEVELS**3), np.float32)
    for at, content in enumerate(pictures):
        levels = decode(content).reshape(-1, 3).astype(np.int64) * _LEVELS // 256
        codes = (levels[:, 0] * _LEVELS + levels[:, 1]) * _LEVELS + levels[:, 2]
        found[at] = np.sqrt(np.bincount(codes, minlength=_LEVELS**3) / len(codes))
    return found
