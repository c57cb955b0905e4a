"""How far two rankings of the same queries agree, where nothing says which is right."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

from featstore.evaluate.intervals import scores
from featstore.records import QueryChange, RankingOverlap
from featstore.search import Query

__all__ = ["agreement", "text_of"]

_TEXT = 200


def agreement(
    queries: Sequence[Query],
    a: Sequence[Sequence[str]],
    b: Sequence[Sequence[str]],
    *,
    k: int,
    examples: int,
    between: Literal["tables", "exact and index"],
) -> RankingOverlap:
    """The share of the first k hits that both rankings have, whatever their order.

    Args:
        queries: What was asked.
        a: The first ranking of each query, best first.
        b: The second.
        k: How many hits of each; a query with fewer is measured by the longer of its two rankings.
        examples: How many of the queries that changed most to name.
        between: What the rankings are of.
    """
    pairs = [(tuple(one[:k]), tuple(other[:k])) for one, other in zip(a, b, strict=True)]
    shares = np.array([len(set(one) & set(other)) / max(len(one), len(other), 1) for one, other in pairs])
    changed = [at for at in np.argsort(shares, kind="stable").tolist() if shares[at] < 1][:examples]
    return RankingOverlap(
        between=between,
        k=k,
        share=scores(shares[:, None])[0],
        changed_most=tuple(
            QueryChange(
                query=queries[at].name,
                text=text_of(queries[at]),
                overlap=float(shares[at]),
                only_a=_but(*pairs[at]),
                only_b=_but(*pairs[at][::-1]),
            )
            for at in changed
        ),
    )


def text_of(query: Query) -> str:
    """What a person reads of a query: the beginning of its text, or its file."""
    text = " ".join(str(query.content).split()) if query.kind != "vector" else ""
    return text[:_TEXT]


def _but(these: Sequence[str], those: Sequence[str]) -> tuple[str, ...]:
    return tuple(name for name in these if name not in set(those))
