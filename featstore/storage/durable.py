"""Writing a local file so that a crash leaves the old one or the new one, never half of it.

The order is always: write a temporary file beside the target, fsync it, rename it over the target,
fsync the folder. ``object_store``'s local back end (0.13) renames without any fsync, so buckets use
it and local files do not.
"""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from featstore.errors import ConflictError, StorageError

__all__ = ["TEMPORARY_SUFFIX", "begin", "link", "make_folder", "move", "replacing", "sync", "temporary"]

TEMPORARY_SUFFIX = ".tmp"


@contextmanager
def replacing(path: Path, *, create: bool = False) -> Iterator[BinaryIO]:
    """Opens a new file that takes ``path``'s place when the block ends without an error.

    Args:
        path: The file to write; missing folders above it are made.
        create: Refuse to replace an existing file.

    Yields:
        A binary file, opened for writing.

    Raises:
        ConflictError: ``create`` was asked for and the file is there.
        StorageError: The disk refused: full, read-only, denied, failing.
    """
    new = temporary(path)
    try:
        _make_folder(path.parent)
        descriptor = os.open(new, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        try:
            with os.fdopen(descriptor, "wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            if create:
                os.link(new, path)
            else:
                os.replace(new, path)
        finally:
            with suppress(FileNotFoundError):
                os.unlink(new)
        _sync_folder(path.parent)
    except FileExistsError as error:
        raise ConflictError(f"{path} is there already; another writer made it first.") from error
    except OSError as error:
        raise StorageError(
            f"cannot write {path}: {error.strerror or error}.",
            hint="Nothing was replaced. Free space or mend the permissions, then run the same command again.",
        ) from error


def begin(file: BinaryIO, start: int, length: int) -> None:
    """Asks the system to begin writing a stretch of a file, so that there is less to wait for at its end.

    Pages that are being written stay in memory: the advice only drops those that need not be.
    """
    if hasattr(os, "posix_fadvise"):
        os.posix_fadvise(file.fileno(), start, length, os.POSIX_FADV_DONTNEED)


def temporary(path: Path) -> Path:
    """A new name beside a file, for what another library writes and ``move`` then puts in its place."""
    return path.with_name(f".{path.name}.{secrets.token_hex(4)}{TEMPORARY_SUFFIX}")


def move(source: Path, target: Path) -> None:
    """Makes a written file durable and lets it take the place of another in the same folder.

    Raises:
        StorageError: The disk refused.
    """
    sync([source])
    try:
        os.replace(source, target)
        _sync_folder(target.parent)
    except OSError as error:
        raise StorageError(f"cannot write {target}: {error.strerror or error}.") from error


def link(source: Path, target: Path) -> None:
    """Gives a file that never changes a second name; a copy where the disk has no links.

    Raises:
        StorageError: The file is gone or the disk refused.
    """
    try:
        _make_folder(target.parent)
        try:
            os.link(source, target)
        except OSError:
            shutil.copyfile(source, target)
    except OSError as error:
        raise StorageError(f"cannot copy {source} to {target}: {error.strerror or error}.") from error


def make_folder(folder: Path) -> None:
    """Makes a folder and those above it, each one durable in its parent.

    Raises:
        StorageError: The disk refused.
    """
    try:
        _make_folder(folder)
    except OSError as error:
        raise StorageError(f"cannot make the folder {folder}: {error.strerror or error}.") from error


def _make_folder(folder: Path) -> None:
    if folder.is_dir():
        return
    _make_folder(folder.parent)
    with suppress(FileExistsError):
        os.mkdir(folder)
    _sync_folder(folder.parent)


def _sync_folder(folder: Path) -> None:
    if os.name == "nt":  # Windows cannot open a folder; its rename is durable with the volume
        return
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync(paths: Sequence[Path]) -> None:
    """Makes files that another library has written outlive a power cut, and their names with them.

    Raises:
        StorageError: One cannot be opened or synced.
    """
    try:
        for path in paths:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        for folder in {path.parent for path in paths}:
            _sync_folder(folder)
    except OSError as error:
        raise StorageError(f"cannot make {error.filename} durable: {error.strerror or error}.") from error
