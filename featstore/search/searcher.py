"""One opened table that answers: model, index and columns are loaded when they are first needed, and kept."""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from featstore.errors import ItemError, NotFoundError, UsageError
from featstore.layout import Layout
from featstore.records import ModelCard
from featstore.search import files, result, vector_files
from featstore.search.columns import Columns
from featstore.search.picking import Hits, pick
from featstore.search.queries import Query, gather, of_vectors
from featstore.search.routes import Routes
from featstore.search.vectors import TableVectors
from featstore.tables import FeatureTable, past

if TYPE_CHECKING:
    import polars as pl
    import pyarrow as pa

__all__ = ["Answer", "Searcher"]

# Items that are nobody's hits: up to so many it is cheaper to look a little further than to ask for the others only.
_PASSED_OVER = 100


@dataclass(frozen=True)
class Answer:
    """The hits of some queries.

    Attributes:
        queries: Those that were answered.
        hits: For each the rows of its hits, best first, and their cosines.
        refused: Those that could not be, and why.
        how: How was searched: ``exact``, or the index's kind.
        notes: What the user should know of it.
        seconds: How long it took.
    """

    queries: tuple[Query, ...]
    hits: tuple[Hits, ...]
    refused: tuple[tuple[Query, ItemError], ...]
    how: str
    notes: tuple[str, ...]
    seconds: float


