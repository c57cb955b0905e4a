"""How much of what exact search finds an index finds, with the settings that are enough for it."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import numpy as np
from numpy.typing import NDArray

from featstore import neighbours
from featstore.neighbours import Recipe, VectorIndex
from featstore.records import IndexRecall

if TYPE_CHECKING:
    from featstore.index.questions import Exam
    from featstore.index.view import RowView
    from featstore.records import IndexRequest

__all__ = ["described", "examined", "judged"]


def judged(
    index: VectorIndex | RowView,
    recipe: Recipe,
    exam: Exam | None,
    vectors: NDArray[np.float32],
    request: IndexRequest,
    version: int | None,
) -> tuple[Recipe, IndexRecall | None]:
    """Tunes an index on one set of questions and asks it the other.

    Args:
        index: The index; what it finds are rows of ``vectors``.
        recipe: How it was made.
        exam: The questions; None leaves the recipe as it is.
        vectors: (n, d) float32.
        request: What is asked for.
        version: The table's.

    Returns:
        The recipe with the settings that were chosen, and what was found with them.
    """
    if exam is None:
        return recipe, None
    if index.settings:
        asked = exam.tuning
        whole = cast("VectorIndex", index)
        search, _ = neighbours.tune(whole, recipe, vectors, asked.queries, asked.truth, k=exam.k, recall=request.recall)
        recipe = Recipe(recipe.kind, recipe.factory, search)
    return recipe, examined(index, recipe, exam, vectors, version)


def examined(
    index: VectorIndex | RowView, recipe: Recipe, exam: Exam, vectors: NDArray[np.float32], version: int | None
) -> IndexRecall:
    """Asks an index the questions that it was not tuned on."""
    asked = exam.reporting
    whole = cast("VectorIndex", index)
    found = neighbours.measure(whole, recipe.search, asked.queries, asked.truth, k=exam.k, vectors=vectors)
    assert version is not None
    return IndexRecall(
        k=exam.k,
        recall=round(found.recall, 6),
        low=round(found.low, 6),
        high=round(found.high, 6),
        queries=len(asked.queries),
        tuned_on=len(exam.tuning.queries) if index.settings else 0,
        source=exam.source,
        version=version,
        queries_per_s_single=round(found.queries_per_s_single, 1),
        queries_per_s_batch=round(found.queries_per_s_batch, 1),
    )


def described(recipe: Recipe) -> str:
    """``IVF1024,Flat, nprobe 16``."""
    return ", ".join([recipe.factory, *(f"{name} {value}" for name, value in recipe.search.items())])
