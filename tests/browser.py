"""A real headless browser for tests: Chromium, driven through two pipes.

Source: Chrome DevTools Protocol; ``--remote-debugging-pipe`` reads messages, each ended by a zero byte, from descriptor
3 and writes them to 4. So no port is opened and no WebSocket library is needed.
"""

from __future__ import annotations

import base64
import contextlib
import fcntl
import json
import os
import select
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

__all__ = ["Page", "browser", "executable"]

_NAMES = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
_MAC = "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome"


def executable() -> str:
    """The browser: what ``CHROMIUM`` names, or the first of the usual names on the path.

    Raises:
        AssertionError: There is none; a test that needs one fails then, it is not skipped.
    """
    named = os.environ.get("CHROMIUM")
    found = named or next(filter(None, map(shutil.which, _NAMES)), None) or (_MAC if Path(_MAC).exists() else None)
    assert found, f"no headless browser: 'make browser' installs one, or CHROMIUM names one (looked for {_NAMES})"
    return found


class Page:
    """One tab; what the browser tells of it is kept in ``events``."""

    def __init__(self, write: int, read: int) -> None:
        self._write, self._read = write, read
        self._number = 0
        self._buffer = b""
        self._session: str | None = None
        self.events: list[dict[str, Any]] = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters: object) -> dict[str, Any]:
        """Sends a command and waits for its answer."""
        self._number += 1
        message: dict[str, object] = {"id": self._number, "method": method, "params": parameters}
        if self._session is not None:
            message["sessionId"] = self._session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._next()
            if answer.get("id") == self._number:
                assert "error" not in answer, f"{method}: {answer['error']}"
                result: dict[str, Any] = answer["result"]
                return result
            self.events.append(answer)

    def open(self, file: Path) -> None:
        """Shows a file and waits until it has loaded; forgets the events of what was shown before."""
        self.events.clear()
        self.call("Page.navigate", url=file.as_uri())
        self.wait("Page.loadEventFired")

    def wait(self, name: str) -> None:
        """Waits for an event."""
        while not self.named(name):
            self.events.append(self._next())

    def named(self, name: str) -> list[dict[str, Any]]:
        """The parameters of all events of a name."""
        return [event["params"] for event in self.events if event.get("method") == name]

    def run(self, expression: str) -> Any:
        """Evaluates JavaScript in the page."""
        found = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def look(self, *, width: int = 1280, height: int = 900, dark: bool = False, media: str = "") -> None:
        """Sets the size of the window, and what the reader prefers."""
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", media=media, features=[scheme])

    def picture(self, file: Path, *, whole: bool = True) -> None:
        """Takes a PNG."""
        found = self.call("Page.captureScreenshot", captureBeyondViewport=whole)
        file.write_bytes(base64.b64decode(found["data"]))

    def _next(self, seconds: float = 60.0) -> dict[str, Any]:
        until = time.monotonic() + seconds
        while b"\0" not in self._buffer:
            ready, _, _ = select.select([self._read], [], [], max(0.0, until - time.monotonic()))
            assert ready, f"the browser said nothing for {seconds:.0f} seconds"
            piece = os.read(self._read, 1 << 16)
            assert piece, "the browser has ended"
            self._buffer += piece
        message, _, self._buffer = self._buffer.partition(b"\0")
        found: dict[str, Any] = json.loads(message)
        return found


@contextlib.contextmanager
def browser() -> Iterator[Page]:
    """Starts a browser with an empty profile; ends it, and removes the profile, when the block does."""
    # High numbers: the shell that starts the browser moves them to 3 and 4, and must not overwrite one by the other.
    pairs = [os.pipe() for _ in range(2)]
    (to_read, to_write), (from_read, from_write) = (
        tuple(fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 20) for end in pair) for pair in pairs
    )
    for end in (end for pair in pairs for end in pair):
        os.close(end)
    with tempfile.TemporaryDirectory(prefix="featstore-browser-", ignore_cleanup_errors=True) as profile:
        switches = [
            "--headless", "--remote-debugging-pipe", f"--user-data-dir={profile}", "--no-first-run", "--disable-gpu",
            "--no-sandbox", "--disable-dev-shm-usage", "--hide-scrollbars", "--disable-background-networking",
        ]  # fmt: skip
        process = subprocess.Popen(
            ["bash", "-c", f'exec "$@" 3<&{to_read} 4>&{from_write}', "bash", executable(), *switches, "about:blank"],
            pass_fds=(to_read, from_write),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            os.close(to_read)
            os.close(from_write)
            yield Page(to_write, from_read)
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            os.close(to_write)
            os.close(from_read)


if __name__ == "__main__":
    print(executable())
