"""``featstore index``: decides what to do with what is there, does it, and says which it did."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from featstore import neighbours
from featstore.extract.progress import Reporter
from featstore.index import cards, files, opening
from featstore.index.beginning import check, find_before
from featstore.index.deciding import Decision, decide, wanted
from featstore.index.making import Made, make, update
from featstore.records import IndexCard, IndexPlan, IndexRequest
from featstore.storage import locks

if TYPE_CHECKING:
    from pathlib import Path

    from featstore.index.freshness import Alignment
    from featstore.layout import Layout
    from featstore.neighbours import VectorIndex
    from featstore.settings import IndexSettings
    from featstore.tables import FeatureTable

__all__ = ["build", "plan"]


def build(
    layout: Layout,
    features: FeatureTable,
    settings: IndexSettings,
    *,
    queries: NDArray[np.float32] | None = None,
    reporter: Reporter | None = None,
) -> IndexCard:
    """Makes the index of one version of a table, or brings the newest one up to it.

    Args:
        layout: The store.
        features: The table at the version to index.
        settings: What kind of index, how good, how large. What is not said stays as it was asked for last.
        queries: (q, dim) float32, what will be asked, such as texts of a two-tower model; by default the table's own
            items are, each with itself and its twins left out.
        reporter: Told of progress.

    Returns:
        The card: what was done and why, and how well the index does.

    Raises:
        UsageError: The table is empty, or what is asked for cannot be.
        GateError: Every index that ``kind``, ``factory`` and ``memory`` allow finds less than was asked for; nothing
            is changed.
        LockedError: Another process is making an index of this table.
        IntegrityError: A file of the table is damaged.
    """
    reporter = reporter or Reporter()
    check(layout, features, queries)
    purpose = f"an index of '{features.name}'"
    lock = layout.index_lock(features.name, features.space_id)
    with locks.hold(layout.storage, lock, purpose=purpose, warn=reporter.warning):
        return _Run(layout, features, settings, queries, reporter).card()


def plan(layout: Layout, features: FeatureTable, settings: IndexSettings) -> IndexPlan:
    """What ``build`` would begin with; reads the index there is, and no vector of the table.

    Raises:
        UsageError: As in ``build``.
    """
    check(layout, features, None)
    before = find_before(layout, features, Reporter())
    request = wanted(settings, before.card)
    found = decide(before.card, before.alignment, before.why, features, request, settings.rebuild)
    kinds: list[str] = []
    if found.action in ("built", "rebuilt"):
        n, d = len(features), features.dim
        recipes = neighbours.recipes(n, d, kind=request.kind, factory=request.factory, memory=request.memory)
        kinds = [recipe.factory for recipe in recipes]
    assert features.version is not None
    return IndexPlan(
        table=features.name,
        space_id=features.space_id,
        version=features.version,
        items=len(features),
        action=found.action,
        reason=found.reason,
        added=found.added,
        removed=found.removed,
        kinds=tuple(kinds),
    )


class _Run:
    """One build, under the lock."""

    def __init__(
        self,
        layout: Layout,
        features: FeatureTable,
        settings: IndexSettings,
        queries: NDArray[np.float32] | None,
        reporter: Reporter,
    ) -> None:
        self.layout, self.features, self.settings = layout, features, settings
        self.queries, self.reporter = queries, reporter
        self.started = time.monotonic()

    def card(self) -> IndexCard:
        """Decides, does it, writes it."""
        before = find_before(self.layout, self.features, self.reporter)
        request = wanted(self.settings, before.card)
        decision = decide(before.card, before.alignment, before.why, self.features, request, self.settings.rebuild)
        card, alignment = before.card, before.alignment
        if decision.action == "unchanged":
            assert card is not None
            return replace(card, action="unchanged", reason=decision.reason, added=0, removed=0)
        if decision.action == "carried":
            assert card is not None
            assert alignment is not None
            return self._carry(card, request, alignment, decision)
        self.reporter.stage("reading vectors")
        vectors = self.features.matrix()[1]
        if decision.action == "updated":
            assert card is not None
            assert alignment is not None
            index = opening.open_vectors(self.layout, card)
            made = update(index, card, alignment, self.features, vectors, request, self.queries)
            if isinstance(made, Made):
                return self._write(made, request, decision, card, alignment)
            decision = replace(decision, action="rebuilt", reason=f"{made}; built anew")
            self.reporter.message(decision.reason)
        made = make(self.features, vectors, request, self.queries, self.reporter)
        return self._write(made, request, decision, card, alignment)

    def _carry(self, card: IndexCard, request: IndexRequest, alignment: Alignment, decision: Decision) -> IndexCard:
        """The same vectors under another version: only who stands where is written."""
        rows = _rows(alignment, len(self.features))
        fresh = replace(cards.renewed(card, self.features, rows, decision, alignment), request=request)
        path = self.layout.index(card.name, card.space_id, card.version, files.INDEX)
        return self._put(fresh, self.layout.storage.local(path), rows)

    def _write(
        self,
        made: Made,
        request: IndexRequest,
        decision: Decision,
        before: IndexCard | None,
        alignment: Alignment | None,
    ) -> IndexCard:
        base = cards.blank(self.features) if before is None else before
        fresh = replace(
            cards.renewed(base, self.features, made.rows, decision, alignment),
            kind=made.recipe.kind,
            factory=made.recipe.factory,
            search=made.recipe.search,
            measured=made.measured,
            built_items=made.built_items or base.built_items,
            build_seconds=base.build_seconds if made.build_seconds is None else made.build_seconds,
            request=request,
            note=cards.note(self.layout, self.features, made.measured, given=self.queries is not None),
        )
        return self._put(fresh, made.index, made.rows)

    def _put(self, card: IndexCard, index: VectorIndex | Path, rows: NDArray[np.int64]) -> IndexCard:
        self.reporter.stage("writing")
        ids = self.features.rows(["item_id", "content_sha256"]).drop_columns(["_file", "_row"])
        ids = ids.take(pa.array(rows, pa.int64(), mask=rows < 0))
        card = replace(card, seconds=round(time.monotonic() - self.started, 3))
        return files.write(self.layout, card, index, ids, rows)


def _rows(alignment: Alignment, n: int) -> NDArray[np.int64]:
    return np.arange(n) if alignment.rows is None else alignment.rows
