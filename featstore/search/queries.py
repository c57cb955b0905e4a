"""What can be asked: a picture, a text, an item of the table, a vector; one or many, of one kind or several."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from featstore.errors import UsageError

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Kind", "Query", "gather", "of_vectors"]

Kind = Literal["text", "image", "id", "vector"]


@dataclass(frozen=True, slots=True, eq=False)
class Query:
    """One thing that is asked.

    Attributes:
        name: What the result calls it: the text, the picture's path, the item's id, a vector's id or number.
        kind: What it is.
        content: A text or id; a picture's bytes; the file of a picture or text; a vector (d,) float32.
    """

    name: str
    kind: Kind
    content: str | bytes | Path | NDArray[np.float32]


def gather(
    *,
    text: str | Sequence[str] | None = None,
    image: str | os.PathLike[str] | bytes | Sequence[str | os.PathLike[str] | bytes] | None = None,
    id: str | Sequence[str] | None = None,
    vectors: Any = None,
) -> list[Query]:
    """The queries that were given, each kind in its order: pictures, texts, items, vectors.

    Args:
        text: Texts.
        image: Paths or contents of picture files.
        id: Ids of the table's items; each is asked once.
        vectors: (d,) or (q, d) numbers.

    Raises:
        UsageError: One is of another type.
    """
    found = [_picture(one, at) for at, one in enumerate(_several(image, (str, bytes, os.PathLike)))]
    found += [Query(_text(one, "text"), "text", one) for one in _several(text, (str,))]
    found += [Query(_text(one, "id"), "id", one) for one in dict.fromkeys(_several(id, (str,)))]
    return found + ([] if vectors is None else of_vectors(vectors))


def of_vectors(vectors: Any, names: Sequence[str] | None = None, *, called: str = "vectors") -> list[Query]:
    """Queries of vectors.

    Args:
        vectors: (d,) or (q, d) numbers.
        names: What to call them; by default their numbers, from 0.
        called: What messages call the whole.

    Raises:
        UsageError: They have another shape or type, hold NaN or infinity, or one is all zeros.
    """
    try:
        given = np.asarray(vectors)
    except ValueError as error:
        raise UsageError(f"{called} are no matrix: {error}.") from error
    if given.ndim == 1:
        given = given[None]
    if given.ndim != 2 or given.dtype.kind not in "fiu":
        raise UsageError(f"{called} are {given.dtype} {given.shape}; give numbers, (d,) or (q, d).")
    with np.errstate(over="ignore"):
        matrix = given.astype(np.float32)
    names = [str(at) for at in range(len(matrix))] if names is None else names
    for what, bad in (
        ("holds NaN or infinity", ~np.isfinite(matrix).all(axis=1)),
        ("is all zeros, which is near nothing", ~matrix.any(axis=1)),
    ):
        rows = np.flatnonzero(bad)
        if len(rows):
            which = f"the query '{names[rows[0]]}'" + (f" (and {len(rows) - 1:,} more)" if len(rows) > 1 else "")
            raise UsageError(f"{called}: {which} {what}.", hint="Take it out, or embed its item again.")
    return [Query(name, "vector", row) for name, row in zip(names, matrix, strict=True)]


def _several(given: Any, kinds: tuple[type, ...]) -> list[Any]:
    if given is None:
        return []
    if isinstance(given, kinds):
        return [given]
    return list(given) if isinstance(given, Iterable) else [given]


def _picture(given: object, at: int) -> Query:
    if isinstance(given, bytes):
        return Query(f"image {at}", "image", given)
    if isinstance(given, str | os.PathLike):
        path = Path(os.fsdecode(given))
        return Query(str(path), "image", path)
    raise UsageError(f"an image is a {type(given).__name__}; give a file's path or its bytes.")


def _text(given: object, kind: str) -> str:
    if not isinstance(given, str):
        raise UsageError(f"{'an id' if kind == 'id' else 'a text'} is a {type(given).__name__}; give a str.")
    return given
