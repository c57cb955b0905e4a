"""What a table answers to queries, exactly and through its index."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from featstore.errors import ItemError, UsageError
from featstore.evaluate.metrics import CUT
from featstore.layout import Layout
from featstore.models import load_card
from featstore.search import Query, Searcher
from featstore.search.encoding import QueryEncoder
from featstore.search.searcher import Answer

__all__ = ["Found", "Rankings", "absent", "rank"]

Found = tuple[tuple[str, ...], ...]
"""For each query what was found, best first."""


@dataclass(frozen=True)
class Rankings:
    """The answers of one table to the same queries.

    Attributes:
        exact: For each query what was found by exact search, best first.
        index: The first ``CUT`` that the index finds when asked for no more; None where there is none that serves.
        deep: What it finds when asked for as many as exact search.
        note: What the user should know of it.
    """

    exact: Found
    index: Found | None
    deep: Found | None
    note: str | None


def rank(
    layout: Layout,
    searcher: Searcher,
    queries: Sequence[Query],
    k: int,
    group_by: str | None,
    *,
    device: str | None = None,
) -> Rankings:
    """Asks a table.

    An index looks further the more it is asked for, so its first hits are those of a search for these alone.

    An answer is called by its ``item_id``; a chunk by the text that it is of, and with ``group_by`` by the value of
    that column. Of each only the best is counted.

    Args:
        layout: The store.
        searcher: Of the table.
        queries: What is asked.
        k: How many answers to each, at least ``CUT``.
        group_by: The column whose values are judged; ``item_id`` for the chunks themselves.
        device: What encodes the queries.

    Raises:
        UsageError: A query cannot be encoded: left out, it would flatter or harm the figures.
        NotFoundError: The table is empty, or there is no such column.
        IntegrityError: The table or its model is damaged.
    """
    asked = _encoded(layout, searcher, queries, device)
    deep = searcher.answer(asked, k=k, group_by=group_by)
    _check(deep.refused)
    note = "; ".join(deep.notes) or None
    found = _named(searcher, deep, group_by)
    if deep.how == "exact":
        return Rankings(found, None, None, note)
    first = found if k == CUT else _named(searcher, searcher.answer(asked, k=CUT, group_by=group_by), group_by)
    exact = _named(searcher, searcher.answer(asked, k=k, group_by=group_by, exact=True), group_by)
    return Rankings(exact, first, found, note)


def absent(searcher: Searcher, judged: Iterable[str], group_by: str | None) -> set[str]:
    """Which of some judged names no item of the table has."""
    every = np.arange(len(searcher.table))
    wanted = set(judged)
    for start in range(0, len(every), 65_536):
        wanted.difference_update(_names(searcher, every[start : start + 65_536], group_by))
    return wanted


def _encoded(layout: Layout, searcher: Searcher, queries: Sequence[Query], device: str | None) -> Sequence[Query]:
    """The queries as vectors of the table's own model, so that none is encoded for each search anew.

    What another tower or a bridge leads to the table is left to the searcher.
    """
    card = load_card(layout, searcher.table.space_id)
    if any(query.kind != card.modality for query in queries):
        return queries
    vectors, errors = QueryEncoder(layout, device).encode(card, queries)
    _check([(queries[at], errors[at]) for at in sorted(errors)])
    return [Query(query.name, "vector", vector) for query, vector in zip(queries, vectors, strict=True)]


def _check(refused: Sequence[tuple[Query, ItemError]]) -> None:
    if refused:
        query, error = refused[0]
        more = f" {len(refused):,} such queries in all." if len(refused) > 1 else ""
        raise UsageError(
            f"the query '{query.name}' cannot be used: {error.message}{more}",
            hint="Mend it or take it out of the queries and judgements.",
        )


def _named(searcher: Searcher, answer: Answer, group_by: str | None) -> Found:
    rows = np.unique(np.concatenate([found for found, _ in answer.hits]))
    names = dict(zip(rows.tolist(), _names(searcher, rows, group_by), strict=True))
    return tuple(tuple(names[row] for row in found.tolist()) for found, _ in answer.hits)


def _names(searcher: Searcher, rows: NDArray[np.int64], group_by: str | None) -> list[str]:
    """What the judgements call these rows."""
    columns = searcher.columns
    items = [str(item) for item in columns.at(rows, ["item_id"])["item_id"].to_pylist()]
    grouping = columns.grouping(group_by)
    if grouping is None:
        return items
    groups = columns.groups(rows, grouping, chunks=group_by is None)
    return [item if group is None else str(group) for item, group in zip(items, groups, strict=True)]
