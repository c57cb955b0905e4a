"""A head that was trained before, measured again: on the test items that its table has now."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import numpy as np

from featstore.errors import UsageError
from featstore.extract.progress import Reporter
from featstore.heads.metrics import figures
from featstore.heads.opening import open_head
from featstore.layout import Layout
from featstore.records import Estimate, GateItem, HeadCard, SplitScoring
from featstore.settings import HeadSettings
from featstore.splits import score
from featstore.tables import FeatureTable
from featstore.training.comparing import Said, said_of
from featstore.training.learnt import Changes, changes, labels_of, learnt
from featstore.training.mistakes import wrong_of
from featstore.training.side_by_side import Side, asked, side_by_side, staged, together
from featstore.training.standing import standing

__all__ = ["Rescored", "against", "rescore"]


@dataclass(frozen=True)
class Rescored:
    """What a head is worth on a table as it is now.

    Attributes:
        card: The head's.
        figures: On the test items, of which none has a content that it has learned from.
        items: How many they are.
        changes: How the items to learn from differ from those it has learned from.
        strange: Labels that it cannot say, with the items on both sides that have them.
        wrong: Test items that it is sure of and wrong about.
    """

    card: HeadCard
    figures: dict[str, Estimate]
    items: int
    changes: Changes
    strange: dict[str, int]
    wrong: tuple[GateItem, ...]


def rescore(
    layout: Layout, table: FeatureTable, address: str, settings: HeadSettings, reporter: Reporter | None = None
) -> Rescored:
    """Measures a kept head on a table's test items by the kept split, and counts the look.

    Items that came since are dealt to the split's sides by its rules. Items with a label that the head does not know
    count: it is wrong about them; unless rare classes are to be left out (``drop_rare``).

    Args:
        layout: The store.
        table: The table, of the head's space.
        address: ``HEAD:VERSION``.
        settings: What the head is trained with; the task is the head's.
        reporter: Told of progress.

    Raises:
        NotFoundError: There is no such head, column or file.
        UsageError: The labels are not of the head's task, or there is nothing to test on.
        IntegrityError: A file is missing or damaged.
    """
    reporter = reporter or Reporter()
    card, head = open_head(layout, address)
    now = standing(layout, table, replace(settings, task=card.task), reporter)
    data, known = now.data, learnt(layout, card)
    seen = {content for _, content in known}
    strange = _strange(card, labels_of(data))
    fair = now.test & np.array([content not in seen for content in data.contents], np.bool_)
    if settings.drop_rare and card.task == "classification":
        fair &= ~np.isin(data.truth, [at for at, name in enumerate(data.classes) if name in strange])
    test = np.flatnonzero(fair)
    if not len(test):
        raise UsageError(
            f"head {card.head}:{card.version} has nothing to be tested on: none of {len(data):,} labelled items of "
            f"'{table.name}' is a test item that it has not learned from.",
            hint="Label more items.",
        )
    reporter.stage(f"measuring head '{card.head}' again", len(test))
    now_ts = datetime.now(UTC).isoformat(timespec="seconds")
    score(layout, now.record, SplitScoring(head=card.head, version=card.version, space_id=card.space_id, ts=now_ts))
    said = asked(head, table, data.rows[0][test])
    labels = labels_of(data, test)
    truth, values, thresholds, classes = together(labels, (card, head, said))
    return Rescored(
        card=card,
        figures=figures(card.task, truth, values[0], now.groups[test], seed=card.seed, thresholds=thresholds[0]),
        items=len(test),
        changes=changes(layout, card, known, table, now, settings),
        strange=strange,
        wrong=wrong_of(card.task, [data.ids[row] for row in test.tolist()], labels, values[0], classes),
    )


def against(
    layout: Layout, table: FeatureTable, address: str, card: HeadCard, folder: str
) -> tuple[dict[str, Estimate], Said | None]:
    """A head in a run's folder minus one that is kept, on the test items of the former.

    Items that either has learned from are left out.

    Args:
        layout: The store.
        table: The table that the new head was trained on; the kept head is of its space.
        address: ``HEAD:VERSION`` of the kept one.
        card: Of the new head.
        folder: Where it lies.

    Returns:
        The difference of each figure, paired; none where the two cannot be compared. And what the new head says of
        its test items, None where that was too much to keep.
    """
    said = said_of(layout, card, folder)
    before, head = open_head(layout, address)
    if said is None or (before.task, before.dim) != (card.task, card.dim):
        return {}, said
    found = side_by_side(layout, Side(before, head, table), staged(layout, table, folder))
    return ({} if found is None else found.difference()), said


def _strange(card: HeadCard, labels: Sequence[Any]) -> dict[str, int]:
    if card.task == "regression":
        return {}
    often = Counter(name for label in labels for name in (label if isinstance(label, tuple) else (label,)))
    return {name: count for name, count in often.most_common() if name not in set(card.classes)}
