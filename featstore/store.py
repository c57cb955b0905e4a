"""The façade: a store and its tables, each method one operation of the rooms below.

Heavy libraries are imported by the operations, so that opening a store and looking around is fast.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from featstore import addresses
from featstore.errors import NotFoundError
from featstore.layout import Layout
from featstore.storage import Storage

if TYPE_CHECKING:
    import numpy as np
    import polars as pl
    import pyarrow as pa
    from numpy.typing import NDArray

    from featstore.extract.progress import Reporter
    from featstore.records import (
        CommitInfo,
        ExtractResult,
        GcReport,
        Manifest,
        ModelCard,
        TableSummary,
        VerifyReport,
    )
    from featstore.tables import FeatureTable

__all__ = ["DEFAULT_FOLDER", "Store", "Table", "open"]

DEFAULT_FOLDER = "featstore-data"


def open(path: str | os.PathLike[str] | None = None) -> Store:
    """Opens a store, making it on its first write.

    Args:
        path: The store's folder. By default ``FEATSTORE_STORE``, else the first ``featstore-data``
            found from the working folder upwards, else ``./featstore-data``.

    Raises:
        IntegrityError: The folder's ``store.json`` is damaged or of a newer featstore.
        UsageError: The path cannot be a store.
    """
    return Store(path)


class Store:
    """A folder with models, feature tables and what belongs to them."""

    def __init__(self, path: str | os.PathLike[str] | None = None) -> None:
        from featstore import founding

        self.layout = Layout(Storage.at(path if path is not None else founding.locate(DEFAULT_FOLDER)))
        founding.check(self.layout)

    @property
    def path(self) -> Path:
        """The store's folder."""
        return self.layout.storage.root

    def __repr__(self) -> str:
        names = self.layout.storage.folders("features")
        return f"Store({str(self.path)!r}, tables: {', '.join(names) if names else 'none yet'})"

    # ── make ────────────────────────────────────────────────────────────────────────────────

    def extract(
        self,
        source: str | os.PathLike[str],
        *,
        model: str,
        reporter: Reporter | None = None,
        **settings: object,
    ) -> Table:
        """Brings a table in step with a source: embeds what is new, drops what is gone.

        Args:
            source: A folder of images or texts, or a CSV, JSONL, Parquet or Arrow file.
            model: A backbone's name, such as ``resnet50`` or ``minilm``, or a model's folder.
            reporter: Told of progress.
            **settings: Any field of ``ExtractSettings``, such as ``name``, ``label_from`` or ``limit``.

        Returns:
            The table at its new version; its ``last_run`` says what was done.

        Raises:
            SettingsError: A setting is unknown, of the wrong type or out of range.
            UsageError: The source or the model cannot be used as given.
            GateError: More items would leave the table than is plausible.
            TooManyRejectsError: The good items are stored, too many were refused.
        """
        result = self._extract(source, model, settings, reporter, dry_run=False)
        table = self.table(f"{result.table}@{result.space_id}", missing_ok=True)
        table.last_run = result
        return table

    def plan(self, source: str | os.PathLike[str], *, model: str, **settings: object) -> ExtractResult:
        """What ``extract`` would do, by reading only; times and bytes are estimates."""
        return self._extract(source, model, settings, None, dry_run=True)

    def _extract(
        self,
        source: str | os.PathLike[str],
        model: str,
        settings: dict[str, object],
        reporter: Reporter | None,
        *,
        dry_run: bool,
    ) -> ExtractResult:
        from featstore import founding
        from featstore.extract import extract
        from featstore.settings import ExtractSettings, resolve

        given = {"source": os.fspath(source), "model": model, **settings}
        resolved, origins = resolve(ExtractSettings, given)
        if not dry_run:
            founding.found(self.layout)
        return extract(self.layout, resolved, origins.origins, reporter=reporter, dry_run=dry_run)

    # ── look ────────────────────────────────────────────────────────────────────────────────

    def table(self, address: str, *, missing_ok: bool = False) -> Table:
        """A table by its address ``NAME[@MODEL][:VERSION]``.

        Args:
            address: Which table; the model's part may be any beginning of the ``space_id``.
            missing_ok: Also a table that has no version yet, because every item was refused.

        Raises:
            NotFoundError: There is no such table or version.
            UsageError: Several tables fit.
        """
        from featstore.tables import FeatureTable

        where = addresses.parse(address)
        if missing_ok and where.model is not None and not FeatureTable.exists(self.layout, where.name, where.model):
            from featstore.models import load_card

            card = load_card(self.layout, where.model)
            return Table(self.layout, FeatureTable.staging(self.layout, where.name, where.model, card.dim))
        name, space_id = addresses.resolve(self.layout, where)
        return Table(self.layout, FeatureTable.open(self.layout, name, space_id, where.version))

    def tables(self) -> list[Table]:
        """Every table of the store, by name and space."""
        from featstore.tables import FeatureTable

        found = []
        for name in self.layout.storage.folders("features"):
            spaces = self.layout.storage.folders(f"features/{name}")
            made = (space for space in spaces if FeatureTable.exists(self.layout, name, space))
            found += [Table(self.layout, FeatureTable.open(self.layout, name, space)) for space in made]
        return found

    def runs(self, *, limit: int = 50) -> list[Manifest]:
        """The newest runs, newest first."""
        from featstore.records import Manifest
        from featstore.storage import documents

        names = sorted((r for r in self.layout.storage.folders("runs") if r != "open"), reverse=True)
        found = (documents.find(self.layout.storage, self.layout.manifest(run), Manifest) for run in names[:limit])
        return [manifest for manifest in found if manifest is not None]

    def run(self, run_id: str) -> Manifest:
        """One run's manifest.

        Raises:
            NotFoundError: There is no such run.
        """
        from featstore.records import Manifest
        from featstore.storage import documents

        if not self.layout.storage.exists(self.layout.manifest(run_id)):
            raise NotFoundError(f"there is no run '{run_id}'.", hint="featstore ls runs")
        return documents.read(self.layout.storage, self.layout.manifest(run_id), Manifest)

    def models(self) -> list[ModelCard]:
        """The cards of the models in the store."""
        from featstore.models import load_card

        spaces = [space for space in self.layout.storage.folders("models") if space != "refs"]
        present = (s for s in spaces if self.layout.storage.exists(self.layout.model_card(s)))
        return [load_card(self.layout, space) for space in present]

    # ── look after ──────────────────────────────────────────────────────────────────────────

    def verify(self, addresses_: Sequence[str] = (), *, sample: int = 16) -> VerifyReport:
        """Re-hashes files, checks rows, and embeds a sample again.

        Args:
            addresses_: Which tables; all when empty.
            sample: Items of each table to embed again from the source; 0 for none.
        """
        from featstore.upkeep import verify

        tables = [self.table(a) for a in addresses_] if addresses_ else self.tables()
        return verify(self.layout, [t.features for t in tables], sample=sample)

    def gc(self, *, dry_run: bool = False, keep_versions: int = 2, grace_hours: float = 24.0) -> GcReport:
        """Merges small files and removes what no kept version needs.

        Args:
            dry_run: Only say what would go.
            keep_versions: How many of each table's newest versions stay readable.
            grace_hours: Files younger than this are left alone: a run may be writing them.
        """
        from featstore.upkeep import gc

        tables = [t.features for t in self.tables()]
        return gc(self.layout, tables, dry_run=dry_run, keep_versions=keep_versions, grace_hours=grace_hours)


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
        """Its versions, newest first."""
        return self.features.history()

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

    def neighbours(self, item_id: str, k: int = 10) -> pl.DataFrame:
        """The k items most similar to one of the table's, by exact cosine, without itself.

        Returns:
            A frame with ``item_id``, ``score``, ``content_sha256`` and the metadata columns, best first.

        Raises:
            NotFoundError: No item has that id.
        """
        import numpy as np
        import polars as pl

        from featstore.neighbours import nearest

        ids, vectors = self.matrix()
        at = np.flatnonzero(np.asarray(ids) == item_id)
        if not len(at):
            raise NotFoundError(f"'{item_id}' is not in {self.name}.")
        rows, scores = nearest(vectors[at], vectors, k + 1)
        kept = rows[0] != at[0]
        found = pl.from_arrow(self.features.rows().take(rows[0][kept]))
        assert isinstance(found, pl.DataFrame)
        order = ["item_id", "score", *(c for c in found.columns if c not in ("item_id", "_file", "_row"))]
        return found.with_columns(pl.Series("score", scores[0][kept])).select(order).head(k)

    def summary(self) -> TableSummary:
        """What ``ls`` and ``show`` say of it."""
        from featstore.upkeep import summarise

        return summarise(self._layout, self.features)

    def _at(self, version: int | None) -> FeatureTable:
        if version is None or version == self.version:
            return self.features
        return type(self.features).open(self._layout, self.name, self.space_id, version)
