"""One writer at a time: an advisory lock with the holder's name in it.

``flock`` vanishes with its process, so a killed run never blocks the next one. The holder written
into the file tells the two other cases apart: a live process on this host, and any on another host
(where a network file system may not carry ``flock``), whose lock is never stolen.
"""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from featstore.errors import LockedError, StorageError
from featstore.storage import durable
from featstore.storage.tree import Storage

__all__ = ["hold"]


@contextmanager
def hold(storage: Storage, path: str, *, purpose: str, warn: Callable[[str], None] = lambda _: None) -> Iterator[None]:
    """Holds the lock at ``path`` for the length of the block.

    Args:
        storage: The store.
        path: The lock's file; it stays, empty, after the block.
        purpose: What the holder does, shown to whoever is refused.
        warn: Told when the lock of a dead process is taken over.

    Raises:
        LockedError: A live process, or one on another host, holds it.
        StorageError: The lock file cannot be made.
    """
    import fcntl

    where = storage.local(path)
    try:
        durable.make_folder(where.parent)
        descriptor = os.open(where, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    except OSError as error:
        raise StorageError(f"cannot lock {where}: {error.strerror or error}.") from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise LockedError(
                f"{_describe(_holder(descriptor))} holds the lock {where}.",
                hint="Wait until it ends, then run the same command again.",
            ) from error
        last = _holder(descriptor)
        if last is not None:
            if last.get("host") != socket.gethostname():
                raise LockedError(
                    f"{_describe(last)}, on another host, holds the lock {where}.",
                    hint=f"If that run is surely over, remove the file: rm {where}",
                )
            warn(f"took over the lock of {_describe(last)}, which ended without releasing it")
        _write(
            descriptor,
            {
                "host": socket.gethostname(),
                "pid": os.getpid(),
                "purpose": purpose,
                "since": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            },
        )
        yield
        os.ftruncate(descriptor, 0)
    except LockedError:
        raise
    except BaseException:
        # An error that Python sees is a clean end: only a kill leaves the holder's name behind.
        os.ftruncate(descriptor, 0)
        raise
    finally:
        os.close(descriptor)


def _holder(descriptor: int) -> dict[str, object] | None:
    text = os.pread(descriptor, 4096, 0)
    if not text.strip():
        return None
    try:
        found = json.loads(text)
    except ValueError:
        return {"host": socket.gethostname(), "purpose": "a run that was killed while taking the lock"}
    return found if isinstance(found, dict) else None


def _write(descriptor: int, holder: dict[str, object]) -> None:
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, json.dumps(holder).encode(), 0)
    os.fsync(descriptor)


def _describe(holder: dict[str, object] | None) -> str:
    if holder is None:
        return "another process"
    return f"{holder.get('purpose')} (process {holder.get('pid')} on {holder.get('host')}, since {holder.get('since')})"
