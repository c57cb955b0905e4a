"""A table as its users have it: each method one operation of the rooms below, which import what they need."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from featstore.layout import Layout

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    import numpy as np
    import polars as pl
    import pyarrow as pa
    from numpy.typing import NDArray

    from featstore.extract.progress import Reporter
    from featstore.records import (
        CommitInfo,
        DuplicateReport,
        ExportResult,
        ExtractResult,
        ModelCard,
        TableSummary,
    )
    from featstore.search import Searcher
    from featstore.tables import FeatureTable

__all__ = ["Table"]


class Table:
    """One source embedded in one space, at one version.

    Attributes:
        features: The table itself.
        last_run: What the extract that returned this object did; None for an opened table.
    """

    def __init__(self, layout: Layout, features: FeatureTable) -> None:
        self._layout = layout
        self.features = features
        self.last_run: ExtractResult | None = None
        self._searchers: dict[str | None, Searcher] = {}

    @property
    def name(self) -> str:
        """The table's name."""
        return self.features.name

    @property
    def space_id(self) -> str:
        """The space its vectors live in."""
        return self.features.space_id

    @property
    def version(self) -> int | None:
        """The Delta version; None before the first commit."""
        return self.features.version

    @property
    def dim(self) -> int:
        """The length of a vector."""
        return self.features.dim

    @property
    def path(self) -> Path:
        """The Delta table's folder, for ``pl.scan_delta`` and others."""
        return self.features.path

    @property
    def card(self) -> ModelCard:
        """The model's card."""
        from featstore.models import load_card

        return load_card(self._layout, self.space_id)

    def __len__(self) -> int:
        return len(self.features)

    def __repr__(self) -> str:
        return repr(self.features)

    def _repr_html_(self) -> str:
        return self.features._repr_html_()

    def matrix(self, version: int | None = None, *, verify: bool = False) -> tuple[Any, NDArray[np.float32]]:
        """All ids and vectors.

        Args:
            version: Another version than this table's.
            verify: Check every page's checksum, also of files that passed before.

        Returns:
            ``ids``, a numpy array of n strings, and ``X`` (n, dim) float32, C-contiguous, in the same order.

        Raises:
            IntegrityError: A file is damaged, missing or holds duplicate ids.
            NotFoundError: There is no such version.
        """
        return self._at(version).matrix(verify=verify)

    def to_polars(self, version: int | None = None) -> pl.DataFrame:
        """The whole table as a Polars frame."""
        return self._at(version).to_polars()

    def to_arrow(self, version: int | None = None) -> pa.Table:
        """The whole table as an Arrow table."""
        return self._at(version).to_arrow()

    def history(self) -> list[CommitInfo]:
        """Its versions, newest first, and which of them are or were published."""
        from featstore.upkeep.publications import history

        return history(self._layout, self.features)

    def rejects(self) -> pl.DataFrame:
        """Items of its source that were refused, with the reason."""
        import polars as pl

        from featstore.tables import RejectsTable

        found = pl.from_arrow(RejectsTable.read(self._layout, self.name, self.space_id))
        assert isinstance(found, pl.DataFrame)
        return found

    def previews(self, contents: Sequence[str]) -> dict[str, bytes]:
        """JPEG thumbnails or UTF-8 text beginnings by content hash; those not kept are absent."""
        from featstore.extract import previews

        return previews.find(self._layout, self.name, contents)

    def neighbours(self, item_id: str, k: int = 10, *, group_by: str | None = None) -> pl.DataFrame:
        """The k items most similar to one of the table's, by exact cosine, without itself.

        Of the chunks of a text only the best is given, and none of the text that the item is of.

        Args:
            item_id: An item of the table.
            k: How many.
            group_by: A metadata column, such as ``group``: only the best item of each of its values is given,
                and none of the item's own; items without a value stand for themselves. ``item_id`` gives
                every chunk. By default ``parent`` for chunks, else nothing.

        Returns:
            A frame with ``item_id``, ``score``, ``content_sha256`` and the metadata columns, best first.

        Raises:
            NotFoundError: No item has that id, or there is no column to group by.
        """
        found = self.searcher().search(id=item_id, k=k, group_by=group_by, exact=True)
        return found.drop("query", "rank")

    def search(
        self,
        *,
        text: str | Sequence[str] | None = None,
        image: str | os.PathLike[str] | bytes | Sequence[str | os.PathLike[str] | bytes] | None = None,
        id: str | Sequence[str] | None = None,
        vectors: Any = None,
        queries: str | os.PathLike[str] | None = None,
        k: int = 10,
        where: str | None = None,
        not_id: str | Sequence[str] = (),
        min_score: float | None = None,
        group_by: str | None = None,
        exact: bool = False,
        model: str | None = None,
    ) -> pl.DataFrame:
        """The items nearest to each query, by cosine, through the table's index where it has one.

        A text or picture goes through the very model of the table's space, with its prompt for queries; a text finds
        pictures through the text tower of a two-tower model, or through a bridge. Several queries, of several kinds,
        may be asked at once. What was loaded for one call is kept for the next.

        Args:
            text: A text, or several.
            image: A picture's file or its bytes, or several.
            id: An item of the table, or several; it is not among its own hits.
            vectors: (d,) or (q, d) numbers, or a ``.npy`` or Parquet file of them.
            queries: A folder of pictures or texts, a file with a text a line, or JSON lines with ``_id`` and ``text``.
            k: How many hits for each query, at most.
            where: A Polars SQL expression that the hits fulfil, such as ``label = 'cat'``.
            not_id: Items that are no hits.
            min_score: The least cosine of a hit.
            group_by: A column, such as ``group``: of its values only the best item is given, and none of an item's
                own; items without a value stand for themselves. By default ``parent`` for chunks, so that a text is
                found once; ``item_id`` gives every item.
            exact: Compare with every vector, not through the index.
            model: Ask with this model of the store instead of the table's own, by its name or a beginning of its space:
                its vectors go through the bridge to the table's space (``Store.bridge_spaces``), and the index serves.
                Texts and pictures are embedded with its prompt for queries, vectors are taken to be its own; ``id`` is
                refused.

        Returns:
            A frame with ``query``, ``rank`` (from 1), ``item_id``, ``score``, ``content_sha256`` and the metadata
            columns, in the order pictures, texts, items, vectors, queries. A query that cannot be read or
            decoded is left out with a warning.

        Raises:
            NotFoundError: The table is empty, or a file, column or id is not there.
            UsageError: Nothing was asked, a query or expression cannot be used, or nothing leads from a text or
                picture to the table's vectors.
            SpaceMismatchError: The vectors are of another space, or no bridge leads from the model to the table.
            IntegrityError: The table, a model or a bridge is damaged.
        """
        return self.searcher(model=model).search(
            text=text,
            image=image,
            id=id,
            vectors=vectors,
            queries=queries,
            k=k,
            where=where,
            not_id=not_id,
            min_score=min_score,
            group_by=group_by,
            exact=exact,
        )

    def searcher(
        self,
        *,
        device: str | None = None,
        progress: Callable[[str], None] | None = None,
        model: str | None = None,
    ) -> Searcher:
        """What answers ``search``, opened once and kept: for a service that searches again and again.

        Args:
            device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``, where a model has to encode the queries.
            progress: Told where a model has to be brought into the store first.
            model: Ask with this model instead of the table's own, as in ``search``.

        Raises:
            NotFoundError: The table has no version, a model is not there, or ``gc`` has removed the version.
            SpaceMismatchError: No bridge leads from the model to the table.
        """
        from featstore.search import Searcher

        if model not in self._searchers or (device, progress) != (None, None):
            self._searchers[model] = Searcher(
                self._layout, self.features, device=device, progress=progress or (lambda _: None), model=model
            )
        return self._searchers[model]

    def export(
        self,
        output: str | os.PathLike[str],
        *,
        format: str | None = None,
        where: str | None = None,
        ids: Sequence[str] | None = None,
        allow_missing: bool = False,
        as_of: str | datetime | None = None,
        columns: Sequence[str] | None = None,
        reporter: Reporter | None = None,
    ) -> ExportResult:
        """Writes the table, or some of it, into one file; it appears when it is whole.

        Args:
            output: The file; replaced if it is there.
            format: ``parquet``, ``csv``, ``npz`` or ``safetensors``; by default the file's suffix.
            where: A Polars SQL expression over the columns beside the vectors.
            ids: The items to take.
            allow_missing: Leave out ids that are not there, rather than refuse.
            as_of: Take the newest version of that time, and only rows with max(event_ts, created_ts) at or
                before it. ISO 8601, UTC where it names no zone.
            columns: The columns beside ``item_id`` and ``embedding``; by default all, for npz and safetensors none.
            reporter: Told of progress.

        Raises:
            NotFoundError: A column, an id or a version is not there.
            UsageError: The format, the place, the expression or the time cannot be used.
            IntegrityError: A file of the table is damaged; nothing is written then.
        """
        from featstore.export import Selection, export

        wanted = Selection(where=where, ids=ids, allow_missing=allow_missing, as_of=as_of, columns=columns)
        return export(self._layout, self.features, self.card, output, wanted, format=format, reporter=reporter)

    def duplicates(self, *, threshold: float | None = None) -> pl.DataFrame:
        """Every item that the table holds more than once: of equal content, or nearly equal by its vector.

        Args:
            threshold: The cosine from which two items are near. By default 1 - 0.1 × the median cosine distance to
                the 10th nearest item.

        Returns:
            ``group`` (from 0, the largest first), ``items`` (how many it has), ``item_id``, ``content_sha256``,
            ``representative`` (the item_id of the most central), ``score`` (the cosine to it) and ``exact``
            (whether the content is the representative's).

        Raises:
            SettingsError: The threshold is no cosine above 0.
        """
        from featstore.dedup import duplicates

        return duplicates(self._layout, self.features, threshold=threshold)

    def dedup(
        self,
        *,
        threshold: float | None = None,
        output: str | os.PathLike[str] | None = None,
        png: str | os.PathLike[str] | None = None,
        examples: int = 10,
        reporter: Reporter | None = None,
    ) -> DuplicateReport:
        """Counts what the table holds more than once, and names the largest groups; removes nothing.

        Args:
            threshold: As for ``duplicates``.
            output: A Parquet or CSV file for what ``duplicates`` gives.
            png: A contact sheet of the largest groups, for images.
            examples: How many groups are named and drawn.
            reporter: Told of progress.

        Raises:
            SettingsError: The threshold is no cosine above 0.
            UsageError: A file cannot be written so, or there.
        """
        from featstore.dedup import dedup

        return dedup(
            self._layout,
            self.features,
            self.card,
            threshold=threshold,
            output=output,
            png=png,
            examples=examples,
            reporter=reporter,
        )

    def summary(self) -> TableSummary:
        """What ``ls`` and ``show`` say of it."""
        from featstore.upkeep.summary import summarise

        return summarise(self._layout, self.features)

    def _at(self, version: int | None) -> FeatureTable:
        if version is None or version == self.version:
            return self.features
        return type(self.features).open(self._layout, self.name, self.space_id, version)
