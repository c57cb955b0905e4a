"""JSON documents: a frozen dataclass out, the same one back, and never a changed bit unnoticed.

Each document carries ``document_sha256``, the digest of everything else in it, and a ``format_version``.
"""

from __future__ import annotations

import difflib
import json
from dataclasses import asdict
from functools import cache
from typing import TYPE_CHECKING, Any, TypeVar, cast

from featstore.errors import IntegrityError, UsageError
from featstore.storage import hashing
from featstore.storage.tree import Storage

if TYPE_CHECKING:
    from _typeshed import DataclassInstance
    from pydantic import TypeAdapter

__all__ = ["declared", "find", "parse", "read", "render", "sign", "to_json", "write"]

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
    storage.write(path, render(record), create=create)


def render(record: DataclassInstance) -> bytes:
    """A record as the bytes of a document, its digest inside."""
    return sign(to_json(record))


def sign(body: dict[str, Any]) -> bytes:
    """The values of a document as its bytes, with their own digest; a digest among them is replaced."""
    body = {key: value for key, value in body.items() if key != "document_sha256"}
    body["document_sha256"] = hashing.of_json(body)
    return _render(body)


def read(storage: Storage, path: str, kind: type[Record]) -> Record:
    """Reads a record back and checks that it is the one that was written.

    Raises:
        NotFoundError: There is no such document.
        IntegrityError: It was changed, cut short, or written by a newer featstore.
    """
    return parse(storage.read(path), kind, where=str(storage.local(path)))


def parse(content: bytes, kind: type[Record], *, where: str) -> Record:
    """Like ``read``, of a document's bytes; ``where`` is what messages call it.

    Raises:
        IntegrityError: It was changed, cut short, or written by a newer featstore.
    """
    from pydantic import ValidationError

    from featstore.records import FORMAT_VERSION  # making the records takes longer than a help text may

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
        found: Record = _checker(kind).validate_python(body)
    except ValidationError as error:
        raise IntegrityError(f"{where} does not hold a {kind.__name__}: {error}.") from error
    return found


@cache
def _checker(kind: type[Record]) -> TypeAdapter[Record]:
    """What checks the values of a record; made once for each kind, which takes a hundred times as long as a check."""
    from pydantic import TypeAdapter

    return TypeAdapter(kind)


def declared(content: bytes, kind: type[Record], *, where: str) -> Record:
    """Reads a record that a person wrote: JSON without a digest, every key known.

    Args:
        content: The JSON, UTF-8.
        kind: The record's class; its ``__pydantic_config__`` forbids other keys.
        where: What messages call it.

    Raises:
        UsageError: It is no JSON or lacks, misspells or mistypes a key; all problems are listed.
        IntegrityError: It was written for a newer featstore.
    """
    from pydantic import TypeAdapter, ValidationError

    from featstore.records import FORMAT_VERSION

    try:
        body = json.loads(content.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{where} is not JSON: {error}.") from error
    version = body.get("format_version", FORMAT_VERSION) if isinstance(body, dict) else FORMAT_VERSION
    if isinstance(version, int) and version > FORMAT_VERSION:
        raise IntegrityError(
            f"{where} has format {version}; this featstore reads up to {FORMAT_VERSION}.",
            hint="Upgrade featstore: pip install --upgrade featstore",
        )
    try:
        return TypeAdapter(kind).validate_python(body)
    except ValidationError as error:
        keys = _keys(TypeAdapter(kind).json_schema())
        found = [_problem([str(part) for part in e["loc"]], e["type"], e["msg"], keys) for e in error.errors()]
        raise UsageError(f"{where}: {'; '.join(dict.fromkeys(found))}.", context={"problems": found}) from error


def _keys(schema: dict[str, Any]) -> set[str]:
    """Every key that a schema knows, at any depth."""
    parts = (schema, *schema.get("$defs", {}).values())
    return {key for part in parts for key in part.get("properties", {})}


def _problem(location: list[str], kind: str, message: str, keys: set[str]) -> str:
    where = ".".join(location) or "the document"
    if kind == "unexpected_keyword_argument":
        near = difflib.get_close_matches(location[-1], keys, n=1)
        return f"unknown key '{where}'" + (f"; did you mean '{near[0]}'?" if near else "")
    return f"'{where}' is missing" if kind == "missing_argument" else f"'{where}': {message[:1].lower()}{message[1:]}"


def find(storage: Storage, path: str, kind: type[Record]) -> Record | None:
    """Like ``read``, but None where there is no document."""
    return read(storage, path, kind) if storage.exists(path) else None


def _render(body: dict[str, Any]) -> bytes:
    return (json.dumps(body, indent=2, ensure_ascii=False) + "\n").encode("utf-8", "surrogatepass")
