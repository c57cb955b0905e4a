"""A model of the store, opened to encode contents."""

from __future__ import annotations

import threading
from types import TracebackType
from typing import TYPE_CHECKING

from featstore import models
from featstore.encode import tuning
from featstore.encode.encoder import Encoder
from featstore.inputs.texts import Tokenizer
from featstore.layout import Layout
from featstore.machine import available_cpus
from featstore.records import ModelCard

if TYPE_CHECKING:
    from featstore.settings import ExtractSettings

__all__ = ["Opening", "open_encoder"]

# What of the settings is in an opened model.
_HARDWARE = ("device", "backend", "workers", "batch_size", "token_budget")


class Opening:
    """A model that a thread opens while the work for it is still being prepared.

    As a context: leaving the block waits for the thread and lets go of a model that nobody has taken.

    Args:
        layout: The store.
        card: The model's card.
        settings: How it is to be opened; nothing is filled in.
    """

    def __init__(self, layout: Layout, card: ModelCard, settings: ExtractSettings) -> None:
        self._layout, self._card, self._settings = layout, card, settings
        self._thread: threading.Thread | None = None
        self._found: Encoder | BaseException | None = None

    def begin(self) -> None:
        """Starts the thread, if it has not been started; what goes wrong in it is raised by ``take``."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._open, name="featstore-opening", daemon=True)
            self._thread.start()

    def take(self, settings: ExtractSettings) -> Encoder:
        """Hands over the model; one that was not begun, or for other hardware, is opened now.

        Args:
            settings: How it is to be opened after all: a run that goes on keeps its own.

        Raises:
            FeatstoreError: As ``open_encoder`` does.
        """
        found = self._wait()
        if found is None or any(getattr(settings, name) != getattr(self._settings, name) for name in _HARDWARE):
            return open_encoder(self._layout, self._card, settings, tuned=False)
        if isinstance(found, BaseException):
            raise found
        return found

    def __enter__(self) -> Opening:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._wait()

    def _wait(self) -> Encoder | BaseException | None:
        if self._thread is not None:
            self._thread.join()
        found, self._found = self._found, None
        return found

    def _open(self) -> None:
        try:
            self._found = open_encoder(self._layout, self._card, self._settings, tuned=False)
        except BaseException as error:
            self._found = error


def open_encoder(
    layout: Layout, card: ModelCard, settings: ExtractSettings, *, tuned: bool = True, mapped: bool = False
) -> Encoder:
    """Opens a model of the store for encoding.

    Every thread makes its own calls of a session that uses one thread inside: decoding and inference
    then share the cores without waiting for each other.

    Args:
        layout: The store.
        card: The model.
        settings: Device, backend, threads and batches.
        tuned: What is not said there is as ``models bench --keep`` chose it for this kind of machine; without, as it
            is by default.
        mapped: Use the weights where they lie in the file; see ``models.open_backbone``.

    Raises:
        IntegrityError: A file is missing, damaged, or not what the card describes.
        UsageError: The device or the backend does not work here.
    """
    if tuned:
        settings = tuning.applied(layout, card, settings)
    threads = settings.workers or available_cpus()
    backbone = models.open_backbone(
        layout, card, device=settings.device, threads=1, backend=settings.backend, callers=threads, mapped=mapped
    )
    tokenizer = None
    if card.text is not None:
        tokenizer = Tokenizer(layout.storage.local(layout.model(card.space_id, "tokenizer.json")), card.text)
    return Encoder(
        backbone=backbone,
        tokenizer=tokenizer,
        threads=threads,
        batch_size=settings.batch_size,
        token_budget=settings.token_budget,
    )
