"""What heads say of items that they have not seen: of those they were fitted on, what heads without them said."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from featstore.errors import IntegrityError
from featstore.heads.head import Head
from featstore.heads.opening import cards, open_head
from featstore.layout import Layout
from featstore.records import HeadCard
from featstore.storage import frames
from featstore.tables import FeatureTable

__all__ = ["Unseen", "of_table", "unseen"]


@dataclass(frozen=True)
class Unseen:
    """A head that answers for any item as if it had not learned from it.

    Attributes:
        head: The head.
        places: By the content's hash, for items that it was fitted on, their row of ``kept``.
        kept: (m, c) float32, what the heads of its training that lacked them said of these.
    """

    head: Head
    places: Mapping[str, int]
    kept: NDArray[np.float32]

    def __call__(self, contents: Sequence[str], vectors: NDArray[np.float32]) -> NDArray[np.float64]:
        """Probabilities (n, c) of items, given the hashes of their contents and their vectors (n, d)."""
        found = self.head.probabilities(vectors)
        at = np.array([self.places.get(content, -1) for content in contents], np.int64)
        found[at >= 0] = self.kept[at[at >= 0]]
        return found


def unseen(layout: Layout, addresses: Iterable[str]) -> dict[str, Unseen]:
    """The heads at some addresses, by name; those that predict numbers, or whose predictions were not kept, are not.

    Raises:
        NotFoundError: There is no such head.
        IntegrityError: A card or a file is damaged.
    """
    found = {}
    for address in addresses:
        card, head = open_head(layout, address)
        kept = None if head.task == "regression" else _out_of_fold(layout, card)
        if kept is not None:
            found[card.head] = Unseen(head, *kept)
    return found


def of_table(layout: Layout, table: FeatureTable) -> dict[str, Unseen]:
    """The heads of a table's space that were trained on it, each at its newest version up to the table's own.

    Raises:
        IntegrityError: A card or a file is damaged.
    """
    chosen: dict[str, HeadCard] = {}
    for card in cards(layout, all_versions=True):
        if (card.table, card.space_id) != (table.name, table.space_id):
            continue
        known = chosen.get(card.head)
        # The newest come first: an older one is taken as long as the one so far has seen later versions.
        if known is None or known.table_version > (table.version or 0):
            chosen[card.head] = card
    return unseen(layout, (f"{card.head}:{card.version}" for card in chosen.values()))


def _out_of_fold(layout: Layout, card: HeadCard) -> tuple[dict[str, int], NDArray[np.float32]] | None:
    path = layout.head(card.head, card.version, card.predictions.file)
    if not layout.storage.exists(path):
        raise IntegrityError(f"{layout.storage.local(path)} is missing; the head's card names it.")
    rows = pl.from_arrow(frames.read(layout.storage, path, ["content_sha256", "side", "probabilities"]))
    assert isinstance(rows, pl.DataFrame)
    mine = rows.filter(pl.col("side") == "train").unique("content_sha256", keep="first", maintain_order=True)
    if mine["probabilities"].null_count():
        return None
    values = mine["probabilities"].explode().to_numpy().reshape(mine.height, len(card.classes))
    return {content: at for at, content in enumerate(mine["content_sha256"].to_list())}, values.astype(np.float32)
