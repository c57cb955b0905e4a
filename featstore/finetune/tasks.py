"""What the table's registered heads were trained for: what a fine-tuned backbone must not unlearn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from featstore.errors import ConflictError, FeatstoreError, IntegrityError, RetryableError
from featstore.finetune.gates.forgetting import Task
from featstore.heads.opening import find_card
from featstore.training.standing import standing

if TYPE_CHECKING:
    from featstore.extract.progress import Reporter
    from featstore.jobs import HeadJob
    from featstore.layout import Layout
    from featstore.records import SplitRecord
    from featstore.tables import FeatureTable

__all__ = ["Registered", "registered"]

# Items of a head that are embedded anew at most; those with the smallest hashes are taken, the same for both sides.
_MOST = 10_000


@dataclass(frozen=True, eq=False)
class Registered:
    """A head of the table and its n items.

    Attributes:
        task: What it was trained for.
        ids: The items.
        contents: Their hashes.
        vectors: (n, d) float32, the table's own.
        record: The split that it is tested on.
    """

    task: Task
    ids: list[str]
    contents: list[str]
    vectors: NDArray[np.float32]
    record: SplitRecord

    def of(self, which: NDArray[np.bool_]) -> Registered:
        """The same for some of the items."""
        at = np.flatnonzero(which)
        task = replace(self.task, truth=self.task.truth[at], fold=self.task.fold[at], groups=self.task.groups[at])
        ids, contents = ([known[i] for i in at.tolist()] for known in (self.ids, self.contents))
        return Registered(task, ids, contents, self.vectors[at], self.record)


def registered(
    layout: Layout, table: FeatureTable, heads: Sequence[HeadJob], reporter: Reporter
) -> tuple[list[Registered], dict[str, str]]:
    """The tasks of a table's heads, with the sides that their items are on.

    Args:
        layout: The store.
        table: The table.
        heads: Its heads, as a job would train them again.
        reporter: Told of progress.

    Returns:
        The tasks; and by name why a head has none that could be measured.

    Raises:
        LockedError: Another process is training one of the heads.
        IntegrityError: A head, its split or its labels are damaged.
        StorageError: They cannot be read now.
    """
    found, failed = [], {}
    for head in heads:
        try:
            found.append(_registered(layout, table, head, reporter))
        except (ConflictError, IntegrityError, RetryableError):
            raise  # it can be measured, only not now
        except FeatstoreError as error:  # such as labels that are gone: it is said, and hinders nobody
            failed[head.name] = error.message
    return found, failed


def _registered(layout: Layout, table: FeatureTable, head: HeadJob, reporter: Reporter) -> Registered:
    card = find_card(layout, head.name)
    now = standing(layout, table, replace(head.settings, task=card.task), reporter)
    data = now.data
    sides = np.flatnonzero(now.train | now.test)
    if len(sides) > _MOST:
        order = sorted(sides.tolist(), key=lambda at: data.contents[at])
        sides = np.sort(np.array(order[:_MOST], np.int64))
    task = Task(
        name=card.head,
        task=card.task,
        kind="logistic" if card.kind == "majority" else card.kind,
        weights=card.class_weights,
        classes=data.classes,
        truth=data.truth[sides],
        fold=np.where(now.test, -1, now.fold)[sides],
        groups=now.groups[sides],
        seed=card.seed,
    )
    at = sides.tolist()
    return Registered(
        task,
        [data.ids[i] for i in at],
        [data.contents[i] for i in at],
        table.vectors_at(data.rows[0][sides]),
        now.record,
    )
