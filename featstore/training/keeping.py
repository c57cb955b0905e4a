"""Writing a head down: its arrays, what it predicted, and its card last, without which it is not there."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib import metadata
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from featstore.heads import keeping, opening
from featstore.heads.head import Head
from featstore.layout import Layout
from featstore.records import Artefact, HeadCard
from featstore.storage import documents, durable, frames, hashing, locks
from featstore.training.dividing import Division
from featstore.training.measuring import Measured

__all__ = ["Place", "adopt", "named", "next_version", "place", "predictions", "versions_of", "write_card", "write_head"]

_LIBRARIES = ("featstore", "numpy", "scipy", "scikit-learn", "torch")

# Probabilities of more items and classes than this are not kept beside the head: they would outweigh the table.
_MOST = 50_000_000


@dataclass(frozen=True)
class Place:
    """Where a head's new version is written; in a ``folder`` of a run it is not among the head's versions yet."""

    layout: Layout
    name: str
    version: int
    folder: str | None = None

    def path(self, file: str) -> str:
        """A file of it, relative to the store."""
        if self.folder is None:
            return self.layout.head(self.name, self.version, file)
        return f"{self.folder}/{file}" if file else self.folder


@contextmanager
def place(layout: Layout, name: str, folder: str | None = None) -> Iterator[Place]:
    """Holds a head's name for the length of the block and gives it a new version's folder, or the one that is named.

    What is not whole at the end, because of an error or a signal, is removed; what a killed training has left is
    replaced.

    Raises:
        LockedError: Another process is training it.
    """
    with locks.hold(layout.storage, layout.head_lock(name), purpose=f"training head '{name}'"):
        found = Place(layout, name, next_version(layout, name), folder)
        layout.storage.delete_folder(found.path(""))
        try:
            yield found
        finally:
            if not layout.storage.exists(found.path(opening.CARD)):
                layout.storage.delete_folder(found.path(""))


def next_version(layout: Layout, name: str) -> int:
    """The number that the head's next version gets, from 1."""
    return max(opening.versions(layout, name), default=0) + 1


def predictions(
    where: Place, division: Division, classes: tuple[str, ...], measured: Measured, guesses: NDArray[Any]
) -> tuple[Artefact, list[str]]:
    """Writes what the head says of every item of a side.

    Args:
        where: The head's place.
        division: The items and their sides.
        classes: The classes.
        measured: What was said of the training items unseen, and of the test items.
        guesses: (n,) class numbers, (n, c) bool or (n,) values for the items of both sides, in their order.

    Returns:
        The file, and a warning where it lacks the probabilities.
    """
    data, split = division.data, division.split
    train = split.train
    at = np.flatnonzero(train | split.test)
    truth = data.truth[at]
    values: dict[str, Any] = {
        "item_id": pa.array([data.ids[row] for row in at.tolist()], pa.string()),
        "content_sha256": pa.array([data.contents[row] for row in at.tolist()], pa.string()),
        "group": division.groups[at],
        "fold": np.where(train, split.fold, -1)[at],
        "side": pa.array(["train" if row else "test" for row in train[at].tolist()], pa.string()),
        "truth": named(data.task, classes, truth),
        "predicted": named(data.task, classes, guesses),
    }
    notes = []
    if data.task == "regression":
        values["probabilities"] = pa.nulls(len(at), pa.list_(pa.float32()))
    elif len(at) * len(classes) > _MOST:
        values["probabilities"] = pa.nulls(len(at), pa.list_(pa.float32()))
        notes.append(f"the probabilities of {len(at):,} items in {len(classes):,} classes are not kept with the head")
    else:
        chances = np.empty((len(at), len(classes)), np.float32)
        chances[train[at]], chances[~train[at]] = measured.unseen, measured.tested
        offsets = pa.array(np.arange(len(at) + 1, dtype=np.int32) * len(classes), pa.int32())
        values["probabilities"] = pa.ListArray.from_arrays(offsets, pa.array(chances.reshape(-1), pa.float32()))
    path = where.path(opening.PREDICTIONS)
    frames.write(where.layout.storage, path, pa.table(values))
    local = where.layout.storage.local(path)
    return Artefact(
        file=opening.PREDICTIONS, sha256=hashing.of_file(local), bytes=where.layout.storage.stat(path).size
    ), notes


def named(task: str, classes: tuple[str, ...], values: NDArray[Any]) -> pa.Array[Any]:
    """Class numbers as labels, rows of bools as lists of labels, values as they are."""
    if task == "regression":
        return pa.array(values, pa.float64())
    if task == "multilabel":
        found = [[classes[at] for at in np.flatnonzero(row).tolist()] for row in values]
        return pa.array(found, pa.list_(pa.string()))
    return pa.array([classes[at] for at in values.tolist()], pa.string())


def write_head(where: Place, head: Head) -> Artefact:
    """Writes the head's arrays."""
    return keeping.write(head, where.layout.storage, where.path(keeping.HEAD_FILE))


def write_card(where: Place, card: HeadCard) -> None:
    """Writes the card: from now on the version is there."""
    documents.write(where.layout.storage, where.path(opening.CARD), card, create=True)


def adopt(layout: Layout, folder: str) -> HeadCard:
    """Makes a head that lies in a run's folder the next version of its name; the folder stays.

    Raises:
        IntegrityError: Its card is damaged.
        LockedError: Another process is training the head.
    """
    card = documents.read(layout.storage, f"{folder}/{opening.CARD}", HeadCard)
    with place(layout, card.head) as where:
        for artefact in (card.head_file, card.predictions):
            target = layout.storage.local(where.path(artefact.file))
            durable.link(layout.storage.local(f"{folder}/{artefact.file}"), target)
        card = replace(card, version=where.version)
        write_card(where, card)
    return card


def versions_of() -> dict[str, str]:
    """The versions of what computes heads, as far as it is installed."""
    found = {}
    for name in _LIBRARIES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found
