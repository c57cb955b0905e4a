"""Taking items out of what heads keep: their predictions, what their cards say, and the vectors that a head of
neighbours is made of. Figures, and weights that are sums over many items, stay.
"""

from __future__ import annotations

import secrets
from collections.abc import Collection
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from featstore.errors import FeatstoreError, IntegrityError
from featstore.heads import keeping, opening
from featstore.records import Artefact, HeadCard, PurgedHead
from featstore.storage import documents, frames, hashing
from featstore.upkeep.purge.files import without
from featstore.upkeep.purge.scan import own_rows

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from featstore.layout import Layout
    from featstore.upkeep.purge.ids import Wanted

__all__ = ["clean", "learned", "remaining"]

_SAID = "items were removed for good after it was trained: its figures still count them"
_HOLDS = "a class had no other item to learn from than one that was removed for good: its weights are that vector"


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
        rows = frames.read(layout.storage, path)
        own = own_rows(wanted, rows)
        trained = np.asarray(pc.equal(rows["side"], pa.scalar("train")))
        found.append(
            PurgedHead(
                head=card.head,
                version=card.version,
                rows=int(own.sum()),
                vectors=int(np.sum(own & trained)) if card.kind == "knn" else 0,
                keeps_vectors=_alone(card, rows, own & trained, trained),
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
        # The weights before the predictions: by these the head is found again if this is cut short.
        stale = [path for path in layout.storage.files(folder) if path.endswith((".safetensors", ".parquet"))]
        for path in sorted(stale, key=lambda path: path.endswith(".parquet")):
            if path.rpartition("/")[2] not in (card.head_file.file, card.predictions.file):
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
    own, trained = own_rows(wanted, before), np.asarray(pc.equal(before["side"], pa.scalar("train")))
    said = (_SAID, _HOLDS) if _alone(card, before, own & trained, trained) else (_SAID,)
    card = replace(card, predictions=made, warnings=tuple(dict.fromkeys((*card.warnings, *said))))
    if card.kind == "knn" and (own & trained).any():
        card = replace(card, head_file=_forgotten(layout, card, own[trained]))
    documents.write(layout.storage, layout.head(card.head, card.version, opening.CARD), card)
    return card


def _forgotten(layout: Layout, card: HeadCard, own: NDArray[np.bool_]) -> Artefact:
    """A head of neighbours without some of them; it knows its training items in the order of its predictions.

    Raises:
        IntegrityError: Its file is damaged, or knows other items than it was trained on.
    """
    head = keeping.read(layout.storage, layout.head(card.head, card.version, card.head_file.file), card.head_file, card)
    known, target = head.arrays["known"][: len(own)], head.arrays["known_target"][: len(own)]
    if len(head.arrays["known"]) != len(own):
        raise IntegrityError(
            f"head {card.head}:{card.version} knows {len(head.arrays['known']):,} items, its predictions {len(own):,}: "
            "nobody knows which vectors are whose.",
            hint="Remove it: train it anew, publish that, and run featstore gc.",
        )
    kept = ~own
    arrays = {**head.arrays, "known": known[kept], "known_target": target[kept]}
    if not kept.any():  # a neighbour of no direction and of no class, so that every class is as likely
        arrays |= {"known": np.zeros_like(known[:1]), "known_target": np.zeros_like(target[:1])}
    path = layout.head(card.head, card.version, f"head-{secrets.token_hex(4)}.safetensors")
    return keeping.write(replace(head, arrays=arrays), layout.storage, path)


def _alone(card: HeadCard, rows: pa.Table, own: NDArray[np.bool_], trained: NDArray[np.bool_]) -> bool:
    """Whether a class's mean is the mean of removed items only."""
    if card.kind != "prototypes" or not own.any():
        return False

    def classes(of: NDArray[np.bool_]) -> set[str]:
        truth = rows["truth"].filter(pa.array(of)).to_pylist()
        return {str(one) for value in truth for one in (value if isinstance(value, list) else [value])}

    return bool(classes(own) - classes(trained & ~own))


def remaining(layout: Layout, learned: Collection[PurgedHead]) -> list[str]:
    """Where a vector of a removed item stays, of this purge or an earlier one, and what to do about it."""
    now = {(head.head, head.version) for head in learned if head.keeps_vectors}
    return [
        f"head {card.head}:{card.version}: {_HOLDS}; train it again (featstore train-head "
        f"{card.table}@{card.space_id} --label {card.label} --name {card.head}), then remove version {card.version} "
        f"(featstore gc --keep 1 --grace-hours 0), which stays while it is published or rollback can go back to it"
        for card in opening.cards(layout, all_versions=True, broken=_passed_over)
        if (card.head, card.version) in now or _HOLDS in card.warnings
    ]


def _passed_over(_: FeatstoreError) -> None:
    """A head that cannot be read is said by the scan."""
