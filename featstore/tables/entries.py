"""What a Delta Lake log says: live files, snapshots, and the commits as they stand in its own files."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

import pyarrow as pa

from featstore.errors import IntegrityError
from featstore.storage import Storage

__all__ = ["Addition", "Commit", "LiveFile", "Snapshot", "damaged_log", "read_commit", "versions"]

# Source: the messages of delta-rs (1.6) and its kernel for a protocol that they do not know.
_NEWER = re.compile(r"minimum (reader|writer) version|[Ff]eature '[^']*' is not supported|set these reader features")

_LOG_FILE = re.compile(r"^(\d{20})\.json$")


@dataclass(frozen=True, slots=True)
class LiveFile:
    """A data file of a version: its path relative to the table's folder, its bytes and rows."""

    path: str
    size: int
    rows: int


@dataclass(frozen=True, slots=True)
class Addition:
    """A data file about to be committed, with the digests that its readers will check."""

    file: LiveFile
    sha256: str
    footer: str


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What the log says of one version; ``files`` are sorted by path."""

    version: int
    files: tuple[LiveFile, ...]
    schema: pa.Schema
    name: str | None
    description: str | None

    @property
    def rows(self) -> int:
        return sum(file.rows for file in self.files)


@dataclass(frozen=True, slots=True)
class Commit:
    """One file of the log. ``info`` is what featstore wrote into it; empty in other engines' commits."""

    version: int
    timestamp_ms: int
    operation: str
    adds: dict[str, LiveFile]
    removes: dict[str, int]
    """Path to the time of removal, in milliseconds."""
    info: dict[str, Any] = field(default_factory=dict)

    @property
    def run_id(self) -> str | None:
        """The run that made the commit; None for one that no run made."""
        found = self.info.get("run_id")
        return found if isinstance(found, str) else None


def versions(storage: Storage, folder: str) -> list[int]:
    """The versions whose commits are in the log of a table's folder."""
    names = (path.rsplit("/", 1)[-1] for path in storage.files(f"{folder}/_delta_log"))
    return [int(match[1]) for match in map(_LOG_FILE.match, names) if match]


def damaged_log(storage: Storage, folder: str, what: str) -> IntegrityError:
    """The error for a log that is not what was written, or that only a newer reader understands."""
    if _NEWER.search(what):
        return IntegrityError(
            f"the table in {storage.local(folder)} was written for a newer reader of Delta Lake: {what}.",
            hint="Upgrade featstore, which brings a newer reader.",
        )
    return IntegrityError(
        f"the log of {storage.local(folder)} is damaged: {what}.",
        hint="Restore its _delta_log folder from a backup.",
    )


def read_commit(storage: Storage, folder: str, version: int) -> Commit:
    """Reads one commit.

    Raises:
        IntegrityError: It cannot be read.
    """
    path = f"{folder}/_delta_log/{version:020d}.json"
    adds: dict[str, LiveFile] = {}
    removes: dict[str, int] = {}
    head: dict[str, Any] = {}
    try:
        for line in storage.read(path).decode().splitlines():
            action = json.loads(line)
            if "add" in action:
                found = action["add"]
                rows = json.loads(found.get("stats") or "{}").get("numRecords", 0)
                name = unquote(found["path"])
                adds[name] = LiveFile(name, found["size"], rows)
            elif "remove" in action:
                removes[unquote(action["remove"]["path"])] = action["remove"].get("deletionTimestamp") or 0
            elif "commitInfo" in action:
                head = action["commitInfo"]
        info = head.get("featstore")
        return Commit(
            version=version,
            timestamp_ms=int(head.get("timestamp", 0)),
            operation=str(head.get("operation", "")),
            adds=adds,
            removes=removes,
            info=info if isinstance(info, dict) else {},
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise damaged_log(storage, folder, f"{version:020d}.json: {error}") from error
