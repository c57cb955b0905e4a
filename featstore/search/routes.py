"""From queries to vectors that can be compared with the table's: by its own model or another, a tower, a bridge."""

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
from featstore.search.asking import Project, asking
from featstore.search.encoding import QueryEncoder
from featstore.search.queries import Query
from featstore.search.vector_files import Origin
from featstore.search.vectors import TableVectors
from featstore.tables import FeatureTable

__all__ = ["Part", "Routes"]

_A = {"text": "a text", "image": "an image"}


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


@dataclass(frozen=True)
class _Way:
    """Which model encodes, what its vectors go through, and what they are compared with then."""

    card: ModelCard
    space: TableVectors
    note: str | None = None
    project: Project | None = None

    def into(self, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        return vectors if self.project is None else self.project(vectors)


class Routes:
    """The ways to one table; a way that was found is kept.

    Args:
        layout: The store.
        table: The version.
        device: What encodes the queries, as in ``QueryEncoder``.
        progress: Told where a model has to be brought into the store.
        model: What encodes the queries where it is not the table's own model, as in ``asking.model_of``.

    Raises:
        NotFoundError: The store has no such model.
        SpaceMismatchError: Nothing leads from that model to the table.
    """

    def __init__(
        self,
        layout: Layout,
        table: FeatureTable,
        device: str | None,
        progress: Callable[[str], None],
        model: str | None = None,
    ) -> None:
        self.vectors = TableVectors(layout, table)
        self._layout = layout
        self._table = table
        self._progress = progress
        self._encoder = QueryEncoder(layout, device)
        self._found: dict[str, _Way] = {}
        self._other = None if model is None else self._from_model(model)

    @functools.cached_property
    def card(self) -> ModelCard:
        """The card of the table's model; items and vectors are compared without it."""
        return load_card(self._layout, self._table.space_id)

    @property
    def asking(self) -> ModelCard:
        """The card of the model that the user asks with: the table's own, or the other one that was named."""
        return self.card if self._other is None else self._other.card

    def parts(self, asked: Sequence[Query], own: NDArray[np.int64]) -> list[Part]:
        """The queries as vectors.

        Args:
            asked: Queries of any kinds.
            own: (q,) int64, the rows of those that are items of the table.

        Raises:
            UsageError: Nothing leads from a text or picture to the table's vectors, or what is asked is not for the
                other model.
            SpaceMismatchError: A vector has another length than those of the model that is asked with.
            IntegrityError: A model or the table is damaged.
        """
        of: dict[str, list[int]] = {}
        for at, query in enumerate(asked):
            of.setdefault(query.kind, []).append(at)
        found = []
        for kind, places in of.items():
            numbers, some = np.array(places, np.int64), [asked[at] for at in places]
            if kind == "id":
                found.append(Part(numbers, self._items(own[numbers], some), self.vectors))
                continue
            if kind == "vector" and self._other is None:
                found.append(Part(numbers, self._given(some), self.vectors))
                continue
            way = self._way(kind)
            if kind == "vector":
                found.append(Part(numbers, way.into(self._given(some)), way.space, way.note))
                continue
            vectors, errors = self._encoder.encode(way.card, some)
            good = np.array([row not in errors for row in range(len(some))])
            refused = {places[row]: error for row, error in errors.items()}
            found.append(Part(numbers[good], way.into(vectors[good]), way.space, way.note, refused))
        return found

    def check_origin(self, origin: Origin, file: Path) -> None:
        """Refuses vectors of a file that says they are of a space whose vectors are not to be compared with these.

        Where another model was named the file's are to be of that model, and go the way of its queries.

        Raises:
            SpaceMismatchError: They are; both spaces are named.
        """
        if origin.space_id is None and origin.digest is None:
            return
        card = self.asking
        if (origin.digest or card.digest) == card.digest and (
            origin.digest is not None or origin.space_id == card.space_id
        ):
            return  # the same function, perhaps under another name
        if self._is_twin(origin):
            return
        named = origin.space_id or f"the digest {str(origin.digest)[:16]}…"
        if self._other is not None:
            raise SpaceMismatchError(
                f"{file} holds vectors of {named}; '{self._table.name}' was to be asked with {card.space_id}.",
                hint="Name the model that the file's vectors are of, or leave --model out where they are the table's.",
            )
        raise SpaceMismatchError(
            f"{file} holds vectors of {named}; '{self._table.name}' is in the space {self.card.space_id}.",
            hint="Vectors of two spaces are compared only through a bridge: search with those of the table's own "
            "model, or name theirs with --model where a bridge leads from it (featstore bridge NEW --onto OLD).",
        )

    def _is_twin(self, origin: Origin) -> bool:
        """Whether the vectors are of the other tower of the model that is asked with."""
        if origin.space_id is None or self.asking.joint_id is None:
            return False
        try:
            other = load_card(self._layout, origin.space_id)
        except NotFoundError:
            return False
        joint = other.joint_id == self.asking.joint_id and None in (other.image, self.asking.image)
        return joint and origin.digest in (None, other.digest)

    def _items(self, rows: NDArray[np.int64], asked: Sequence[Query]) -> NDArray[np.float32]:
        if self._other is not None:
            raise UsageError(
                f"'{asked[0].name}' is an item of the table, whose vector is {self._table.space_id}'s; "
                f"{self._other.card.space_id} was to ask.",
                hint=f"Leave --model out, or ask the other table: {self._table.name}@{self._other.card.space_id}",
            )
        return self._table.vectors_at(rows)

    def _given(self, asked: Sequence[Query]) -> NDArray[np.float32]:
        vectors = [np.asarray(query.content, np.float32) for query in asked]
        dim, space = (
            (self._table.dim, self._table.space_id)
            if self._other is None
            else (self._other.card.dim, self._other.card.space_id)
        )
        for query, vector in zip(asked, vectors, strict=True):
            if len(vector) != dim:
                raise SpaceMismatchError(
                    f"the query vector '{query.name}' has {len(vector)} values; those of {space} have {dim}.",
                    hint="Search with vectors of the model that the table was made with, or of the one that --model "
                    "names.",
                )
        return np.stack(vectors)

    def _from_model(self, model: str) -> _Way | None:
        """The way from a model that was named; None where it is the table's own."""
        found = asking(self._layout, self._table, self.card, model)
        if found is None:
            return None
        projected = found.of_table is not None
        space = TableVectors(self._layout, self._table, found.of_table) if projected else self.vectors
        return _Way(found.card, space, found.note, found.of_queries)

    def _way(self, kind: str) -> _Way:
        """Which model encodes a text or picture for this table, and what its vectors are compared with."""
        if self._other is not None:
            if kind not in ("vector", self._other.card.modality):
                takes = self._other.card.modality
                raise UsageError(
                    f"{self._other.card.space_id} takes {takes}s, and {_A[kind]} was asked.",
                    hint=f"Ask it by --{takes} or --vectors, or name another model.",
                )
            return self._other
        if kind not in self._found:
            if kind == self.card.modality:
                self._found[kind] = _Way(self.card, self.vectors)
            elif kind == "text":
                route = across.text_route(self._layout, self.card, progress=self._progress)
                projected = route.project is not None
                space = TableVectors(self._layout, self._table, route.project) if projected else self.vectors
                self._found[kind] = _Way(route.encode_with, space, route.note)
            else:
                self._found[kind] = _Way(self._image_tower(), self.vectors)
        return self._found[kind]

    def _image_tower(self) -> ModelCard:
        """The store's image tower of the two-tower model that has embedded this table's texts."""
        folders = self._layout.storage.folders("models") if self.card.joint_id is not None else []
        cards = (load_card(self._layout, s) for s in folders if self._layout.storage.exists(self._layout.model_card(s)))
        towers = [card for card in cards if card.image is not None and card.joint_id == self.card.joint_id]
        if towers:
            return min(towers, key=lambda card: (card.image is not None and card.image.decode, card.space_id))
        raise UsageError(
            f"'{self._table.name}' holds texts in the space {self._table.space_id}, and a picture was asked.",
            hint="Ask by --text, --id or --vectors. Pictures find texts only where the two towers of one model have "
            "embedded both, and both are in the store.",
        )
