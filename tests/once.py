"""What takes long to make and is only read: made by the first worker of a run that asks, for all of them."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

__all__ = ["begin", "end", "folder", "once"]

_FOLDER = "SHARED_BY_ALL_TESTS"  # workers inherit the environment of the run that starts them


def begin() -> None:
    """Makes the run's folder; for the process that starts the workers."""
    os.environ[_FOLDER] = tempfile.mkdtemp(prefix="featstore-shared-")


def end() -> None:
    """Removes it."""
    shutil.rmtree(os.environ.pop(_FOLDER), ignore_errors=True)


def folder() -> Path:
    """It."""
    return Path(os.environ[_FOLDER])


def once(name: str, make: Callable[[Path], object]) -> Path:
    """A folder that ``make`` has filled; read it, never write into it."""
    made = folder() / name
    done = made.with_suffix(".done")
    with made.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not done.exists():
            shutil.rmtree(made, ignore_errors=True)  # of a worker that failed
            made.mkdir()
            make(made)
            done.touch()
    return made
