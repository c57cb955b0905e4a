"""Every item's side: that which it has had, that of what it belongs to, or a new one by its hash."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from featstore.errors import GateError
from featstore.records import SplitRecord
from featstore.splits.keeping import COLUMNS, Kept
from featstore.splits.known import Known
from featstore.splits.sides import Items, Sides, first_sides, later_sides
from featstore.storage import hashing

__all__ = ["Split", "assign"]


@dataclass(frozen=True)
class Split:
    """The sides of n items.

    Attributes:
        kept: The split as it is to be kept: what was known, and these items.
        test: (n,) bool, whether an item is tested.
        fold: (n,) int64, the fold of a training item; -1 for others.
        excluded: (n,) bool, items on no side: they belong to both, or to what is tested.
        added: How many items the split had not seen before.
        near: How many of the excluded were training items until another model or column bound them to tested ones.
        leakage: Training items that belong together with a test item; above 0 only where that was allowed.
    """

    kept: Kept
    test: NDArray[np.bool_]
    fold: NDArray[np.int64]
    excluded: NDArray[np.bool_]
    added: int
    near: int
    leakage: int

    @property
    def train(self) -> NDArray[np.bool_]:
        """(n,) bool, the items to learn from."""
        return np.asarray(~self.test & ~self.excluded, np.bool_)


def assign(items: Items, record: SplitRecord, kept: Kept | None = None, *, allow_leakage: bool = False) -> Split:
    """Gives every item its side.

    At first all groups are dealt out by their hashes, each class evenly. Later an item that the split has seen stays
    where it was. A new one goes where its group is, or by the hash of its group; one that belongs to both sides is
    left out for good. Training items that have come to belong together with a test item, because another model finds
    them near or a column names their group now, are left out of this training.

    Args:
        items: The items.
        record: What a new split is made by; its id is found here. Of a kept split its own record counts.
        kept: The split so far.
        allow_leakage: Let groups straddle a split that came with the data.

    Raises:
        GateError: A split that came with the data has groups on both sides.
    """
    record = record if kept is None else kept.record
    allowed = allow_leakage and record.origin != "made"
    sides = first_sides(items, record) if kept is None else later_sides(items, record, Known.of(kept.rows), allowed)
    both = _straddling(items.groups, sides)
    bound = both & ~sides.test & ~sides.excluded
    if kept is None and record.origin != "made" and both.any() and not allowed:
        raise _refused(items, record.origin, sides, both)
    near = np.zeros(len(items), np.bool_) if allowed else bound
    rows = _rows(items, sides)
    if kept is None:
        kept = Kept(replace(record, split_id=_identity(record, rows)), rows)
    elif rows.num_rows:
        kept = Kept(record, pa.concat_tables([kept.rows.replace_schema_metadata(None), rows]))
    excluded = sides.excluded | near
    test, train = sides.test & ~excluded, ~sides.test & ~excluded
    tested = np.bincount(items.groups, weights=test) > 0
    return Split(
        kept=kept,
        test=test,
        fold=_folds(items.groups, sides.fold, train),
        excluded=excluded,
        added=int(sides.new.sum()),
        near=int(near.sum()),
        leakage=int((tested[items.groups] & train).sum()),
    )


def _folds(groups: NDArray[np.int64], fold: NDArray[np.int64], train: NDArray[np.bool_]) -> NDArray[np.int64]:
    """The folds, whole groups in one: what has come to belong together goes with its first item."""
    at = np.flatnonzero(train)
    _, first, back = np.unique(groups[at], return_index=True, return_inverse=True)
    found = np.full(len(groups), -1, np.int64)
    found[at] = fold[at][first][back]
    return found


def _straddling(groups: NDArray[np.int64], sides: Sides) -> NDArray[np.bool_]:
    """(n,) bool, the items whose group has items on both sides."""
    tested = np.bincount(groups, weights=sides.test & ~sides.excluded) > 0
    learnt = np.bincount(groups, weights=~sides.test & ~sides.excluded) > 0
    return np.asarray((tested & learnt)[groups] & ~sides.excluded, np.bool_)


def _refused(items: Items, column: str, sides: Sides, both: NDArray[np.bool_]) -> GateError:
    groups, tested = len(np.unique(items.groups[both])), int((both & sides.test).sum())
    at = items.groups == items.groups[np.flatnonzero(both)[0]]
    pair = [items.ids[int(np.flatnonzero(at & side)[0])][:80] for side in (sides.test, ~sides.test)]
    return GateError(
        f"--split {column} leaks: {groups:,} groups stand on both sides, so that {tested:,} of "
        f"{int(sides.test.sum()):,} test items belong together with a training item; {pair[0]!r} with {pair[1]!r}.",
        hint="Leave out --split for a split without leakage, or say --allow-leakage to have it reported only.",
        context={"groups": groups, "test_items": tested, "training_items": int((both & ~sides.test).sum())},
    )


def _rows(items: Items, sides: Sides) -> pa.Table:
    at = np.flatnonzero(sides.new)
    values: dict[str, Any] = {
        "item_id": [items.ids[i] for i in at.tolist()],
        "content_sha256": [items.contents[i] for i in at.tolist()],
        "name": [items.names[i] for i in at.tolist()],
        "group": sides.group[at],
        "fold": np.where(sides.test | sides.excluded, -1, sides.fold)[at],
        "test": sides.test[at],
        "excluded": sides.excluded[at],
    }
    return pa.table({name: pa.array(values[name], kind) for name, kind in COLUMNS.items()})


def _identity(record: SplitRecord, rows: pa.Table) -> str:
    """Twelve digits that tell this making of a split from any other."""
    made = {"table": record.table, "label": record.label, "origin": record.origin, "seed": record.seed}
    sides = [rows[name].to_pylist() for name in ("item_id", "content_sha256", "fold", "test")]
    return hashing.of_json([made, record.test_share, record.folds, sides])[:12]
