"""From queries to vectors that can be compared with the table's: through its own model, a twin tower or a bridge."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from featstore.errors import ItemError, NotFoundError, SpaceMismatchError, UsageError
from featstore.layout import Layout
from featstore.models import load_card
from featstore.records import ModelCard
from featstore.search import across
from featstore.search.encoding import QueryEncoder
from featstore.search.queries import Query
from featstore.search.vector_files import Origin
from featstore.search.vectors import TableVectors
from featstore.tables import FeatureTable

__all__ = ["Part", "Routes"]


@dataclass(frozen=True)
class Part:
    """Queries that are compared in the same way.

    Attributes:
        numbers: (m,) int64, which of the queries.
        vectors: (m, d) float32.
        space: What they are compared with.
        note: What the user should know of the way.
        errors: Queries that could not be encoded, by number.
    """

    numbers: NDArray[np.int64]
    vectors: NDArray[np.float32]
    space: TableVectors
    note: str | None = None
    errors: Mapping[int, ItemError] = field(default_factory=dict)


class Routes:
    """The ways to one table; a way that was found is kept.

    Args:
        layout: The store.
        table: The version.
        device: What encodes the queries, as in ``QueryEncoder``.
        progress: Told where a model has to be brought into the store.
    """

    def __init__(
        self, layout: Layout, table: FeatureTable, device: str | None, progress: Callable[[str], None]
    ) -> None:
        self.vectors = TableVectors(layout, table)
        self._layout = layout
        self._table = table
        self._progress = progress
        self._encoder = QueryEncoder(layout, device)
        self._found: dict[str, tuple[ModelCard, TableVectors, str | None]] = {}

    @functools.cached_property
    def card(self) -> ModelCard:
        """The card of the table's model; items and vectors are compared without it."""
        return load_card(self._layout, self._table.space_id)

    def parts(self, asked: Sequence[Query], own: NDArray[np.int64]) -> list[Part]:
        """The queries as vectors.

        Args:
            asked: Queries of any kinds.
            own: (q,) int64, the rows of those that are items of the table.

        Raises:
            UsageError: Nothing leads from a text or picture to the table's vectors.
            SpaceMismatchError: A vector has another length than the table's.
            IntegrityError: A model or the table is damaged.
        """
        of: dict[str, list[int]] = {}
        for at, query in enumerate(asked):
            of.setdefault(query.kind, []).append(at)
        found = []
        for kind, places in of.items():
            numbers, some = np.array(places, np.int64), [asked[at] for at in places]
            if kind == "id":
                found.append(Part(numbers, self._table.vectors_at(own[numbers]), self.vectors))
            elif kind == "vector":
                found.append(Part(numbers, self._given(some), self.vectors))
            else:
                card, space, note = self._way(kind)
                vectors, errors = self._encoder.encode(card, some)
                good = np.array([row not in errors for row in range(len(some))])
                refused = {places[row]: error for row, error in errors.items()}
                found.append(Part(numbers[good], vectors[good], space, note, refused))
        return found

    def check_origin(self, origin: Origin, file: Path) -> None:
        """Refuses vectors of a file that says they are of a space whose vectors are not to be compared with these.

        Raises:
            SpaceMismatchError: They are; both spaces are named.
        """
        if origin.space_id is None and origin.digest is None:
            return
        if (origin.digest or self.card.digest) == self.card.digest and (
            origin.digest is not None or origin.space_id == self.card.space_id
        ):
            return  # the same function, perhaps under another name
        if self._is_twin(origin):
            return
        named = origin.space_id or f"the digest {str(origin.digest)[:16]}…"
        raise SpaceMismatchError(
            f"{file} holds vectors of {named}; '{self._table.name}' is in the space {self.card.space_id}.",
            hint="Vectors of two spaces cannot be compared; search with those of the table's own model.",
        )

    def _is_twin(self, origin: Origin) -> bool:
        """Whether the vectors are of the other tower of the table's model."""
        if origin.space_id is None or self.card.joint_id is None:
            return False
        try:
            other = load_card(self._layout, origin.space_id)
        except NotFoundError:
            return False
        return other.joint_id == self.card.joint_id and origin.digest in (None, other.digest)

    def _given(self, asked: Sequence[Query]) -> NDArray[np.float32]:
        vectors = [np.asarray(query.content, np.float32) for query in asked]
        for query, vector in zip(asked, vectors, strict=True):
            if len(vector) != self._table.dim:
                raise SpaceMismatchError(
                    f"the query vector '{query.name}' has {len(vector)} values; "
                    f"those of {self._table.space_id} have {self._table.dim}.",
                    hint="Search with vectors of the model that the table was made with.",
                )
        return np.stack(vectors)

    def _way(self, kind: str) -> tuple[ModelCard, TableVectors, str | None]:
        """Which model encodes a text or picture for this table, and what its vectors are compared with."""
        if kind not in self._found:
            if kind == self.card.modality:
                self._found[kind] = (self.card, self.vectors, None)
            elif kind == "text":
                route = across.text_route(self._layout, self.card, progress=self._progress)
                projected = route.project is not None
                space = TableVectors(self._layout, self._table, route.project) if projected else self.vectors
                self._found[kind] = (route.encode_with, space, route.note)
            else:
                self._found[kind] = (self._image_tower(), self.vectors, None)
        return self._found[kind]

    def _image_tower(self) -> ModelCard:
        """The store's image tower of the two-tower model that has embedded this table's texts."""
        folders = self._layout.storage.folders("models") if self.card.joint_id is not None else []
        for space in folders:
            if self._layout.storage.exists(self._layout.model_card(space)):
                card = load_card(self._layout, space)
                if card.modality == "image" and card.joint_id == self.card.joint_id:
                    return card
        raise UsageError(
            f"'{self._table.name}' holds texts in the space {self._table.space_id}, and a picture was asked.",
            hint="Ask by --text, --id or --vectors. Pictures find texts only where the two towers of one model have "
            "embedded both, and both are in the store.",
        )
