"""Logistic regression: three inputs, a path of penalties, L-BFGS in float64.

Twelve penalties from 10⁻⁶ to 10⁵ are tried for every input, from the strongest on, each beginning where the last one
ended, then four between the best and its neighbours: those of DINOv2's 45. With many items that is done on a share of
them and of one fold: the best C of scikit-learn's kind moves little with their number.

Source: DINOv2, ``dinov2/eval/log_regression.py``: C over 10^linspace(−6, 5, 45), chosen on held-out items.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from featstore.heads.blocks import product
from featstore.heads.choosing import Judge, Sides, sides_for
from featstore.heads.head import Head
from featstore.heads.inputs import Input, linear_head, linear_inputs, rows_of
from featstore.heads.kinds import LeftOut, Problem, Tried
from featstore.heads.objective import Line, Objective
from featstore.heads.whitening import directions

__all__ = ["COARSE", "FINE", "logistic"]

COARSE = tuple(10.0**power for power in range(-6, 6))
"""The inverse strengths of the penalty that are tried first, scikit-learn's ``C``."""

FINE = tuple(10.0**power for power in (-0.5, -0.25, 0.25, 0.5))
"""Times the best of them, tried then."""

# Items times classes times values, the softmax counted as so many more: up to how much all folds take part in the
# choice (10 s on two cores), how much is enough, and from where on a fit takes minutes.
_SOFTMAX = 30
_WHOLE = 80_000_000
_SHARE = 60_000_000
_MANY = 4_000_000_000

# To choose by, and to keep: the share of the loss that a step still has to promise, and the most steps.
_ROUGH = (1e-6, 60)
_EXACT = (1e-9, 400)

# The path ends when two penalties in a row are worse than the best by this share.
_WORSE = 1.02


def logistic(problem: Problem) -> Tried | LeftOut:
    """Softmax regression, or for several labels one logistic regression each, with an L2 penalty."""
    each = (problem.dim + _SOFTMAX) * problem.outputs
    if problem.items * each > _MANY and not problem.patient:
        return LeftOut(
            f"{problem.items:,} items of {problem.dim:,} values and {problem.outputs:,} classes would take too long"
        )
    sides = sides_for(problem, whole=_WHOLE // each, share=_SHARE // each, least=max(2000, 3 * problem.outputs))
    best: _Point | None = None
    for name in linear_inputs(problem):
        problem.progress(f"logistic, {name} input: choosing the penalty")
        found = _Path(problem, sides, name).best()
        best = found if best is None or found.score < best.score else best
    assert best is not None
    name, c = best.name, best.c
    if sides.whole:
        logits = np.empty_like(best.logits)
        logits[sides.judged] = best.logits
    else:
        logits = _out_of_fold(problem, name, c)
    settings = {"C": c}

    def refit() -> Head:
        rows = np.arange(problem.items)
        line = _fit(problem, name, rows, c)
        return linear_head(problem, "logistic", name, *line, settings)

    return Tried(input=name, settings=settings, out_of_fold=logits, refit=refit)


@dataclass(frozen=True, eq=False)
class _Point:
    """A penalty: its score, and what it came from."""

    name: str
    c: float
    score: float
    logits: NDArray[np.floating]
    lines: tuple[Line, ...]


class _Path:
    """One input's fits over the penalties, all sides in step."""

    def __init__(self, problem: Problem, sides: Sides, name: str) -> None:
        self._problem, self._sides, self._name = problem, sides, name
        self._judge = Judge(problem, sides.judged)
        self._inputs = [Input.of(problem, name, rows) for rows, _ in sides.pairs]
        self._objectives = [
            _objective(problem, name, rows, found) for (rows, _), found in zip(sides.pairs, self._inputs, strict=True)
        ]

    def best(self) -> _Point:
        """The penalty with the lowest score; of equal ones the strongest."""
        lines: tuple[Line | None, ...] = (None,) * len(self._objectives)
        best: _Point | None = None
        worse = 0
        for c in COARSE:
            point = self._at(c, lines)
            lines = point.lines
            worse = worse + 1 if best is not None and point.score > _WORSE * best.score else 0
            if best is None or point.score < best.score:
                best = point
            if worse == 2:
                break
        assert best is not None
        middle = best
        for factor in FINE:
            point = self._at(middle.c * factor, middle.lines)
            best = point if point.score < best.score else best
        return best

    def _at(self, c: float, starts: tuple[Line | None, ...]) -> _Point:
        problem = self._problem
        gain, steps = _ROUGH
        lines, logits = [], []
        every = zip(self._objectives, self._inputs, self._sides.pairs, starts, strict=True)
        for objective, found, (_, held), start in every:
            line = objective.fit(directions(problem, self._name), c, start, gain=gain, steps=steps)
            lines.append(line)
            weights, bias = found.folded(line.weights, line.bias)
            logits.append(product(problem.workers, rows_of(problem, self._name, held), weights, bias))
        joined = np.concatenate(logits)
        return _Point(self._name, c, self._judge.score(joined), joined, tuple(lines))


def _objective(problem: Problem, name: str, rows: NDArray[np.int64], found: Input) -> Objective:
    return Objective(
        problem.workers,
        rows_of(problem, name, rows),
        problem.truth[rows],
        problem.weights(rows),
        problem.outputs,
        found.mean,
        found.factor,
    )


def _fit(
    problem: Problem, name: str, rows: NDArray[np.int64], c: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Weights and bias for the vectors themselves, fitted to some rows from nothing."""
    found = Input.of(problem, name, rows)
    gain, steps = _EXACT
    line = _objective(problem, name, rows, found).fit(directions(problem, name), c, None, gain=gain, steps=steps)
    return found.folded(line.weights, line.bias)


def _out_of_fold(problem: Problem, name: str, c: float) -> NDArray[np.floating]:
    logits: NDArray[np.floating] | None = None
    pairs = tuple(problem.sides())
    for number, (rows, held) in enumerate(pairs, 1):
        problem.progress(f"logistic: fold {number} of {len(pairs)}")
        weights, bias = _fit(problem, name, rows, c)
        predicted = product(problem.workers, rows_of(problem, name, held), weights, bias)
        if logits is None:
            logits = np.empty((problem.items, problem.outputs), predicted.dtype)
        logits[held] = predicted
    assert logits is not None
    return logits
