"""The vectors of a table, for the head of its space."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from featstore import addresses
from featstore.errors import NotFoundError, SpaceMismatchError, UsageError
from featstore.export.selection import Selected, Selection, select
from featstore.models import load_card
from featstore.predicting.blocks import OWN, Block, Taken
from featstore.tables import FeatureTable

if TYPE_CHECKING:
    from featstore.layout import Layout
    from featstore.records import HeadCard

__all__ = ["from_table", "open_table"]

_HEADS_SPACE = "A head takes vectors of its own space only. Train one for this table: featstore train-head"


def open_table(layout: Layout, card: HeadCard, address: str) -> FeatureTable:
    """A table by its address; of several spaces under one name the head's own.

    Raises:
        NotFoundError: There is no such table or version.
        SpaceMismatchError: The table is of another space than the head; both are named.
        UsageError: It is no address.
    """
    where = addresses.parse(address)
    if where.model is None and card.space_id in layout.storage.folders(f"features/{where.name}"):
        where = replace(where, model=card.space_id)
    try:
        name, space_id = addresses.resolve(layout, where)
    except NotFoundError:
        raise
    except UsageError as error:  # several spaces, none of them the head's
        spaces = ", ".join(layout.storage.folders(f"features/{where.name}"))
        raise _mismatch(layout, card, f"the table '{where.name}' has vectors of {spaces}") from error
    features = FeatureTable.open(layout, name, space_id, addresses.meant(layout, where, space_id))
    if space_id != card.space_id or features.dim != card.dim:
        held = f"{space_id}{_model(layout, space_id)}, {features.dim} values"
        raise _mismatch(layout, card, f"the table '{name}' holds vectors of {held}")
    return features


def from_table(layout: Layout, features: FeatureTable, *, where: str | None, limit: int | None) -> Taken:
    """The items of a version of a table, in its own order.

    Args:
        layout: The store.
        features: The version, of the head's space.
        where: Only rows for which this Polars SQL expression holds.
        limit: Only the first so many of them.

    Raises:
        NotFoundError: A column is not there, or the version's files are no longer kept.
        UsageError: The expression cannot be used.
    """
    kept = [name for name in features.column_names if name not in ("item_id", "embedding", *OWN)]
    selected = select(layout, features, Selection(where=where, columns=kept))
    empty = features.rows(["item_id", *selected.columns]).slice(0, 0).drop_columns(["_file", "_row"])
    total = selected.rows if limit is None else min(limit, selected.rows)
    name = f"{features.name}@{features.space_id}:{features.version}"
    return Taken(name, empty, total, _blocks(selected, total))


def _blocks(selected: Selected, total: int) -> Iterator[Block]:
    left = total
    for rows, vectors in selected.blocks():
        if left <= 0:
            return
        taken = min(left, rows.num_rows)
        left -= taken
        yield Block(rows.slice(0, taken), vectors[:taken], stored=taken)


def _mismatch(layout: Layout, card: HeadCard, found: str) -> SpaceMismatchError:
    trained = f"{card.space_id}{_model(layout, card.space_id)}, {card.dim} values"
    return SpaceMismatchError(
        f"the head '{card.head}:{card.version}' was trained on vectors of {trained}; {found}.",
        hint=_HEADS_SPACE,
    )


def _model(layout: Layout, space_id: str) -> str:
    """What a message says of a space beside its id."""
    try:
        card = load_card(layout, space_id)
    except NotFoundError:
        return ""
    return f" ({card.model}, card {card.digest[:12]}…)"
