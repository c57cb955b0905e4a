"""A tree of files under one root: the store's own, or a folder that items come from."""

from __future__ import annotations

import mmap
import os
import shutil
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO
from urllib.parse import unquote, urlparse

from featstore.errors import NotFoundError, StorageError, UsageError
from featstore.storage import durable

__all__ = ["Stat", "Storage", "shown"]

_BUCKETS = ("s3", "gs", "gcs", "az", "abfs", "abfss")


@dataclass(frozen=True, slots=True)
class Stat:
    """What tells whether a file is still the one seen before: bytes, nanoseconds, inode.

    ``ctime_ns`` cannot be set by programs: it also tells of a file that was put back with its old time of change.
    """

    size: int
    mtime_ns: int
    inode: int
    ctime_ns: int


@dataclass(frozen=True)
class Storage:
    """Files under ``root``, addressed by POSIX paths relative to it.

    Writes are durable and atomic: a reader sees the old file or the new one. Every method raises
    ``StorageError`` where the disk fails and ``NotFoundError`` where a file is missing.
    """

    root: Path

    @classmethod
    def at(cls, uri: str | os.PathLike[str]) -> Storage:
        """Makes a storage from a path or a ``file://`` URL.

        Raises:
            UsageError: The URL's scheme is not one that featstore can open.
        """
        text = os.fspath(uri)
        scheme = urlparse(text).scheme if "://" in text else ""
        if scheme in _BUCKETS:
            raise UsageError(
                f"{shown(text)}: stores in buckets are not supported yet.",
                hint="Use a local folder and copy it to the bucket after the run.",
            )
        if scheme == "file":
            text = unquote(urlparse(text).path)
        elif scheme:
            raise UsageError(f"{shown(text)}: unknown scheme '{scheme}://'; use a path or file://.")
        return cls(Path(os.path.abspath(os.path.expanduser(text))))

    def local(self, path: str = "") -> Path:
        """The path on this machine's disk, for memory maps and libraries that open files themselves."""
        return self.root / path if path else self.root

    def read(self, path: str) -> bytes:
        """Reads a whole file."""
        try:
            return self.local(path).read_bytes()
        except FileNotFoundError as error:
            raise NotFoundError(f"{self.local(path)} does not exist.") from error
        except OSError as error:
            raise _failed("read", self.local(path), error) from error

    def mapped(self, path: str) -> bytes | mmap.mmap:
        """A file's content without reading it: what is looked at is read then, and may be dropped again."""
        try:
            with self.local(path).open("rb") as file:
                if not os.fstat(file.fileno()).st_size:
                    return b""  # which cannot be mapped
                return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except FileNotFoundError as error:
            raise NotFoundError(f"{self.local(path)} does not exist.") from error
        except OSError as error:
            raise _failed("read", self.local(path), error) from error

    def write(self, path: str, data: bytes, *, create: bool = False) -> None:
        """Replaces a file durably; with ``create`` an existing one is a ``ConflictError``."""
        with self.writer(path, create=create) as file:
            file.write(data)

    def writer(self, path: str, *, create: bool = False) -> AbstractContextManager[BinaryIO]:
        """A file to write piece by piece; it appears, durably, when the block ends without an error."""
        return durable.replacing(self.local(path), create=create)

    def exists(self, path: str) -> bool:
        """Whether there is a file or folder of that name."""
        return self.local(path).exists()

    def stat(self, path: str) -> Stat:
        """Size, time of change and inode of a file."""
        try:
            found = os.stat(self.local(path))
        except FileNotFoundError as error:
            raise NotFoundError(f"{self.local(path)} does not exist.") from error
        except OSError as error:
            raise _failed("look at", self.local(path), error) from error
        return Stat(found.st_size, found.st_mtime_ns, found.st_ino, found.st_ctime_ns)

    def files(self, folder: str = "") -> list[str]:
        """All files under a folder, at any depth, sorted; an absent folder has none."""
        base = self.local(folder)
        found = []
        for parent, folders, names in os.walk(base):
            folders.sort()
            found += [Path(parent, name).relative_to(self.root).as_posix() for name in names]
        return sorted(found)

    def folders(self, folder: str = "") -> list[str]:
        """The names of the folders directly in a folder, sorted; an absent folder has none."""
        try:
            with os.scandir(self.local(folder)) as entries:
                return sorted(e.name for e in entries if e.is_dir(follow_symlinks=False))
        except FileNotFoundError:
            return []
        except OSError as error:
            raise _failed("list", self.local(folder), error) from error

    def move(self, path: str, target: str) -> None:
        """Lets a written file take another's place in the same folder, durably."""
        durable.move(self.local(path), self.local(target))

    def delete(self, path: str) -> None:
        """Removes a file; one that is gone already is no error."""
        try:
            self.local(path).unlink(missing_ok=True)
        except OSError as error:
            raise _failed("remove", self.local(path), error) from error

    def delete_folder(self, folder: str) -> None:
        """Removes a folder with all in it; one that is gone already is no error."""
        if not folder:
            raise ValueError("the root of a storage is never removed")
        try:
            shutil.rmtree(self.local(folder))
        except FileNotFoundError:
            return
        except OSError as error:
            raise _failed("remove", self.local(folder), error) from error

    def free_bytes(self) -> int:
        """Bytes free on the disk that holds the root (or will)."""
        existing = self.root
        while not existing.exists():
            existing = existing.parent
        return shutil.disk_usage(existing).free


def _failed(verb: str, path: Path, error: OSError) -> StorageError:
    return StorageError(f"cannot {verb} {path}: {error.strerror or error}.")


def shown(url: str) -> str:
    """A URL for a message: without user, password, query and fragment, which may be secrets."""
    scheme, there, rest = url.partition("://")
    return url if not there else f"{scheme}://{rest.rpartition('@')[2].partition('?')[0].partition('#')[0]}"