class Searcher:
    """Searches one version of a table; the second question is answered in milliseconds. Safe in threads.

    Made by ``Table.searcher()``.

    Args:
        layout: The store.
        table: The version.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``, for queries that a model has to encode.
        progress: Told where a model has to be brought into the store.
        model: What encodes the queries where it is not the table's own model: a model of the store, from whose space a
            bridge leads to the table's. Queries get its prompt for queries; vectors are taken to be its own.

    Raises:
        NotFoundError: The store has no such model, or the version is gone.
        SpaceMismatchError: Nothing leads from the model to the table; both spaces are named.
    """

    def __init__(
        self,
        layout: Layout,
        table: FeatureTable,
        *,
        device: str | None = None,
        progress: Callable[[str], None] = lambda _: None,
        model: str | None = None,
    ) -> None:
        past.check_kept(layout, table)
        self._layout = layout
        self.table = table
        self.columns = Columns(table)
        self._routes = Routes(layout, table, device, progress, model)
        self._warned: set[str] = set()

    def search(
        self,
        *,
        text: str | Sequence[str] | None = None,
        image: Any = None,
        id: str | Sequence[str] | None = None,
        vectors: Any = None,
        queries: str | os.PathLike[str] | None = None,
        k: int = 10,
        where: str | None = None,
        not_id: str | Sequence[str] = (),
        min_score: float | None = None,
        group_by: str | None = None,
        exact: bool = False,
    ) -> pl.DataFrame:
        """The items nearest to each query, by cosine; see ``Table.search``."""
        import polars as pl

        asked = self.gather(text=text, image=image, id=id, vectors=vectors, queries=queries)
        answer = self.answer(
            asked, k=k, where=where, not_id=not_id, min_score=min_score, group_by=group_by, exact=exact
        )
        for query, error in answer.refused:
            warnings.warn(f"{query.name}: {error.message}", UserWarning, stacklevel=3)
        for note in set(answer.notes) - self._warned:
            self._warned.add(note)
            warnings.warn(note, UserWarning, stacklevel=3)
        found = pl.from_arrow(self.hits(answer))
        assert isinstance(found, pl.DataFrame)
        return found

    def gather(
        self,
        *,
        text: str | Sequence[str] | None = None,
        image: Any = None,
        id: str | Sequence[str] | None = None,
        vectors: Any = None,
        queries: str | os.PathLike[str] | None = None,
    ) -> list[Query]:
        """Takes what is asked apart; reads files of vectors and of queries.

        Raises:
            NotFoundError: There is no such file.
            UsageError: A file or value holds no queries, or nothing is asked.
            SpaceMismatchError: A file of vectors says that they are of another space.
        """
        found = gather(text=text, image=image, id=id)
        if isinstance(vectors, str | os.PathLike):
            read, origin = vector_files.read(vectors)
            self._routes.check_origin(origin, Path(vectors))
            found += read
        elif vectors is not None:
            found += of_vectors(vectors)
        if queries is not None:
            found += files.read(queries, self.asking.modality)
        return found

    def answer(
        self,
        asked: Sequence[Query],
        *,
        k: int = 10,
        where: str | None = None,
        not_id: str | Sequence[str] = (),
        min_score: float | None = None,
        group_by: str | None = None,
        exact: bool = False,
    ) -> Answer:
        """Answers queries; the hits are rows of the table, whose columns are read by ``hits``.

        Args:
            asked: From ``gather``.
            k: How many hits for each, at most.
            where: A Polars SQL expression that the hits fulfil.
            not_id: Items that are no hits.
            min_score: The least cosine of a hit.
            group_by: A column of whose values only the best item is given.
            exact: Pass over the index.

        Raises:
            NotFoundError: The table is empty, or a column or id is not there.
            UsageError: Nothing was asked, every query was refused, or a number or expression cannot be used.
            SpaceMismatchError: A vector has another length than the table's.
            IntegrityError: The table or a model is damaged.
        """
        began = time.perf_counter()
        self._check(asked, k, min_score)
        grouping = self.columns.grouping(group_by)
        allowed = None if where is None else self.columns.allowed(where)
        most = len(self.table) if allowed is None else int(allowed.sum())
        own = self._own(asked)
        without = self._without([not_id] if isinstance(not_id, str) else list(not_id))
        if len(without) > _PASSED_OVER:
            allowed = np.ones(len(self.table), np.bool_) if allowed is None else allowed.copy()
            allowed[without] = False
            most, without = int(allowed.sum()), without[:0]
        hits: dict[int, Hits] = {}
        refused: dict[int, ItemError] = {}
        notes: dict[str, None] = {}
        how = ""
        for part in self._routes.parts(asked, own):
            refused |= part.errors
            if not len(part.numbers):
                continue
            numbers, made, space = part.numbers, part.vectors, part.space

            def lookup(
                open_: NDArray[np.int64], wanted: int, made: Any = made, space: TableVectors = space
            ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
                return space.nearest(made[open_], wanted, allowed=allowed, exact=exact)

            found = pick(
                lookup,
                own[numbers],
                k,
                most=most,
                without=set(without.tolist()),
                groups=None
                if grouping is None
                else lambda rows: self.columns.groups(rows, grouping, chunks=group_by is None),
                least=min_score,
            )
            hits |= dict(zip(numbers.tolist(), found, strict=True))
            index = None if exact else space.index
            how = how or ("exact" if index is None else index.card.kind)
            notes |= dict.fromkeys(self._notes(space, part.note, exact))
        if not hits:
            first, error = min(refused.items())
            raise UsageError(
                f"{asked[first].name}: {error.message}"
                + (f" None of the {len(asked):,} queries can be used." if len(asked) > 1 else "")
            )
        return Answer(
            queries=tuple(asked[at] for at in sorted(hits)),
            hits=tuple(hits[at] for at in sorted(hits)),
            refused=tuple((asked[at], refused[at]) for at in sorted(refused)),
            how=how,
            notes=tuple(notes),
            seconds=time.perf_counter() - began,
        )

    def hits(self, answer: Answer) -> pa.Table:
        """The hits with their columns: ``query``, ``rank``, ``item_id``, ``score`` and the metadata."""
        return result.tabulate(self.columns, [query.name for query in answer.queries], answer.hits)

    def save(
        self,
        answer: Answer,
        found: pa.Table | None = None,
        *,
        output: str | os.PathLike[str] | None = None,
        html: str | os.PathLike[str] | None = None,
        png: str | os.PathLike[str] | None = None,
    ) -> list[Path]:
        """Writes an answer into files; each appears when it is whole.

        Args:
            answer: What to write.
            found: Its hits, where the caller has them already.
            output: The hits with their columns: ``.parquet``, ``.csv`` or ``.json``.
            html: A sheet of thumbnails or of the beginnings of texts, one page without anything from outside.
            png: A sheet of thumbnails.

        Returns:
            The files.

        Raises:
            UsageError: A name or place cannot be, or pictures of a table of texts are asked for; nothing is written.
            StorageError: The disk refused.
        """
        from featstore.search import saving

        return saving.save(self._layout, self, answer, found, output=output, html=html, png=png)

    @property
    def card(self) -> ModelCard:
        """The card of the table's model.

        Raises:
            NotFoundError: The store has no such model; items and vectors are found without it.
        """
        return self._routes.card

    @property
    def asking(self) -> ModelCard:
        """The card of the model that texts, pictures and vectors are asked with: the table's own, or the one named."""
        return self._routes.asking

    # ── inside ────────────────────────────────────────────────────────────────────────────────

    def _check(self, asked: Sequence[Query], k: int, min_score: float | None) -> None:
        if not asked:
            raise UsageError(
                "nothing was asked.", hint="Give --image, --text, --id, --vectors or --queries; see --help."
            )
        if k < 1:
            raise UsageError(f"k is {k}; it must be at least 1.")
        if min_score is not None and not -1 <= min_score <= 1:
            raise UsageError(f"the least score is {min_score}; a cosine lies between -1 and 1.")
        if not len(self.table):
            raise NotFoundError(
                f"table '{self.table.name}' holds no items at version {self.table.version}: there is nothing to find."
            )

    def _own(self, asked: Sequence[Query]) -> NDArray[np.int64]:
        """The row of the table that each query is; -1 for all but ids."""
        own = np.full(len(asked), -1, np.int64)
        places = [at for at, query in enumerate(asked) if query.kind == "id"]
        if places:
            own[places] = self.table.find([str(asked[at].content) for at in places])
            lost = [asked[at].name for at in places if own[at] < 0]
            if lost:
                more = f" ({len(lost):,} such ids in all)" if len(lost) > 1 else ""
                raise NotFoundError(f"'{lost[0]}' is not in {self.table.name}{more}.", hint=_IDS)
        return own

    def _without(self, not_id: Sequence[str]) -> NDArray[np.int64]:
        rows = self.table.find(not_id) if not_id else np.zeros(0, np.int64)
        if (rows < 0).any():
            lost = not_id[int(np.flatnonzero(rows < 0)[0])]
            raise NotFoundError(f"--not-id: '{lost}' is not in {self.table.name}.", hint=_IDS)
        return rows

    def _notes(self, space: TableVectors, note: str | None, exact: bool) -> list[str]:
        found = [note] if note is not None else []
        if not exact and space.damage is not None:
            found.append(
                f"the index cannot be used, so the search was exact: {space.damage} "
                f"Make it anew: featstore index {self.table.name}"
            )
        index = None if exact else space.index
        if index is not None and index.note is not None:
            found.append(index.note)
        return found


_IDS = "Ids stand in the item_id column: featstore export NAME --columns item_id -o FILE.csv"
