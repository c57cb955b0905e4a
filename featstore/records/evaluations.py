"""How well a table answers queries with judgements."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from featstore.records.tables import TableVersion

__all__ = ["EvaluatedTable", "Evaluation", "QueryChange", "QueryDifference", "RankingOverlap", "Score"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """A mean over queries, and its 95 % interval by the bootstrap."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluatedTable:
    """One table of an ``eval``.

    ``metrics`` holds, for the ways ``exact`` and ``index``, each metric's score; ``index_difference`` is index minus
    exact on the same queries. Both are empty without judgements, as are the index's where there is none.
    ``judged_absent`` counts the relevant judgements whose item the table does not hold: they can only be missed.
    ``note`` is what the user should know of its index, or of its not being used.
    """

    table: TableVersion
    metrics: dict[str, dict[str, Score]]
    index_difference: dict[str, Score]
    judged_absent: int
    note: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class QueryDifference:
    """One query of two tables: its metric in each and the difference b - a, and what each found first."""

    query: str
    text: str
    a: float
    b: float
    difference: float
    first_a: tuple[str, ...]
    first_b: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class QueryChange:
    """One query: the share of hits that both rankings have, those only in the first and those only in the second."""

    query: str
    text: str
    overlap: float
    only_a: tuple[str, ...]
    only_b: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class RankingOverlap:
    """How many of the first ``k`` hits two rankings of the same queries share: of tables, or exact and index."""

    between: Literal["tables", "exact and index"]
    k: int
    share: Score
    changed_most: tuple[QueryChange, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """What ``eval`` measured on ``queries`` queries.

    With judgements these are the ones with at least one relevant judgement; ``unjudged`` queries have none and were
    not asked, ``without_text`` are judged, but not among the queries. ``difference`` is b - a by metric, over the
    same queries by exact search, and ``worst`` has the queries that lost most of ``worst_by``. ``overlap`` is of two
    tables or, for one, of exact search and its index. ``path`` is the file with each query's figures.
    """

    a: EvaluatedTable
    b: EvaluatedTable | None
    queries: int
    unjudged: int
    without_text: int
    judgements: int
    k: int
    difference: dict[str, Score]
    worst_by: str | None
    worst: tuple[QueryDifference, ...]
    overlap: RankingOverlap | None
    path: str | None
    seconds: float
