"""Official weights from torchvision's site, through torch's own cache folder."""

from __future__ import annotations

import http.client
import os
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

from featstore.errors import HubError, IntegrityError
from featstore.storage import durable, hashing

__all__ = ["cache_folder", "fetch", "hash_prefix", "reachable"]

_CONNECT_SECONDS = 8.0
_BLOCK = 1 << 20


def cache_folder() -> Path:
    """Where torch keeps downloaded weights; ``TORCH_HOME`` moves it. The same rule, without torch."""
    home = os.environ.get("TORCH_HOME") or os.path.join(
        os.environ.get("XDG_CACHE_HOME") or os.path.join("~", ".cache"), "torch"
    )
    return Path(os.path.expanduser(home)) / "hub" / "checkpoints"


def fetch(url: str, *, name: str, progress: Callable[[str], None] = lambda _: None) -> Path:
    """A weights file from the cache, or downloaded into it; its hash is checked in either case.

    Args:
        url: Where the file is; its name ends in the first digits of its SHA-256 (``resnet50-0676ba61.pth``).
        name: The model's name, for messages.
        progress: Told the size before and the share while downloading.

    Raises:
        HubError: The site cannot be reached within seconds, or breaks off.
        IntegrityError: The bytes are not the ones that the name promises.
    """
    file_name = url.rsplit("/", 1)[1]
    prefix = hash_prefix(file_name)
    path = cache_folder() / file_name
    if path.is_file():
        if hashing.of_file(path).startswith(prefix):
            return path
        progress(f"{path} is damaged; downloading it again")
    try:
        _download(url, path, prefix, name, progress)
    except (urllib.error.URLError, http.client.HTTPException, OSError, ValueError) as error:
        reason = getattr(error, "reason", None) or error
        raise _unreachable(
            name, url, f"HTTP {code}, {reason}" if (code := getattr(error, "code", 0)) else reason
        ) from error
    return path


def hash_prefix(file_name: str) -> str:
    """The digits of the SHA-256 in an official file's name: ``resnet50-0676ba61.pth`` → ``0676ba61``."""
    return file_name.rsplit(".", 1)[0].rsplit("-", 1)[1]


def reachable(seconds: float = 3.0) -> bool:
    """Whether torchvision's site answers (for ``featstore doctor``)."""
    try:
        with _open("https://download.pytorch.org/models/", seconds):
            return True
    except urllib.error.HTTPError:
        return True
    except (OSError, http.client.HTTPException, ValueError):
        return False


def _download(url: str, path: Path, prefix: str, name: str, progress: Callable[[str], None]) -> None:
    import hashlib

    with _open(url, _CONNECT_SECONDS) as response, durable.replacing(path) as file:
        size = int(response.headers.get("Content-Length") or 0)
        progress(f"downloading {name} ({size / 1e6:.0f} MB) to {path.parent}")
        digest, done, told = hashlib.sha256(), 0, time.monotonic()
        while block := response.read(_BLOCK):
            file.write(block)
            digest.update(block)
            done += len(block)
            if time.monotonic() - told > 1:
                told = time.monotonic()
                progress(f"downloading {name}: {done / 1e6:.0f} of {size / 1e6:.0f} MB")
        if size and done != size:
            raise OSError(f"the connection broke off after {done} of {size} bytes")
        if not digest.hexdigest().startswith(prefix):
            raise IntegrityError(
                f"{url} gave other bytes than its name promises: SHA-256 {digest.hexdigest()[:12]}…, not {prefix}….",
                hint="Nothing was kept. A proxy may have answered instead; try again or use --weights FILE.",
            )


def _open(url: str, seconds: float) -> Any:
    """Opens a URL within a time that also holds for the name look-up, which no socket timeout covers."""
    found: list[Any] = []
    given_up = threading.Event()

    def connect() -> None:
        try:
            response = urllib.request.urlopen(url, timeout=seconds)
        except Exception as error:
            if isinstance(error, urllib.error.HTTPError):
                error.close()  # it is an open response as well
            found.append(error)
            return
        if given_up.is_set():
            response.close()
        found.append(response)

    thread = threading.Thread(target=connect, daemon=True, name="featstore-hub")
    thread.start()
    thread.join(seconds)
    if not found:
        given_up.set()
        raise TimeoutError(f"no answer within {seconds:.0f} s")
    if isinstance(found[0], Exception):
        raise found[0]
    return found[0]


def _unreachable(name: str, url: str, reason: object) -> HubError:
    return HubError(
        f"cannot download the weights of '{name}' from {url}: {reason}.",
        hint=f"Without a network: --weights FILE (a .pth or safetensors file), or put {url.rsplit('/', 1)[1]} into "
        f"{cache_folder()}, or use a model whose weights come with pip: --model efficientnet_lite0, --model minilm",
    )
