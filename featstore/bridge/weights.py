"""A map as a file: safetensors, under a name of its content, put beside its card and checked against it."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from featstore.bridge.maps import Map
from featstore.errors import IntegrityError
from featstore.layout import Layout
from featstore.records import Artefact
from featstore.storage import documents, hashing, locks

__all__ = ["CARD", "Names", "artefact", "decode", "encode", "project", "put"]

CARD = "card.json"

Names = tuple[str, str, str]
"""What the file calls the mean that is taken away, the matrix and the mean that is added."""

# Rows that are projected at once: 2,048 values in and 384 out are 160 MB.
_ROWS = 16_384


def encode(found: Map, names: Names) -> bytes:
    """A map as a safetensors file, float32."""
    import safetensors.numpy

    tensors = zip(names, (found.x_mean, found.matrix, found.y_mean), strict=True)
    return safetensors.numpy.save({name: np.ascontiguousarray(array) for name, array in tensors})


def artefact(content: bytes, kind: str) -> Artefact:
    """What a card says of a file of weights."""
    digest = hashing.of_bytes(content)
    return Artefact(file=f"{kind}-{digest[:16]}.safetensors", sha256=digest, bytes=len(content))


def decode(content: bytes, wanted: Artefact, names: Names, dims: tuple[int, int], *, where: str, anew: str) -> Map:
    """The map of a file that is what its card says.

    Args:
        content: The file.
        wanted: What the card says of it.
        names: Of the arrays.
        dims: How many values go in and come out.
        where: How to call the file in messages.
        anew: How to make another.

    Raises:
        IntegrityError: It is damaged, or holds something else.
    """
    import safetensors
    import safetensors.numpy

    if len(content) != wanted.bytes or hashing.of_bytes(content) != wanted.sha256:
        raise IntegrityError(f"{where} is damaged: its SHA-256 is not the one on its card.", hint=anew)
    try:
        tensors = safetensors.numpy.load(content)
        found = Map(*(tensors[name] for name in names))
    except (safetensors.SafetensorError, KeyError, ValueError) as error:
        raise IntegrityError(f"{where} does not hold a bridge: {error}.") from error
    shapes = (found.x_mean.shape, found.matrix.shape, found.y_mean.shape)
    if shapes != ((dims[0],), dims, (dims[1],)):
        raise IntegrityError(f"{where} holds arrays of {shapes}; its card says {dims[0]} to {dims[1]}.")
    return found


def project(found: Map, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Maps (n, x_dim) to (n, y_dim) float32 of length 1, some rows at once."""
    made = np.empty((len(vectors), found.matrix.shape[1]), np.float32)
    for start in range(0, len(vectors), _ROWS):
        made[start : start + _ROWS] = found.apply(vectors[start : start + _ROWS])
    return made


def put(layout: Layout, folder: str, card: Any, content: bytes, *, weights: Artefact, lock: str) -> None:
    """Writes card and weights into a folder, in place of what lay there.

    The weights first, under a name of their own, then the card: a reader has the old bridge or the new one.

    Raises:
        LockedError: Another process is at the same bridge.
        StorageError: The disk refused.
    """
    with locks.hold(layout.storage, layout.lock(lock), purpose="keeping a bridge"):
        layout.storage.write(f"{folder}/{weights.file}", content)
        documents.write(layout.storage, f"{folder}/{CARD}", card)
        for path in layout.storage.files(folder):
            if path not in (f"{folder}/{CARD}", f"{folder}/{weights.file}"):
                layout.storage.delete(path)
