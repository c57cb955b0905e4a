"""Fitting a head: every kind tried on items it has not seen, the best one fitted to all.

A kind's score is its out-of-fold log-loss at the temperature that suits it best (the root of the mean squared error
for regression): it rewards probabilities that can be relied on, and tells close kinds apart on fewer items than the
accuracy does. The lowest is taken, of equal ones the simplest. A heavy kind (knn keeps all its vectors, the torch
kinds are fitted by chance) is taken only where it is better than the best light one by more than one standard error
of the difference.

Source: Breiman et al., Classification and Regression Trees (1984), section 3.4.3, for the one standard error.
"""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from featstore.errors import UsageError
from featstore.heads.blocks import working
from featstore.heads.calibration import losses, probabilities, temperature
from featstore.heads.head import Head
from featstore.heads.kinds import LeftOut, Problem, Progress, Tried, candidate, kinds_of
from featstore.heads.threads import one_thread
from featstore.records import CandidateFigures, HeadKind, HeadTask

if TYPE_CHECKING:
    from featstore.settings import TorchSettings

__all__ = ["MLP_FROM", "Fitted", "fit", "weigh"]

MLP_FROM = 2_000
"""Training items from which on ``auto`` tries torch-mlp: with fewer it has nothing to learn that a line has not."""

# Items times classes up to which it is tried.
_MLP_UP_TO = 10_000_000

# What is taken where it is as good as any: small, and fitted to the one optimum there is.
_LIGHT: tuple[HeadKind, ...] = ("majority", "prototypes", "ridge", "logistic")


@dataclass(frozen=True, eq=False)
class Fitted:
    """A fitted head and how it was chosen.

    Attributes:
        head: Calibrated: its temperature was fitted on ``out_of_fold``.
        candidates: Every kind that was tried or left out, from the simplest on.
        out_of_fold: (n, c) logits, before the temperature, of heads that had not seen the item's fold.
        others: Fits the other kinds that were tried to all items, each with its own temperature.
    """

    head: Head
    candidates: tuple[CandidateFigures, ...]
    out_of_fold: NDArray[np.floating]
    others: Mapping[HeadKind, Callable[[], Head]]


def fit(
    vectors: NDArray[np.float32],
    truth: NDArray[Any],
    classes: tuple[str, ...],
    folds: NDArray[np.int64],
    *,
    task: HeadTask = "classification",
    kind: HeadKind | Literal["auto"] = "auto",
    weights: str | None = None,
    groups: NDArray[np.int64] | None = None,
    seed: int = 0,
    torch: TorchSettings | None = None,
    progress: Progress = lambda _: None,
) -> Fitted:
    """Fits the best head of a kind, or of all kinds, to labelled vectors.

    Args:
        vectors: (n, d) float32, in memory or memory-mapped.
        truth: Classification (n,) int64 class numbers; multilabel (n, c) bool; regression (n,) float64.
        classes: The classes in order; none for regression.
        folds: (n,) int64 from 0: what belongs together is in one fold.
        task: What is predicted.
        kind: ``auto`` tries all but torch-linear, and torch-mlp from 2,000 items on.
        weights: ``balanced`` makes every class count as much as any other.
        groups: (n,) int64: what belongs together, for the standard errors; by default every item for itself.
        seed: Of everything drawn.
        torch: What the torch kinds are told.
        progress: Told in a few words what is being done.

    Raises:
        UsageError: There is a single class or fold, a value is not finite, the arrays do not belong together, or the
            kind asked for does not fit them.
    """
    balanced = weigh(weights, task)
    problem = Problem(
        task=task,
        vectors=vectors,
        truth=truth,
        classes=classes,
        folds=folds,
        groups=np.arange(len(truth)) if groups is None else groups,
        balanced=balanced,
        seed=seed,
        torch=torch,
        patient=kind != "auto",
        progress=progress,
    )
    _check(problem)
    with working() as workers:
        problem = replace(problem, workers=workers)
        return _best(problem, kind)


def weigh(weights: str | None, task: HeadTask) -> bool:
    """Whether every class counts as much as any other.

    Raises:
        UsageError: There are no such class weights, or no classes.
    """
    if weights not in (None, "balanced"):
        raise UsageError(f"class weights are '{weights}'; they can be 'balanced'.")
    if weights is not None and task == "regression":
        raise UsageError(
            f"class weights are '{weights}', but numbers have no classes to weigh.", hint="Leave out --class-weights."
        )
    return weights is not None


