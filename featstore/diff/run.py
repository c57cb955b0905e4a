"""One diff: match the items, then compare what can be compared."""

from __future__ import annotations

import time
from collections.abc import Mapping

from featstore.diff.agreement import agreement
from featstore.diff.drifting import Says, drifted
from featstore.diff.matching import Match, match, updates
from featstore.diff.moves import moves
from featstore.errors import NotFoundError, SettingsError
from featstore.layout import Layout
from featstore.records import Difference, TableVersion
from featstore.tables import FeatureTable, past

__all__ = ["diff"]


def diff(
    layout: Layout,
    a: FeatureTable,
    b: FeatureTable,
    *,
    k: int = 10,
    queries: int = 1000,
    examples: int = 10,
    heads: Mapping[str, Says] | None = None,
) -> Difference:
    """Compares two tables, or two versions of one; reads only.

    Args:
        layout: The store.
        a: The first, usually the older.
        b: The second.
        k: Neighbours of each query, between two spaces.
        queries: How many items are asked for their neighbours; 0 for all.
        examples: How many items of each kind are named.
        heads: By name, heads of the tables' one space, whose predicted classes are compared where items came.

    Raises:
        SettingsError: A number is out of range.
        NotFoundError: A version's files are no longer kept.
        IntegrityError: A file is missing or damaged.
    """
    started = time.monotonic()
    for name, number, least in (("k", k, 1), ("queries", queries, 0), ("examples", examples, 0)):
        if number < least:
            raise SettingsError(f"{name} is {number}; it must be at least {least}.")
    for table in (a, b):
        past.check_kept(layout, table)
    found = match(a, b)
    updated, columns = updates(a, b, found)
    one_space = a.space_id == b.space_id
    vectors = moves(a, b, found, examples=examples) if one_space else None
    neighbours = None if one_space else agreement(a, b, found, k=k, queries=queries, examples=examples)
    return Difference(
        a=_side(a),
        b=_side(b),
        common=len(found.ids),
        added=len(found.added),
        removed=len(found.removed),
        renamed=found.renamed,
        changed=int(found.changed.sum()),
        updated=updated,
        added_ids=found.added[:examples],
        removed_ids=found.removed[:examples],
        changed_ids=tuple(map(str, found.ids[found.changed][:examples])),
        updated_columns=columns,
        vectors=vectors,
        neighbours=neighbours,
        drift=drifted(a, b, heads=heads, examples=examples) if one_space else None,
        note=_note(found, one_space=one_space),
        seconds=time.monotonic() - started,
    )


def _side(table: FeatureTable) -> TableVersion:
    if table.version is None:
        raise NotFoundError(f"table '{table.name}' has no version yet.")
    return TableVersion(
        table=table.name, space_id=table.space_id, version=table.version, items=len(table), dim=table.dim
    )


def _note(found: Match, *, one_space: bool) -> str | None:
    same = int((~found.changed).sum())
    if not len(found.ids):
        return "no item_id is in both"
    if one_space:
        return None
    if same < 2:
        return "fewer than two items have the same content in both, so there are no neighbours to compare"
    if same < len(found.ids):
        return f"neighbours are compared among the {same:,} items with the same content in both"
    return None
