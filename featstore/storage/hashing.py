"""SHA-256 of contents: how items, files and functions get names that cannot lie."""

from __future__ import annotations

import hashlib
import json
import time
from functools import lru_cache
from mmap import mmap
from pathlib import Path

from featstore.errors import NotFoundError, StorageError

__all__ = ["as_bytes", "of_bytes", "of_file", "of_given", "of_json", "of_text"]

# What was written so lately may be written again without its times' telling: file systems count in ticks.
_TICK_NS = 2_000_000_000


def of_bytes(data: bytes | bytearray | memoryview | mmap) -> str:
    """SHA-256 of bytes, as 64 hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()


def as_bytes(text: str) -> bytes:
    """A text as it is hashed: UTF-8, lone surrogates as they stand."""
    return text.encode("utf-8", "surrogatepass")


def of_text(text: str) -> str:
    """SHA-256 of a text's UTF-8; lone surrogates are hashed as they stand."""
    return of_bytes(as_bytes(text))


def of_file(path: Path) -> str:
    """SHA-256 of a file's content, read in pieces.

    Raises:
        NotFoundError: There is no such file.
        StorageError: It cannot be read.
    """
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError as error:
        raise NotFoundError(f"{path} does not exist.") from error
    except OSError as error:
        raise StorageError(f"cannot read {path}: {error.strerror or error}.") from error


def of_given(path: Path) -> str:
    """SHA-256 of a file that was given, such as weights; one process reads it once as long as nobody writes to it.

    A run asks several times which model it was given. Not for what is to be verified: decay changes no time.

    Raises:
        NotFoundError: There is no such file.
        StorageError: It cannot be read.
    """
    try:
        stats = path.stat()
    except OSError:
        return of_file(path)  # which says why
    if abs(time.time_ns() - stats.st_ctime_ns) < _TICK_NS:
        return of_file(path)
    return _of_unwritten(path, stats.st_dev, stats.st_ino, stats.st_size, stats.st_mtime_ns, stats.st_ctime_ns)


@lru_cache(maxsize=1024)
def _of_unwritten(path: Path, *_marks: int) -> str:
    return of_file(path)


def of_json(value: object) -> str:
    """SHA-256 of a JSON value in canonical form: sorted keys, no blanks, UTF-8."""
    return of_text(json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False))