def _best(problem: Problem, kind: HeadKind | Literal["auto"]) -> Fitted:
    found: dict[HeadKind, _Scored] = {}
    figures = []
    for name in kinds_of(problem.task) if kind == "auto" else (kind,):
        if kind == "auto" and name == "torch-linear":
            continue  # the same model as logistic, fitted less exactly
        started = time.monotonic()
        reason = _too_early(problem, name) if kind == "auto" else None
        tried = LeftOut(reason) if reason else candidate(problem.task, name)(problem)
        seconds = time.monotonic() - started
        if isinstance(tried, LeftOut):
            if kind != "auto":
                raise UsageError(f"a head of kind '{name}' cannot be fitted here: {tried.reason}.")
            left_out = tried.reason
            figures.append(
                CandidateFigures(
                    kind=name, input="", settings={}, score=None, error=None, seconds=seconds, left_out=left_out
                )
            )
            continue
        found[name] = scored = _Scored.of(problem, tried)
        score, error = scored.figures(problem)
        figures.append(
            CandidateFigures(
                kind=name, input=tried.input, settings=tried.settings, score=score, error=error, seconds=seconds
            )
        )
        _forget(problem, found)
    if not found:
        raise UsageError(
            "no kind of head fits these items: " + "; ".join(f"{each.kind}: {each.left_out}" for each in figures),
            hint="Ask for one with --kind.",
        )
    chosen = _choose(problem, found)
    problem.progress(f"{chosen}: fit to all {problem.items:,} items")
    best = found[chosen]
    logits = best.tried.out_of_fold
    if best.tried.complete is not None:
        logits = best.tried.complete()
        best = best.calibrated(problem, np.arange(problem.items), logits)
    others = {name: partial(_later, problem, each) for name, each in found.items() if name != chosen}
    return Fitted(best.head(), tuple(figures), logits, others)


def _later(problem: Problem, scored: _Scored) -> Head:
    """A kind fitted to all items after the others are done: as then, and with no threads left behind."""
    with one_thread():
        try:
            return scored.head()
        finally:
            problem.workers.close()


@dataclass(frozen=True, eq=False)
class _Scored:
    """A kind that was tried: what it lost on each item."""

    tried: Tried
    temperature: float
    thresholds: NDArray[np.float64] | None
    rows: NDArray[np.int64]
    loss: NDArray[np.float64]

    @classmethod
    def of(cls, problem: Problem, tried: Tried) -> _Scored:
        rows = np.arange(problem.items) if tried.rows is None else tried.rows
        truth = problem.truth[rows]
        found = _temperature(problem, rows, tried.out_of_fold)
        loss = losses(problem.task, tried.out_of_fold, truth, found)
        return cls(tried, found, _thresholds(problem, rows, tried.out_of_fold, found), rows, loss)

    def calibrated(self, problem: Problem, rows: NDArray[np.int64], logits: NDArray[np.floating]) -> _Scored:
        """The same with the temperature and thresholds that suit the logits of more unseen items."""
        found = _temperature(problem, rows, logits)
        return replace(self, temperature=found, thresholds=_thresholds(problem, rows, logits, found))

    def head(self) -> Head:
        """The kind fitted to all items, calibrated."""
        head = self.tried.refit()
        arrays = head.arrays if self.thresholds is None else {**head.arrays, "thresholds": self.thresholds}
        return replace(head, arrays=arrays, settings={**head.settings, "temperature": self.temperature})

    def figures(self, problem: Problem) -> tuple[float, float]:
        """The score and its standard error."""
        mean, error = _mean(problem, self.rows, self.loss)
        if problem.task == "regression":
            root = float(np.sqrt(mean))
            return root, error / (2 * root) if root > 0 else 0.0
        return mean, error


def _temperature(problem: Problem, rows: NDArray[np.int64], logits: NDArray[np.floating]) -> float:
    """The best temperature; 1, which changes nothing, where the best is not better by more than one standard error."""
    truth = problem.truth[rows]
    found = temperature(problem.task, logits, truth)
    gains = losses(problem.task, logits, truth) - losses(problem.task, logits, truth, found)
    gain, error = _mean(problem, rows, gains)
    return found if gain > error else 1.0


