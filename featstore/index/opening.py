"""Finding and opening the index of a table."""

from __future__ import annotations

from typing import TYPE_CHECKING

from featstore.errors import IntegrityError, NotFoundError, SpaceMismatchError
from featstore.index import files
from featstore.index.freshness import align
from featstore.index.table_index import TableIndex

if TYPE_CHECKING:
    from featstore.layout import Layout
    from featstore.neighbours import VectorIndex
    from featstore.records import IndexCard
    from featstore.tables import FeatureTable

__all__ = ["newest_card", "open_index", "open_vectors"]


def open_index(layout: Layout, features: FeatureTable) -> TableIndex | None:
    """Opens the index of the very version, else the one that is nearest to it: see ``newest_card``.

    The FAISS file is mapped, not read; its digest is compared on the first use and after every change.

    Returns:
        None where there is no index.

    Raises:
        IntegrityError: The index is damaged; search without it, or make it again.
        SpaceMismatchError: It was made for another space.
    """
    card = newest_card(layout, features)
    while card is not None:
        try:
            opened = TableIndex(features, card, open_vectors(layout, card), align(layout, card, features))
        except (IntegrityError, NotFoundError):
            again = newest_card(layout, features)
            if again == card:
                raise
        else:
            again = newest_card(layout, features)
            if again == card:
                return opened
        card = again  # another process has put a newer index in its place, or taken it away, meanwhile
    return None


def newest_card(layout: Layout, features: FeatureTable) -> IndexCard | None:
    """The card of the index that serves a version best: its own, else the last before it, else the newest there is.

    One of a later version may be of a run that a gate refused.

    Raises:
        IntegrityError: The card is damaged.
        SpaceMismatchError: It speaks of another space.
    """
    there = files.versions(layout, features.name, features.space_id)
    own = features.version or 0
    for version in sorted(there, key=lambda version: (version == own, version < own, version), reverse=True):
        card = files.find_card(layout, features.name, features.space_id, version)
        if card is None:
            continue  # being written, or what a killed run has left
        if card.space_id != features.space_id or card.dim != features.dim:
            raise SpaceMismatchError(
                f"the index of version {version} of '{features.name}' is of the space {card.space_id} ({card.dim} "
                f"values); the table is of {features.space_id} ({features.dim}).",
                hint=f"Make one for this space: featstore index {features.name}@{features.space_id}",
            )
        return card
    return None


def open_vectors(layout: Layout, card: IndexCard) -> VectorIndex:
    """Opens the FAISS file of a card, mapped, once it is known to be the one that was written.

    Raises:
        IntegrityError: It is missing, damaged, or not as its card says.
    """
    from featstore.neighbours import VectorIndex

    files.check(layout, card)
    path = layout.index(card.name, card.space_id, card.version, files.INDEX)
    index = VectorIndex.read(layout.storage.local(path))
    if index.dim != card.dim or index.count != card.items + card.tombstones:
        wanted = f"{card.items + card.tombstones:,} of {card.dim}"
        raise files.damage(card, f"it holds {index.count:,} vectors of {index.dim} values, not {wanted}")
    return index
