"""Where a transformer's vectors come from: memory, the store's tables, at last the model."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from featstore import models
from featstore.encode import Encoder
from featstore.encoder.contents import Contents
from featstore.errors import ItemError
from featstore.extract.shard import open_encoder
from featstore.layout import Layout
from featstore.records import ModelCard
from featstore.settings import ExtractSettings
from featstore.storage import frames
from featstore.tables import FeatureTable

__all__ = ["Found", "supply"]

# Opened models of this process; each holds its weights.
_OPEN_MODELS = 2


@dataclass(frozen=True)
class Found:
    """Vectors (n, dim) float32, NaN where ``errors`` says why there is none; how many came from where."""

    vectors: NDArray[np.float32]
    errors: dict[int, ItemError]
    remembered: int
    stored: int
    embedded: int


@dataclass
class _Memory:
    """Vectors by content, the oldest forgotten first; safe in threads."""

    vectors: OrderedDict[str, NDArray[np.float32]] = field(default_factory=OrderedDict)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def get(self, contents: Iterable[str]) -> dict[str, NDArray[np.float32]]:
        with self.lock:
            return {content: self.vectors[content] for content in contents if content in self.vectors}

    def put(self, found: dict[str, NDArray[np.float32]], limit: int) -> None:
        with self.lock:
            for content, vector in found.items():
                if vector.nbytes <= limit:
                    self.vectors[content] = vector.copy()
            while self.vectors and len(self.vectors) * next(iter(self.vectors.values())).nbytes > limit:
                self.vectors.popitem(last=False)


class _Silent:
    def decoded(self, row: int, content: NDArray[np.uint8] | str) -> None:
        """Nobody watches."""

    def done(self, count: int, rejected: int) -> None:
        """Nobody watches."""


_lock = threading.Lock()
_encoders: OrderedDict[tuple[Path, str, ExtractSettings], Encoder] = OrderedDict()
_memories: dict[tuple[str, bool], _Memory] = {}


def supply(
    layout: Layout, card: ModelCard, contents: Contents, settings: ExtractSettings, *, query: bool, memory: int
) -> Found:
    """The vectors of some contents, each distinct one computed at most once.

    Args:
        layout: The store.
        card: The model, whose space decides which stored vectors can be used.
        contents: The items.
        settings: Device, threads and batch sizes.
        query: Texts are queries; stored vectors are then used only where the model has one prompt for both.
        memory: Bytes of vectors to keep in this process for the next call.

    Raises:
        IntegrityError: The model or a table is damaged.
        UsageError: The device does not work here.
    """
    vectors = np.full((len(contents.hashes), card.dim), np.nan, np.float32)
    errors = {row: found for row, found in enumerate(contents.hashes) if isinstance(found, ItemError)}
    rows: dict[str, list[int]] = {}
    for row, content in enumerate(contents.hashes):
        if isinstance(content, str):
            rows.setdefault(content, []).append(row)
    with _lock:
        kept = _memories.setdefault((card.digest, query), _Memory())
    known = kept.get(rows)
    remembered = len(known)
    as_documents = card.text is None or not query or card.text.prompt_query == card.text.prompt_document
    if as_documents:
        known |= _stored(layout, card.space_id, [content for content in rows if content not in known])
    stored = len(known) - remembered
    missing = [content for content in rows if content not in known]
    if missing:
        first = [rows[content][0] for content in missing]
        encoded = _opened(layout, card, settings).encode(
            lambda at: contents.read(first[at]), len(first), _Silent(), query=query
        )
        for at, content in enumerate(missing):
            if at in encoded.errors:
                errors |= dict.fromkeys(rows[content], encoded.errors[at])
            else:
                known[content] = encoded.vectors[at]
    for content, vector in known.items():
        vectors[rows[content]] = vector
    kept.put(known, memory)
    return Found(vectors, errors, remembered, stored, len(missing))


def _stored(layout: Layout, space_id: str, wanted: list[str]) -> dict[str, NDArray[np.float32]]:
    """Vectors of that space in any of the store's tables, by content."""
    found: dict[str, NDArray[np.float32]] = {}
    for name in layout.storage.folders("features"):
        asked = [content for content in wanted if content not in found]
        if not asked:
            break
        if not FeatureTable.exists(layout, name, space_id):
            continue
        table = FeatureTable.open(layout, name, space_id)
        rows = table.rows(["content_sha256"])
        there = rows.filter(pc.is_in(rows["content_sha256"], value_set=pa.array(asked, pa.string())))
        if there.num_rows:
            places = there["_row"].to_numpy()
            vectors = table.vectors(frames.strings(there, "_file"), places)
            found |= dict(zip(frames.strings(there, "content_sha256"), vectors, strict=True))
    return found


def _opened(layout: Layout, card: ModelCard, settings: ExtractSettings) -> Encoder:
    """The model, opened once in a process and proven to still give its canary vectors."""
    key = (layout.storage.root, card.space_id, settings)
    with _lock:
        if key not in _encoders:
            encoder = open_encoder(layout, card, settings)
            models.check_canaries(layout, card, encoder.backbone)
            _encoders[key] = encoder
            while len(_encoders) > _OPEN_MODELS:
                _encoders.popitem(last=False)
        _encoders.move_to_end(key)
        return _encoders[key]
