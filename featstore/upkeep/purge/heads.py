"""Taking items out of what heads keep: their predictions and what their cards say; figures are sums and stay."""

from __future__ import annotations

import secrets
from collections.abc import Collection
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from featstore.errors import FeatstoreError
from featstore.heads import opening
from featstore.records import Artefact, HeadCard, PurgedHead
from featstore.storage import documents, frames, hashing
from featstore.upkeep.purge.files import without
from featstore.upkeep.purge.scan import own_rows

if TYPE_CHECKING:
    from featstore.layout import Layout
    from featstore.upkeep.purge.ids import Wanted

__all__ = ["clean", "learned"]

# Kinds that are made of their training items' vectors.
_OF_VECTORS = ("knn",)


def learned(layout: Layout, wanted: Wanted, paths: Collection[str]) -> list[PurgedHead]:
    """The heads that have learned from the items, or were tested on them.

    Args:
        layout: The store.
        wanted: The ids.
        paths: The files of heads that hold them.
    """
    found = []
    for card in opening.cards(layout, all_versions=True, broken=_passed_over):
        path = layout.head(card.head, card.version, card.predictions.file)
        if path not in paths:
            continue
        found.append(
            PurgedHead(
                head=card.head,
                version=card.version,
                rows=int(np.sum(own_rows(wanted, frames.read(layout.storage, path, ["item_id"])))),
                keeps_vectors=card.kind in _OF_VECTORS,
                again=f"featstore train-head {card.table}@{card.space_id} --label {card.label} --name {card.head}",
            )
        )
    return found


def clean(layout: Layout, wanted: Wanted, paths: Collection[str]) -> None:
    """Writes heads' predictions again without the items; a head is whole at any time.

    Args:
        layout: The store.
        wanted: The ids.
        paths: The files of heads that hold them.
    """
    folders = {path.rpartition("/")[0] for path in paths}
    for card in opening.cards(layout, all_versions=True):
        folder = layout.head(card.head, card.version)
        if folder not in folders:
            continue
        if f"{folder}/{card.predictions.file}" in paths:
            card = _rewritten(layout, wanted, card)
        for path in paths:
            if path.startswith(f"{folder}/") and path != f"{folder}/{card.predictions.file}":
                layout.storage.delete(path)
    for path in paths:
        layout.storage.delete(path)  # of a head that is not whole


def _rewritten(layout: Layout, wanted: Wanted, card: HeadCard) -> HeadCard:
    before = frames.read(layout.storage, layout.head(card.head, card.version, card.predictions.file))
    # Beside the old one: until the card names the new one, it fits the old one.
    path = layout.head(card.head, card.version, f"predictions-{secrets.token_hex(4)}.parquet")
    size = frames.write(layout.storage, path, without(wanted, before))
    made = Artefact(
        file=path.rpartition("/")[2],
        sha256=hashing.of_file(layout.storage.local(path)),
        bytes=size or layout.storage.stat(path).size,
    )
    said = "items were removed for good after it was trained: its figures still count them"
    card = replace(card, predictions=made, warnings=tuple(dict.fromkeys((*card.warnings, said))))
    documents.write(layout.storage, layout.head(card.head, card.version, opening.CARD), card)
    return card


def _passed_over(_: FeatstoreError) -> None:
    """A head that cannot be read is said by the scan."""