def _thresholds(
    problem: Problem, rows: NDArray[np.int64], logits: NDArray[np.floating], found: float
) -> NDArray[np.float64] | None:
    if problem.task != "multilabel":
        return None
    from featstore.heads.multilabel import thresholds

    return thresholds(probabilities(problem.task, logits, found), problem.truth[rows])


def _choose(problem: Problem, found: dict[HeadKind, _Scored]) -> HeadKind:
    light = _lowest(problem, found, [name for name in found if name in _LIGHT])
    heavy = [name for name in found if name not in _LIGHT]
    if light is None:
        taken = _lowest(problem, found, heavy)
        assert taken is not None
        return taken
    better = [name for name in heavy if _clearly_better(problem, found[name], found[light])]
    return _lowest(problem, found, better) or light


def _lowest(problem: Problem, found: dict[HeadKind, _Scored], names: list[HeadKind]) -> HeadKind | None:
    scored = [(found[name].figures(problem)[0], at) for at, name in enumerate(names)]
    return names[min(scored)[1]] if scored else None


def _forget(problem: Problem, found: dict[HeadKind, _Scored]) -> None:
    """Of the light kinds only the best can still be taken: the others' predictions are let go."""
    light = [name for name in found if name in _LIGHT]
    kept = _lowest(problem, found, light)
    for name in light:
        if name != kept:
            tried = replace(found[name].tried, out_of_fold=np.empty((0, problem.outputs)), complete=None)
            found[name] = replace(found[name], tried=tried)


def _clearly_better(problem: Problem, heavy: _Scored, light: _Scored) -> bool:
    """By more than one standard error, on the items that both were judged by."""
    rows, one, other = np.intersect1d(heavy.rows, light.rows, assume_unique=True, return_indices=True)
    if not len(rows):
        return False
    gain, error = _mean(problem, rows, light.loss[other] - heavy.loss[one])
    return gain > error


def _mean(problem: Problem, rows: NDArray[np.int64], values: NDArray[np.float64]) -> tuple[float, float]:
    """A mean over items and its standard error, whole groups at a time."""
    share = problem.weights(rows)
    share = share.mean(axis=1) if share.ndim > 1 else share
    share = share / share.sum()
    mean = float(share @ values)
    _, at = np.unique(problem.groups[rows], return_inverse=True)
    sums = np.bincount(at, share * (values - mean))
    count = len(sums)
    return mean, float(np.sqrt(np.square(sums).sum() * count / max(1, count - 1)))


def _too_early(problem: Problem, kind: HeadKind) -> str | None:
    if kind == "torch-mlp" and problem.items < MLP_FROM:
        return f"{problem.items:,} training items; it is tried from {MLP_FROM:,} on"
    if kind == "torch-mlp" and problem.items * problem.outputs > _MLP_UP_TO:
        return f"{problem.items:,} items of {problem.outputs:,} classes would take too long"
    if kind.startswith("torch") and importlib.util.find_spec("torch") is None:
        return "torch is not installed"
    return None


def _check(problem: Problem) -> None:
    n, lengths = problem.items, {len(problem.vectors), len(problem.folds), len(problem.groups)}
    if problem.vectors.ndim != 2 or lengths != {n}:
        raise UsageError(
            f"vectors of shape {problem.vectors.shape}, {n:,} true values, {len(problem.folds):,} folds and "
            f"{len(problem.groups):,} groups do not belong together."
        )
    if problem.task == "regression":
        bad = np.flatnonzero(~np.isfinite(problem.truth)) if n else np.empty(0, np.int64)
        if len(bad):
            raise UsageError(f"the value to learn of row {int(bad[0]):,} is not finite (NaN or infinite).")
        if n and np.ptp(problem.truth) == 0:
            raise UsageError(f"all {n:,} values to learn are {float(problem.truth[0]):g}; there is nothing to learn.")
    elif problem.task == "classification":
        present = np.unique(problem.truth)
        if len(present) < 2:
            which = f"'{problem.classes[int(present[0])]}'" if len(present) else "none"
            raise UsageError(
                f"all {n:,} items are of one class, {which}; a head needs two at least.",
                hint="Label items of another class, or name another column.",
            )
        if present[0] < 0 or present[-1] >= len(problem.classes):
            raise UsageError(f"class numbers go to {int(present[-1])}, but there are {len(problem.classes)} classes.")
    if len(np.unique(problem.folds)) < 2:
        raise UsageError(
            f"all {n:,} items are in one fold, so none can be predicted by a head that has not seen it.",
            hint="Label more items that do not belong together.",
        )
