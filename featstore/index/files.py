"""The three files of an index: written so that a reader finds all of them or none, checked before they are used."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from featstore.errors import IntegrityError
from featstore.records import Artefact, IndexCard
from featstore.storage import documents, durable, frames, hashing
from featstore.tables import checked

if TYPE_CHECKING:
    from featstore.layout import Layout
    from featstore.neighbours import VectorIndex

__all__ = ["CARD", "IDS", "INDEX", "check", "damage", "find_card", "read_ids", "remove", "versions", "write"]

INDEX, IDS, CARD = "index.faiss", "ids.parquet", "card.json"

_HINT = "Make it again: featstore index {name}@{space}"


def versions(layout: Layout, name: str, space_id: str) -> list[int]:
    """The versions that there are folders of indexes for, the newest first."""
    found = layout.storage.folders(layout.indexes(name, space_id))
    return sorted((int(version) for version in found if version.isascii() and version.isdigit()), reverse=True)


def find_card(layout: Layout, name: str, space_id: str, version: int) -> IndexCard | None:
    """The card of an index; None where there is none.

    Raises:
        IntegrityError: The card is damaged.
    """
    return documents.find(layout.storage, layout.index(name, space_id, version, CARD), IndexCard)


def write(
    layout: Layout, card: IndexCard, index: VectorIndex | Path, ids: pa.Table, rows: NDArray[np.int64]
) -> IndexCard:
    """Writes an index in the place of one of the same version; it is there once its card is.

    Args:
        layout: The store.
        card: What to say of it; ``index``, ``ids`` and ``bytes_per_vector`` in it are filled in here.
        index: The FAISS index, or the file of one that has not changed.
        ids: ``item_id`` and ``content_sha256``, one row for each FAISS id.
        rows: For each FAISS id its row in the table at the card's version, -1 for an item that has left.

    Returns:
        The card as it was written.

    Raises:
        StorageError: The disk refused; what was there before is still there or can be made again.
    """
    storage = layout.storage
    folder = layout.index(card.name, card.space_id, card.version)
    targets = [storage.local(f"{folder}/{file}") for file in (INDEX, IDS)]
    new = [durable.temporary(target) for target in targets]
    try:
        if isinstance(index, Path):
            durable.link(index, new[0])
        else:
            durable.make_folder(new[0].parent)
            index.write(new[0])
        column = pa.array(rows, pa.int64(), mask=rows < 0)
        frames.write(storage, new[1].relative_to(storage.root).as_posix(), ids.append_column("row", column))
        found = [
            Artefact(file=target.name, sha256=hashing.of_file(path), bytes=path.stat().st_size)
            for target, path in zip(targets, new, strict=True)
        ]
        card = replace(card, index=found[0], ids=found[1], bytes_per_vector=round(found[0].bytes / len(rows), 1))
        storage.delete(f"{folder}/{CARD}")  # from here on there is no index, rather than half a new one
        for path, target in zip(new, targets, strict=True):
            durable.move(path, target)
        documents.write(storage, f"{folder}/{CARD}", card)
    finally:
        for path in new:
            storage.delete(path.relative_to(storage.root).as_posix())
    _remember(layout, card)
    return card


def check(layout: Layout, card: IndexCard, *, always: bool = False) -> None:
    """Compares both files with the card; one that has passed and not changed since is not read again.

    Raises:
        IntegrityError: One is missing or is not what was written.
    """
    known = {} if always else checked.recall(layout)
    new = False
    for artefact in (card.index, card.ids):
        path = _path(layout, card, artefact)
        where = layout.storage.local(path)
        if not layout.storage.exists(path):
            raise damage(card, f"{where} is missing")
        stat = layout.storage.stat(path)
        if stat.size != artefact.bytes:
            raise damage(card, f"{where} has {stat.size:,} bytes, {artefact.bytes:,} were written")
        if known.get(path) == stat:
            continue
        if hashing.of_file(where) != artefact.sha256:
            raise damage(card, f"{where} is not what was written: its SHA-256 differs from the one in {CARD}")
        new = True
    if new:
        _remember(layout, card)


def read_ids(layout: Layout, card: IndexCard, columns: list[str]) -> tuple[pa.Table, NDArray[np.int64]]:
    """Reads who stands behind each FAISS id.

    Returns:
        The columns, and for each FAISS id its row in the table at the card's version, -1 for one that has left.

    Raises:
        IntegrityError: The file is damaged or does not fit the card.
    """
    found = frames.read(layout.storage, _path(layout, card, card.ids), [*columns, "row"])
    column = found["row"]
    if column.null_count:
        import pyarrow.compute as pc  # takes as long as a small search

        column = pc.fill_null(column, -1)  # type: ignore[arg-type]
    rows = np.asarray(column, np.int64)
    live = rows if rows.min(initial=0) >= 0 else rows[rows >= 0]
    if len(rows) != card.items + card.tombstones or len(live) != card.items or sum(card.files.values()) != card.items:
        raise damage(card, f"{IDS} and {CARD} do not count the same items")
    seen = np.zeros(card.items, np.bool_)
    seen[live[live < card.items]] = True
    if not seen.all():
        raise damage(card, f"{IDS} does not name every row of version {card.version} once")
    return found.drop_columns(["row"]), rows


def remove(layout: Layout, name: str, space_id: str, version: int) -> None:
    """Removes an index, its card first, so that nobody opens what is going."""
    layout.storage.delete(layout.index(name, space_id, version, CARD))
    layout.storage.delete_folder(layout.index(name, space_id, version))


def damage(card: IndexCard, what: str) -> IntegrityError:
    """The error for an index that is not what was written."""
    return IntegrityError(
        f"the index of '{card.name}' at version {card.version} is damaged: {what}.",
        hint=_HINT.format(name=card.name, space=card.space_id),
    )


def _path(layout: Layout, card: IndexCard, artefact: Artefact) -> str:
    return layout.index(card.name, card.space_id, card.version, artefact.file)


def _remember(layout: Layout, card: IndexCard) -> None:
    paths = [_path(layout, card, artefact) for artefact in (card.index, card.ids)]
    checked.remember(layout, {path: layout.storage.stat(path) for path in paths})
