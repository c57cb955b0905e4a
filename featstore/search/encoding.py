"""Queries to vectors, through the very model of a space and with its query prompt."""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from featstore.errors import ItemError
from featstore.layout import Layout
from featstore.records import ModelCard
from featstore.search.queries import Query

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from featstore.encode import Encoder

__all__ = ["QueryEncoder"]

# A GPU takes longer to start than these take on a CPU.
_FEW = 64


class QueryEncoder:
    """The models that a searcher has needed so far, each opened once and proven to give its canary vectors.

    Args:
        layout: The store.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``; ``auto`` is the CPU for a few queries.
    """

    def __init__(self, layout: Layout, device: str | None = None) -> None:
        self._layout = layout
        self._device = device
        self._opened: dict[tuple[str, str], Encoder] = {}
        self._lock = threading.Lock()

    def encode(self, card: ModelCard, queries: Sequence[Query]) -> tuple[NDArray[np.float32], dict[int, ItemError]]:
        """Encodes queries that the model takes.

        Args:
            card: The model.
            queries: Texts for a model of texts, pictures for one of images.

        Returns:
            (q, dim) float32, rows of refused queries zero; and why those were refused.

        Raises:
            IntegrityError: The model is damaged, or gives other vectors here than its space has.
            SettingsError: There is no such device.
            UsageError: The device does not work here.
        """
        if not queries:
            return np.zeros((0, card.dim), np.float32), {}
        found = self._encoder(card, len(queries)).encode(
            lambda row: _content(queries[row]), len(queries), _Silent(), query=True
        )
        return found.vectors, found.errors

    def _encoder(self, card: ModelCard, count: int) -> Encoder:
        from featstore import models
        from featstore.encode.opening import open_encoder
        from featstore.settings import ExtractSettings, resolve

        settings, _ = resolve(ExtractSettings, {"source": "", "model": card.space_id, "device": self._device})
        if settings.device == "auto" and count < _FEW:
            settings = replace(settings, device="cpu")
        with self._lock:
            kept = self._opened.get((card.space_id, settings.device))
            if kept is None:
                # What is fastest for thousands of items is not what starts soonest for one.
                kept = open_encoder(self._layout, card, settings, tuned=False, mapped=True)
                models.check_canaries(self._layout, card, kept.backbone)
                self._opened[card.space_id, settings.device] = kept
            return kept


class _Silent:
    """Nobody watches a query."""

    def decoded(self, row: int, content: NDArray[np.uint8] | str) -> None:
        """Nothing is kept of it."""

    def done(self, count: int, rejected: int) -> None:
        """Nothing is counted."""


def _content(query: Query) -> bytes | str:
    content = query.content
    if isinstance(content, Path):
        from featstore.sources.files import FileReader, hash_files

        path = os.fsencode(content)
        (hashed,) = hash_files([path])
        if isinstance(hashed, ItemError):
            raise ItemError("read", "not_found", "there is no such file.") if hashed.code == "vanished" else hashed
        return FileReader([path], [hashed]).read(0)
    assert isinstance(content, str | bytes)
    return content
