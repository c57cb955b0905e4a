"""JSON documents: a frozen dataclass out, the same one back, and never a changed bit unnoticed.

Each document carries ``document_sha256``, the digest of everything else in it, and a ``format_version``.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, TypeVar, cast

from featstore.errors import IntegrityError
from featstore.records import FORMAT_VERSION
from featstore.storage import hashing
from featstore.storage.tree import Storage

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

__all__ = ["find", "read", "to_json", "write"]

Record = TypeVar("Record", bound="DataclassInstance")


def to_json(record: DataclassInstance) -> dict[str, Any]:
    """A record as plain JSON values."""
    return cast("dict[str, Any]", json.loads(json.dumps(asdict(record))))


def write(storage: Storage, path: str, record: DataclassInstance, *, create: bool = False) -> None:
    """Writes a record durably, its digest inside.

    Raises:
        ConflictError: ``create`` was asked for and the document is there.
        StorageError: The disk refused.
    """
    body = to_json(record)
    body["document_sha256"] = hashing.of_json(body)
    storage.write(path, _render(body), create=create)


def read(storage: Storage, path: str, kind: type[Record]) -> Record:
    """Reads a record back and checks that it is the one that was written.

    Raises:
        NotFoundError: There is no such document.
        IntegrityError: It was changed, cut short, or written by a newer featstore.
    """
    from pydantic import TypeAdapter, ValidationError

    where = storage.local(path)
    content = storage.read(path)
    try:
        body = json.loads(content.decode("utf-8", "surrogatepass"))
    except ValueError as error:
        raise IntegrityError(f"{where} is damaged: it is not JSON ({error}).") from error
    if not isinstance(body, dict):
        raise IntegrityError(f"{where} is damaged: a JSON object was expected.")
    version = body.get("format_version")
    if isinstance(version, int) and version > FORMAT_VERSION:
        raise IntegrityError(
            f"{where} has format {version}; this featstore reads up to {FORMAT_VERSION}.",
            hint="Upgrade featstore: pip install --upgrade featstore",
        )
    whole = _render(body) == content
    if body.pop("document_sha256", None) != hashing.of_json(body) or not whole:
        raise IntegrityError(
            f"{where} is damaged: its content does not match its own digest.",
            hint="Restore the file from a backup; featstore never edits it by hand and neither should you.",
        )
    try:
        return TypeAdapter(kind).validate_python(body)
    except ValidationError as error:
        raise IntegrityError(f"{where} does not hold a {kind.__name__}: {error}.") from error


def find(storage: Storage, path: str, kind: type[Record]) -> Record | None:
    """Like ``read``, but None where there is no document."""
    return read(storage, path, kind) if storage.exists(path) else None


def _render(body: dict[str, Any]) -> bytes:
    return (json.dumps(body, indent=2, ensure_ascii=False) + "\n").encode("utf-8", "surrogatepass")
