"""Making an index that finds enough, anew or from the one that is there."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from featstore import neighbours
from featstore.errors import GateError
from featstore.index import questions
from featstore.index.judging import described, examined, judged
from featstore.index.questions import Exam, Questions
from featstore.index.view import RowView
from featstore.neighbours import Recipe, VectorIndex

if TYPE_CHECKING:
    from featstore.extract.progress import Reporter
    from featstore.index.freshness import Alignment
    from featstore.records import IndexCard, IndexRecall, IndexRequest
    from featstore.tables import FeatureTable

__all__ = ["Made", "make", "update"]

# So many questions tell at first whether an index still finds enough; fewer new ones than these tell nothing.
_SOON, _TELLING = 200, 50


@dataclass(frozen=True)
class Made:
    """An index in memory, and what is known of it.

    ``rows`` has the row of each label, -1 for items that have left. ``build_seconds`` and ``built_items`` are None
    where it was not built anew, ``measured`` where nothing could be asked.
    """

    index: VectorIndex
    recipe: Recipe
    rows: NDArray[np.int64]
    measured: IndexRecall | None
    build_seconds: float | None = None
    built_items: int | None = None


def make(
    features: FeatureTable,
    vectors: NDArray[np.float32],
    request: IndexRequest,
    queries: NDArray[np.float32] | None,
    reporter: Reporter,
) -> Made:
    """Builds the first kind of index that finds enough; ``flat``, which finds all, where nothing else does.

    Args:
        features: The table.
        vectors: (n, d) float32, those of ``features.matrix()``; put into another order here.
        request: What is asked for.
        queries: (q, d) float32, what will be asked; by default items of the table.
        reporter: Told of progress.

    Raises:
        UsageError: What is asked for cannot be.
        GateError: None of those that may be tried finds enough.
    """
    n, d = vectors.shape
    recipes = neighbours.recipes(n, d, kind=request.kind, factory=request.factory, memory=request.memory)
    reporter.stage("comparing exactly")
    rows, first, exam = _asked(features, vectors, queries)
    tried: list[tuple[float, str]] = []
    for recipe in recipes:
        name = f"building {recipe.factory}"
        reporter.stage(name, n)
        began = time.monotonic()
        index = VectorIndex.build(
            vectors[:first],
            recipe,
            progress=lambda done, _, name=name: reporter.at(name, done, n),  # type: ignore[misc]
        )
        spent = time.monotonic() - began
        reporter.stage(f"tuning {recipe.factory}")
        recipe, measured = judged(index, recipe, exam, vectors[:first], request, features.version)
        if measured is None or recipe.kind == "flat" or measured.recall >= request.recall:
            began = time.monotonic()
            index.add(vectors[first:])
            seconds = round(spent + time.monotonic() - began, 3)
            return Made(index, recipe, rows, measured, seconds, n)
        tried.append((measured.recall, described(recipe)))
        reporter.message(f"{described(recipe)} finds {measured.recall:.3f} of the {measured.k} nearest, too few")
    best, what = max(tried)
    raise GateError(
        f"no index of '{features.name}' that may be tried finds {request.recall} of the nearest: the best is {what} "
        f"with {best:.3f}. Nothing was changed.",
        hint="Leave out --kind and --factory, allow more --memory, or ask for a lower --recall.",
        context={"best_recall": best, "recall": request.recall},
    )


def update(
    index: VectorIndex,
    card: IndexCard,
    alignment: Alignment,
    features: FeatureTable,
    vectors: NDArray[np.float32],
    request: IndexRequest,
    queries: NDArray[np.float32] | None,
) -> Made | str:
    """Adds what an index lacks, asks it for some of that first, and tunes it again where it does not find enough.

    Args:
        index: The index; what is mapped of it is read into memory.
        card: Its card.
        alignment: How it fits ``features``.
        features: The version to bring it up to.
        vectors: (n, d) float32, that version's.
        request: What is asked for.
        queries: What will be asked; the items that are added by default.

    Returns:
        The index, or in words how little of what is asked for it can find.
    """
    rows = np.arange(card.items) if alignment.rows is None else alignment.rows
    recipe, measured = Recipe(card.kind, card.factory, card.search), card.measured
    late, exam = _late(features, vectors, alignment.new, queries)
    early = np.setdiff1d(alignment.new, late, assume_unique=True)
    index.add(vectors[early], more=len(late))
    rows = np.concatenate([rows, early])
    view = RowView(index, rows, exact=recipe.kind == "flat")
    soon = exam(_SOON)
    if soon is not None:
        # Settings stay as they were tuned for as long as they are good enough.
        tuned = 0 if measured is None else measured.tuned_on
        measured = replace(examined(view, recipe, soon, vectors, features.version), tuned_on=tuned)
        if measured.recall < request.recall and recipe.kind != "flat":
            recipe, measured = judged(view, recipe, exam(None), vectors, request, features.version)
    if measured is not None and measured.recall < request.recall and recipe.kind != "flat":
        return f"it finds {measured.recall:.3f} of the nearest, {request.recall} is asked for"
    index.add(vectors[late])
    return Made(index, recipe, np.concatenate([rows, late]), measured)


def _late(
    features: FeatureTable,
    vectors: NDArray[np.float32],
    new: NDArray[np.int64],
    queries: NDArray[np.float32] | None,
) -> tuple[NDArray[np.int64], Callable[[int | None], Exam | None]]:
    """The new rows to add last, and the exam to pass before: so many questions of it, and none to tune with, or all.

    There is none where too few are new to tell anything; the figures of an earlier version stay then.
    """
    if queries is not None:
        return new[:0], lambda _: questions.given(queries, vectors)
    tuning, reporting, late = questions.held_out(features, new)
    if len(reporting) < _TELLING:
        return new[:0], lambda _: None
    among = np.ones(len(vectors), np.bool_)
    among[late] = False
    return late, lambda most: _exam(vectors, tuning if most is None else tuning[:0], reporting[:most], among)


def _asked(
    features: FeatureTable, vectors: NDArray[np.float32], queries: NDArray[np.float32] | None
) -> tuple[NDArray[np.int64], int, Exam | None]:
    """The row behind each place of ``vectors``, which are reordered; how many come first; the exam about those."""
    n = len(vectors)
    rows = np.arange(n)
    if queries is not None:
        return rows, n, questions.given(queries, vectors)
    tuning, reporting, held = questions.held_out(features)
    first = n - len(held)
    # Those to be held out change places with the last ones: the others can be added as one stretch without a copy.
    out = held[held < first]
    back = np.setdiff1d(np.arange(first, n), held, assume_unique=True)
    rows[out], rows[back] = back, out
    vectors[out], vectors[back] = vectors[back], vectors[out]
    place = np.empty(n, np.int64)
    place[rows] = np.arange(n)
    among = np.zeros(n, np.bool_)
    among[:first] = True
    return rows, first, _exam(vectors, place[tuning], place[reporting], among)


def _exam(
    vectors: NDArray[np.float32], tuning: NDArray[np.int64], reporting: NDArray[np.int64], among: NDArray[np.bool_]
) -> Exam | None:
    k = min(questions.K, int(among.sum()))
    if not k or not len(reporting):
        return None
    sets = [
        Questions(vectors[asked], neighbours.exact(vectors[asked], vectors, k, allowed=among)[0])
        for asked in (tuning, reporting)
    ]
    return Exam(k, "items", *sets)
