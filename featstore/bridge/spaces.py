"""One bridge between two models' spaces: items of both, groups, the map, its figures."""

from __future__ import annotations

import time
from datetime import UTC, datetime

import numpy as np
from numpy.typing import NDArray

from featstore import models
from featstore.bridge import nested, spaces_held_out, spaces_kept, weights
from featstore.bridge.grouping import grouped
from featstore.bridge.maps import Candidate
from featstore.bridge.spaces_items import MOST, shared
from featstore.bridge.spaces_kept import SpaceBridge
from featstore.errors import GateError, UsageError
from featstore.extract.progress import Reporter
from featstore.layout import Layout
from featstore.records import ModelCard, RecallAt, SpaceBridgeCard, SpaceBridgeResult
from featstore.tables import FeatureTable, past

__all__ = ["LEAST_GROUPS", "learn_spaces", "make_spaces"]

LEAST_GROUPS = 50
"""Ten different items in each fold: below, what is found among a fold's others says nothing."""


def learn_spaces(
    layout: Layout, from_table: FeatureTable, to_table: FeatureTable, *, reporter: Reporter | None = None
) -> SpaceBridge:
    """Learns a linear map from one model's space into another's, from the items that both have embedded.

    Ridge regression with its penalty, or a rotation, whichever finds more of what the new model finds, on items held
    out (``nested``, ``spaces_held_out``). Items of the same content are taken, at most 50,000; near-duplicates stay on
    one side of every split. Needs the vectors of these items, not more. Nothing is kept: see ``publish_spaces``.

    Both tables hold documents, so the map is learned from documents; queries go through it as well.

    Args:
        layout: The store.
        from_table: The table of the new model.
        to_table: The table of the same name of the old model, whose index is to be asked.
        reporter: Told of progress and of what is worth a warning.

    Raises:
        UsageError: The tables are of one space, of other modalities or of other names, or fewer than 50 different items
            have the same content in both.
        GateError: What was learned finds no more than chance would.
        NotFoundError: A model or version is gone.
        IntegrityError: A model or a file of a table is damaged.
    """
    reporter = reporter or Reporter()
    new, old = _models(layout, from_table, to_table)
    for table in (from_table, to_table):
        past.check_kept(layout, table)
    reporter.stage("reading")
    both = shared(from_table, to_table)
    reporter.stage("grouping")
    groups = grouped(both.x, both.y)
    count = int(groups.max()) + 1 if len(groups) else 0
    if count < LEAST_GROUPS:
        raise UsageError(
            f"{len(groups):,} items of {from_table.name} have the same content in {new.space_id} and {old.space_id}, "
            f"in {count:,} groups of different ones; at least {LEAST_GROUPS} are needed.",
            hint="Items that are nearly the same count as one. Embed more of the source with both models.",
        )
    _warn(reporter, groups, both.there)
    reporter.stage("fitting", nested.FITS)
    learned = spaces_held_out.learn(both.x, both.y, groups, reporter.advance)
    content = spaces_kept.encode(learned.map)
    assert from_table.version is not None
    assert to_table.version is not None
    card = SpaceBridgeCard(
        from_space=new.space_id,
        from_digest=new.digest,
        from_dim=new.dim,
        to_space=old.space_id,
        to_digest=old.digest,
        to_dim=old.dim,
        table=from_table.name,
        from_version=from_table.version,
        to_version=to_table.version,
        items=len(groups),
        groups=count,
        method=learned.candidate.method,
        strength=_strength(learned.candidate, new.dim, old.dim),
        queries=learned.queries,
        gallery=learned.gallery,
        itself=learned.itself,
        neighbours=learned.neighbours,
        reembedded=learned.reembedded,
        old=learned.old,
        weights=weights.artefact(content, "bridge"),
        featstore=models.versions().get("featstore", "unknown"),
        created_ts=datetime.now(UTC).isoformat(timespec="microseconds"),
    )
    _gate(card)
    return SpaceBridge(card, learned.map)


