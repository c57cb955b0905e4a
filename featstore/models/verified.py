"""A model's files as its card says they are: what is used are the bytes that were hashed."""

from __future__ import annotations

from featstore.errors import IntegrityError
from featstore.models.wire import Content
from featstore.records import Artefact
from featstore.storage import Storage, hashing

__all__ = ["mapped", "read"]

_RESTORE = (
    "Restore the file from a backup, or remove the model's folder and its file in models/refs/ to export it again."
)


def read(storage: Storage, path: str, artefact: Artefact) -> bytes:
    """Reads a model's file and compares it with its card.

    Raises:
        IntegrityError: It is missing or not what was written.
    """
    _there(storage, path)
    content = storage.read(path)
    _compare(storage, path, artefact, content)
    return content


def mapped(storage: Storage, path: str, artefact: Artefact) -> Content:
    """The same, with the file mapped: of a large one only what is used is ever copied.

    Raises:
        IntegrityError: It is missing or not what was written.
    """
    _there(storage, path)
    content = storage.mapped(path)
    _compare(storage, path, artefact, content)
    return content


def _there(storage: Storage, path: str) -> None:
    if not storage.exists(path):
        raise IntegrityError(f"{storage.local(path)} is missing; its model's card names it.", hint=_RESTORE)


def _compare(storage: Storage, path: str, artefact: Artefact, content: Content) -> None:
    found = hashing.of_bytes(content)
    if found != artefact.sha256:
        raise IntegrityError(
            f"{storage.local(path)} is damaged: {len(content)} bytes, SHA-256 {found[:12]}…; "
            f"its card says {artefact.bytes} bytes, {artefact.sha256[:12]}….",
            hint=_RESTORE,
        )
