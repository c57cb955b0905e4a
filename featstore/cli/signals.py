"""Ctrl-C and SIGTERM end a run as an error of ours, soon, and once more at once.

Python runs a handler between two steps of the main thread only, and a library may swallow what it
raises. A thread that the kernel wakes up through a pipe therefore ends the process after a while.
That is safe: a run survives being killed at any point.

One call of Python's own does not survive an exception from a handler: ``Thread.start`` takes it for
a thread that never began, and the thread, which did begin, dies of that with a traceback. What comes
within it is raised a moment later.
"""

from __future__ import annotations

import _thread
import os
import signal
import sys
import threading
import time
from collections.abc import Sequence
from types import FrameType

from featstore.cli import logs
from featstore.errors import InterruptedRunError

__all__ = ["install", "received"]

# How long the pieces in hand may take before the process ends without them.
_PATIENCE_SECONDS = 4.0
# How soon a signal that came at a bad moment is raised again.
_MOMENT_SECONDS = 0.01

_NAMES = {signal.SIGINT: "Ctrl-C", signal.SIGTERM: "SIGTERM"}
_RESUMED = "Finished shards are kept: run the same command again to go on from there."
_TRAINED = "What was trained is kept: run the same command again to go on from there."
_ANEW = "Nothing is kept half done: run the same command again."

_received: list[int] = []


class _Later:
    """A signal that waits for a better moment: plain flags, since a handler may take no lock."""

    waiting = False
    raised = False


def install() -> None:
    """Handles SIGINT and SIGTERM from now on; only in the main thread."""
    readable, writable = os.pipe()
    os.set_blocking(writable, False)
    signal.set_wakeup_fd(writable, warn_on_full_buffer=False)
    threading.Thread(target=_watch, args=(readable,), name="featstore-signals", daemon=True).start()
    for signum in _NAMES:
        signal.signal(signum, _handle)


def received() -> InterruptedRunError | None:
    """The error of the first signal that came, whatever became of it on its way up."""
    return _error(_received[0]) if _received else None


def _error(signum: int) -> InterruptedRunError:
    return InterruptedRunError(f"stopped by {_NAMES[signal.Signals(signum)]}.", signum=signum, hint=_hint(sys.argv[1:]))


def _hint(arguments: Sequence[str]) -> str:
    """What to do next: an extract, a refresh, a move or a training goes on where it was, all else starts again."""
    command = next((word for word in arguments if not word.startswith("-")), "")
    into = any(word.partition("=")[0] == "--into" for word in arguments)
    if command == "finetune":
        return _TRAINED
    return _RESUMED if command in ("extract", "refresh", "migrate") or (command == "predict" and into) else _ANEW


def _handle(signum: int, frame: FrameType | None) -> None:
    if _Later.raised:
        _Later.raised = False
    else:
        _received.append(signum)
        if len(_received) > 1:
            os._exit(128 + signum)
    if _starts_a_thread(frame):
        _Later.waiting = True
        return
    raise _error(signum)


def _starts_a_thread(frame: FrameType | None) -> bool:
    while frame is not None:
        if frame.f_code is threading.Thread.start.__code__:
            return True
        frame = frame.f_back
    return False


def _watch(readable: int) -> None:
    signum = 0
    while signum not in tuple(_NAMES):
        signum = os.read(readable, 1)[0]
    until = time.monotonic() + _PATIENCE_SECONDS
    while time.monotonic() < until:
        time.sleep(_MOMENT_SECONDS)
        if _Later.waiting:
            _Later.waiting, _Later.raised = False, True
            _thread.interrupt_main(signal.Signals(signum))
    error = _error(signum)
    message = f"{error.message} The work in hand took too long and was left."
    said = f"error: {message}\n{error.hint}\n"
    if logs.active():
        said = logs.line("error", message, error=type(error).__name__, code=error.exit_code, hint=error.hint)
    os.write(2, said.encode())
    os._exit(error.exit_code)