def make_spaces(
    layout: Layout,
    from_table: FeatureTable,
    to_table: FeatureTable,
    *,
    dry_run: bool = False,
    reporter: Reporter | None = None,
) -> SpaceBridgeResult:
    """Learns a bridge as ``learn_spaces`` does and, unless it is a dry run, keeps it.

    Raises:
        LockedError: Another process is at the same bridge.
    """
    started = time.monotonic()
    told = _Warnings(reporter or Reporter())
    bridge = learn_spaces(layout, from_table, to_table, reporter=told)
    if not dry_run:
        spaces_kept.publish_spaces(layout, bridge)
    folder = layout.crossing(bridge.card.from_space, bridge.card.to_space)
    return SpaceBridgeResult(
        card=bridge.card,
        kept=not dry_run,
        path=str(layout.storage.local(folder)),
        seconds=time.monotonic() - started,
        warnings=tuple(told.warnings),
    )


class _Warnings(Reporter):
    """Passes on what it is told, and keeps the warnings for the result."""

    def __init__(self, to: Reporter) -> None:
        self._to = to
        self.warnings: list[str] = []

    def stage(self, name: str, total: int | None = None) -> None:
        self._to.stage(name, total)

    def advance(self, done: int, rejected: int = 0) -> None:
        self._to.advance(done, rejected)

    def message(self, text: str) -> None:
        self._to.message(text)

    def warning(self, text: str) -> None:
        self.warnings.append(text)


def _models(layout: Layout, from_table: FeatureTable, to_table: FeatureTable) -> tuple[ModelCard, ModelCard]:
    """The cards of two models whose spaces a bridge can join."""
    new, old = models.load_card(layout, from_table.space_id), models.load_card(layout, to_table.space_id)
    if new.digest == old.digest:
        raise UsageError(
            f"both tables are in the space {old.space_id}: their vectors are compared without a bridge.",
            hint=f"Name two tables of different models: featstore bridge {from_table.name}@NEW --onto "
            f"{to_table.name}@OLD",
        )
    if new.modality != old.modality:
        raise UsageError(
            f"{new.space_id} takes {new.modality}s and {old.space_id} takes {old.modality}s; this bridge leads from "
            "model to model of the same items.",
            hint="From pictures to texts leads: featstore bridge IMAGES --to MODEL --pairs COLUMN",
        )
    if from_table.name != to_table.name:
        raise UsageError(
            f"{from_table.name} and {to_table.name} are tables of two sources; a bridge is learned from one source "
            "that both models have embedded.",
            hint=f"Embed it with both: featstore extract SOURCE --name {to_table.name} --model {new.space_id}",
        )
    for table in (from_table, to_table):
        if table.version is None or not len(table):
            raise UsageError(f"{table.name}@{table.space_id} holds no items; there is nothing to learn from.")
    return new, old


def _strength(candidate: Candidate, from_dim: int, to_dim: int) -> float:
    """A rotation has no more dimensions than either side."""
    return candidate.strength if candidate.method == "ridge" else min(candidate.strength, from_dim, to_dim)


def _gate(card: SpaceBridgeCard) -> None:
    """Refuses a map that does not find an item itself, or what the new model finds, more often than chance would.

    Both are asked: a map that says nothing still finds what lies in the midst of both spaces.
    """
    for recalls in (card.itself, card.reembedded):
        if all(recall.low <= recall.chance for recall in recalls):
            raise GateError(
                f"nothing leads from {card.from_space} to {card.to_space}: the map finds the item itself with "
                f"{_figures(card.itself)}, and of what the new model finds {_figures(card.reembedded)}, on "
                f"{card.queries:,} held-out items.",
                hint="The models see nothing in common, or there are too few items; embed more of the source with "
                "both. Nothing was kept.",
            )


def _figures(recalls: tuple[RecallAt, ...]) -> str:
    return ", ".join(f"recall@{r.k} {r.value:.3f} [{r.low:.3f}–{r.high:.3f}], chance {r.chance:.3f}" for r in recalls)


def _warn(reporter: Reporter, groups: NDArray[np.int64], there: int) -> None:
    if there > MOST:
        reporter.message(f"learning from {len(groups):,} of {there:,} items, drawn by their contents' hashes")
    largest = int(np.bincount(groups).max())
    if largest > len(groups) // 10:
        reporter.warning(f"{largest:,} of {len(groups):,} items are nearly the same and count as one group")
