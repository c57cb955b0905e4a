"""A fault injector under featstore's durable writes: the n-th operation fails, or kills the process.

Run as a script it is a process to be killed: ``faults.py STORE SOURCE MODEL N`` extracts and, at its
N-th operation, sends itself SIGKILL; ``N`` 0 never does.
"""

from __future__ import annotations

import errno
import os
import signal
import sys
from collections.abc import Callable
from typing import Any

from featstore.storage import durable

__all__ = ["Faulty"]

_COUNTED = ("open", "fsync", "replace", "link", "mkdir")


class Faulty:
    """Stands in for the ``os`` module of ``featstore.storage.durable``.

    Args:
        at: The number of the operation that fails, from 1; 0 for none.
        act: What the failing operation does instead; raises ``OSError`` by default.
        code: The error's number.
    """

    def __init__(self, at: int, act: Callable[[], None] | None = None, code: int = errno.ENOSPC) -> None:
        self.at = at
        self.calls: list[tuple[str, str]] = []
        self._act = act or self._fail
        self._code = code

    def __getattr__(self, name: str) -> Any:
        real = getattr(os, name)
        if name in _COUNTED:

            def counted(*args: Any, **kwargs: Any) -> Any:
                self._count(name, args[0])
                return real(*args, **kwargs)

            return counted
        if name == "fdopen":
            return lambda *args, **kwargs: _File(real(*args, **kwargs), self)
        return real

    def _count(self, name: str, target: object) -> None:
        self.calls.append((name, str(target)))
        if len(self.calls) == self.at:
            self._act()

    def _fail(self) -> None:
        raise OSError(self._code, os.strerror(self._code))


class _File:
    """A file whose writes are counted too."""

    def __init__(self, file: Any, faulty: Faulty) -> None:
        self._file = file
        self._faulty = faulty

    def write(self, data: Any) -> int:
        self._faulty._count("write", self._file.name)
        return int(self._file.write(data))

    def __enter__(self) -> _File:
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


if __name__ == "__main__":
    import featstore

    store, source, model, at = sys.argv[1:]
    durable.os = Faulty(int(at), lambda: os.kill(os.getpid(), signal.SIGKILL))
    featstore.open(store).extract(source, model=model, shard_items=2)
    print(len(durable.os.calls))
