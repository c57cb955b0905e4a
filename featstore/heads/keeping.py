"""A head's file: its arrays as safetensors, which can hold nothing that runs.

What the arrays mean (task, kind, classes, settings) is on the card. A file is opened only while its size and SHA-256
are the card's, and its arrays must have the shapes that follow from the card's classes and dimension.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from featstore.errors import IntegrityError, NotFoundError
from featstore.heads.head import Head
from featstore.records import Artefact, HeadCard
from featstore.storage import Storage, hashing

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["HEAD_FILE", "encode", "read", "write"]

HEAD_FILE = "head.safetensors"

_ANEW = "Make it anew: featstore train-head"

# d: the space's values, c: classes (1 for numbers), h: hidden values, m: items that a knn head knows.
_LINEAR = {"weights": "cd", "bias": "c"}
_MLP = {"hidden_weights": "hd", "hidden_bias": "h", "weights": "ch", "bias": "c"}
_NEIGHBOURS = {"known": "md", "known_target": "mc"}
_INPUT = {"mean": "d", "factor": "d"}
_DTYPES = ("float32", "float64", "int64")


def write(head: Head, storage: Storage, path: str) -> Artefact:
    """Writes a head's arrays durably; equal heads are equal files.

    Args:
        head: The head.
        storage: Where to.
        path: The file, relative to the storage's root.

    Returns:
        The file's name within its folder, SHA-256 and bytes, for the card.

    Raises:
        StorageError: The disk refused.
    """
    content = encode(head)
    storage.write(path, content)
    return Artefact(file=path.rpartition("/")[2], sha256=hashing.of_bytes(content), bytes=len(content))


def encode(head: Head) -> bytes:
    """A head's arrays as the bytes of a safetensors file."""
    import safetensors.numpy

    # One key only: the library writes several in no fixed order.
    note = {"featstore": f"{head.kind} {head.task}"}
    arrays = {name: np.ascontiguousarray(array) for name, array in sorted(head.arrays.items())}
    return safetensors.numpy.save(arrays, metadata=note)


def read(storage: Storage, path: str, artefact: Artefact, card: HeadCard) -> Head:
    """Opens a head's file for what its card says it is.

    Args:
        storage: Where it lies.
        path: The file, relative to the storage's root.
        artefact: Its size and digest, from the card.
        card: The card.

    Raises:
        IntegrityError: It is missing, changed, or does not hold what the card says.
    """
    where = storage.local(path)
    try:
        size = storage.stat(path).size
        if size != artefact.bytes:
            raise IntegrityError(f"{where} is damaged: {size:,} bytes, its card says {artefact.bytes:,}.", hint=_ANEW)
        content = storage.read(path)
    except NotFoundError as error:
        raise IntegrityError(f"{where} is missing; the head's card names it.", hint=_ANEW) from error
    if hashing.of_bytes(content) != artefact.sha256:
        raise IntegrityError(f"{where} is damaged: its SHA-256 is not the one on its card.", hint=_ANEW)
    import safetensors
    import safetensors.numpy

    try:
        arrays: dict[str, NDArray[Any]] = safetensors.numpy.load(content)
    except (safetensors.SafetensorError, KeyError, ValueError) as error:
        raise IntegrityError(f"{where} does not hold a head: {error}.", hint=_ANEW) from error
    wrong = _problem(arrays, card)
    if wrong is not None:
        raise IntegrityError(f"{where} does not hold the head of its card: {wrong}.", hint=_ANEW)
    return Head(card.task, card.kind, card.classes, card.dim, card.input, arrays, dict(card.settings))


def _problem(arrays: Mapping[str, NDArray[Any]], card: HeadCard) -> str | None:
    """What of some arrays is not as the card says, in words."""
    needed, allowed = _shapes(card)
    missing, strange = sorted(set(needed) - set(arrays)), sorted(set(arrays) - set(allowed))
    if missing or strange:
        return " and ".join([f"it lacks '{name}'" for name in missing] + [f"it has '{name}'" for name in strange])
    if ("mean" in arrays) != ("factor" in arrays):
        return "'mean' and 'factor' belong together"
    sizes = {"d": card.dim, "c": len(card.classes) or 1}
    for name, array in sorted(arrays.items(), key=lambda pair: list(allowed).index(pair[0])):
        if array.dtype.name not in _DTYPES:
            return f"'{name}' is {array.dtype.name}, not one of {', '.join(_DTYPES)}"
        letters = allowed[name]
        if array.ndim == len(letters):
            for letter, size in zip(letters, array.shape, strict=True):
                sizes.setdefault(letter, size)
        wanted = tuple(sizes.get(letter, 0) for letter in letters)
        if array.shape != wanted:
            return f"'{name}' has the shape {array.shape}, not {wanted}"
        if not np.isfinite(array).all():
            return f"'{name}' holds NaN or infinity"
    if sizes.get("m", 0) > card.n_train:
        return f"it knows {sizes['m']:,} items; {card.n_train:,} were trained on"
    return None


def _shapes(card: HeadCard) -> tuple[dict[str, str], dict[str, str]]:
    """The arrays that a head of this kind must have, and those that it may."""
    needed = {"knn": _NEIGHBOURS, "torch-mlp": _MLP}.get(card.kind, _LINEAR)
    thresholds = {"thresholds": "c"} if card.task == "multilabel" else {}
    return needed, needed | _INPUT | thresholds
