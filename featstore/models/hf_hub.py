"""Model files from the Hugging Face Hub, through its own client and into its standard cache.

Only safetensors weights, JSON, text and tokenizer files are ever fetched; nothing that could run code.
"""

from __future__ import annotations

import io
import os
import re
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from featstore.errors import FeatstoreError, HubError, UsageError

__all__ = ["Snapshot", "config", "file", "snapshot"]

_CONNECT_SECONDS = 8.0
_SUFFIXES = (".json", ".txt", ".model", ".safetensors")
_WEIGHTS = ("model.safetensors", "model.safetensors.index.json")
# Folders that sentence-transformers makes for its modules; others hold the same weights in other formats.
_MODULE = re.compile(r"\d+_[A-Za-z]+")

Found = TypeVar("Found")


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """A repository's files at one commit, in the hub's cache folder."""

    folder: Path
    commit: str


def snapshot(repository: str, revision: str | None, *, progress: Callable[[str], None] = lambda _: None) -> Snapshot:
    """All files that a model needs, downloaded unless the cache has them.

    Where the hub cannot be reached, the cache's newest copy is taken.

    Args:
        repository: ``ORG/NAME``.
        revision: A branch, tag or commit; None is the main branch.
        progress: Told the size before and the share while downloading.

    Raises:
        HubError: The hub cannot be reached within seconds, or does not know the model, and nothing is cached.
        UsageError: The model's weights are not in safetensors files.
    """
    info = _info(repository, revision, progress)
    if info is None:
        return _cached(repository, revision, "config.json")
    sizes = {s.rfilename: int(s.size or 0) for s in info.siblings or ()}
    weights = [name for name in sizes if name in _WEIGHTS or name.endswith(_WEIGHTS)]
    if not weights:
        raise UsageError(
            f"hf:{repository} has no safetensors weights; other formats can carry code and are never fetched.",
            hint="Convert it once where you trust it: AutoModel.from_pretrained(NAME).save_pretrained(FOLDER), "
            "then --model FOLDER",
        )
    wanted = [name for name in sizes if _needed(name)]
    folder = _download(repository, revision, info.sha, {name: sizes[name] for name in wanted}, progress)
    return Snapshot(folder=folder, commit=folder.name)


def config(repository: str, revision: str | None, *, progress: Callable[[str], None] = lambda _: None) -> Path:
    """The folder in the cache with a model's ``config.json`` (and ``modules.json``, where it has one).

    Raises:
        HubError: The hub cannot be reached within seconds, or does not know the model, and nothing is cached.
    """
    info = _info(repository, revision, progress)
    if info is None:
        return _cached(repository, revision, "config.json").folder
    names = {s.rfilename for s in info.siblings or ()} & {"config.json", "modules.json", "preprocessor_config.json"}
    if not names:
        raise HubError(f"hf:{repository} is no transformers model: it has no config.json.", hint=_BROWSE)
    return _download(repository, revision, info.sha, dict.fromkeys(sorted(names), 0), lambda _: None)


def file(
    repository: str, names: Sequence[str], *, progress: Callable[[str], None] = lambda _: None
) -> tuple[Path, str]:
    """One file of a repository: the first of some names that is there.

    Returns:
        The file, and the commit that it is of.

    Raises:
        HubError: The hub cannot be reached within seconds, or does not know the model, and nothing is cached.
        UsageError: The repository has none of them.
    """
    info = _info(repository, None, progress)
    if info is None:
        found = _cached(repository, None, *names)
        return next(found.folder / name for name in names if (found.folder / name).is_file()), found.commit
    sizes = {s.rfilename: int(s.size or 0) for s in info.siblings or ()}
    name = next((name for name in names if name in sizes), None)
    if name is None:
        raise UsageError(
            f"{repository} on the hub has no {' or '.join(names)}; other formats can carry code and are never fetched.",
            hint="Give the weights yourself with --weights FILE (safetensors, or a .pth of plain tensors).",
        )
    folder = _download(repository, None, info.sha, {name: sizes[name]}, progress)
    return folder / name, folder.name


_BROWSE = "Look the model up on the hub; its name is ORG/NAME."


def _needed(name: str) -> bool:
    """Weights and what describes them, at the top or in a module's folder; no second precision."""
    folder, _, last = name.rpartition("/")
    if folder and not _MODULE.fullmatch(folder):
        return False
    if last.endswith(".safetensors"):
        return last == "model.safetensors" or re.fullmatch(r"model-\d+-of-\d+\.safetensors", last) is not None
    return last.endswith(_SUFFIXES) or name == "README.md"


def _info(repository: str, revision: str | None, progress: Callable[[str], None]) -> Any:
    """What the hub says of a repository; None where it cannot be reached and the cache has a copy."""
    import huggingface_hub
    from huggingface_hub import constants, errors

    if constants.is_offline_mode():
        reason: object = "HF_HUB_OFFLINE is set"
    else:
        try:
            ask = huggingface_hub.HfApi().model_info
            return _within(
                lambda: ask(repository, revision=revision, files_metadata=True, timeout=_CONNECT_SECONDS),
                _CONNECT_SECONDS + 1,
            )
        except errors.GatedRepoError as error:
            raise HubError(
                f"hf:{repository} is only for those who accepted its terms on the hub.",
                hint="Accept them on the model's page, then set HF_TOKEN to an access token of yours.",
            ) from error
        except errors.RevisionNotFoundError as error:
            raise HubError(f"hf:{repository} has no revision '{revision}' on the hub.", hint=_BROWSE) from error
        except errors.RepositoryNotFoundError as error:
            raise HubError(
                f"the hub knows no model '{repository}', or it is private; there is no such folder here either.",
                hint=f"{_BROWSE} For a private one set HF_TOKEN to an access token of yours.",
            ) from error
        except FeatstoreError:
            raise
        except Exception as error:  # the client lets its HTTP library's exceptions through
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
            problem: Exception | None = error
    if _snapshot_in_cache(repository, revision) is not None:
        progress(f"the hub cannot be asked ({reason}); taking {repository} from {_cache_folder()}")
        return None
    message = f"cannot fetch hf:{repository} from the hub: {reason}."
    raise HubError(message, hint=_offline_hint(repository)) from (None if constants.is_offline_mode() else problem)


def _cached(repository: str, revision: str | None, *names: str) -> Snapshot:
    """The cache's copy, which must have one of the files."""
    folder = _snapshot_in_cache(repository, revision)
    if folder is None or not any((folder / name).is_file() for name in names):
        raise HubError(
            f"the copy of hf:{repository} in {_cache_folder()} lacks {' or '.join(names)}.",
            hint=_offline_hint(repository),
        )
    return Snapshot(folder=folder, commit=folder.name)


def _snapshot_in_cache(repository: str, revision: str | None) -> Path | None:
    import huggingface_hub
    from huggingface_hub import errors

    try:
        found = huggingface_hub.snapshot_download(repository, revision=revision, local_files_only=True)
    except (errors.LocalEntryNotFoundError, errors.HFValidationError, OSError, ValueError):
        return None
    return Path(str(found))


def _download(
    repository: str, revision: str | None, commit: str, sizes: dict[str, int], progress: Callable[[str], None]
) -> Path:
    """Files into the cache, all of one commit; the folder that they are in."""
    import huggingface_hub

    total = sum(sizes.values())
    if total and not all(_in_cache(repository, commit, name) for name in sizes):
        progress(f"downloading hf:{repository} ({total / 1e6:.0f} MB) to {_cache_folder()}")
    folder, asked = Path(), revision
    for name in sizes:
        try:
            # The first by its branch, so that the cache knows the branch where there is no network.
            path = huggingface_hub.hf_hub_download(
                repository, name, revision=asked, tqdm_class=_told(f"{repository}/{name}", progress)
            )
        except OSError as error:
            if error.errno is not None and error.filename:  # the disk, not the network
                raise HubError(f"cannot keep {repository}/{name}: {error.strerror} ({error.filename}).") from error
            raise _broken(repository, name, error) from error
        except Exception as error:  # the client lets its HTTP library's exceptions through
            raise _broken(repository, name, error) from error
        folder = Path(path)
        for _ in name.split("/"):
            folder = folder.parent
        asked = folder.name  # the rest of the very same commit
    return folder


def _in_cache(repository: str, commit: str, name: str) -> bool:
    import huggingface_hub

    return isinstance(huggingface_hub.try_to_load_from_cache(repository, name, revision=commit), str)


def _told(name: str, progress: Callable[[str], None]) -> type:
    """The client's progress bar, which speaks to ``progress`` instead of the terminal."""
    from huggingface_hub.utils import tqdm  # type: ignore[attr-defined, unused-ignore]

    class Told(tqdm):  # type: ignore[misc, unused-ignore]
        def __init__(self, *given: Any, **named: Any) -> None:
            self.told = time.monotonic()
            super().__init__(*given, **(named | {"file": io.StringIO(), "disable": False}))  # type: ignore[no-untyped-call]

        def update(self, n: float | None = 1) -> bool | None:
            moved: bool | None = super().update(n)
            if self.total and time.monotonic() - self.told > 1:
                self.told = time.monotonic()
                progress(f"downloading {name}: {self.n / 1e6:.0f} of {self.total / 1e6:.0f} MB")
            return moved

    return Told


def _within(call: Callable[[], Found], seconds: float) -> Found:
    """Runs a call within a time that also holds for the name look-up, which no socket timeout covers."""
    found: list[Found] = []
    failed: list[Exception] = []

    def run() -> None:
        try:
            found.append(call())
        except Exception as error:
            failed.append(error)

    thread = threading.Thread(target=run, daemon=True, name="featstore-hf-hub")
    thread.start()
    thread.join(seconds)
    if failed:
        raise failed[0]
    if not found:
        raise TimeoutError(f"no answer within {seconds:.0f} s")
    return found[0]


def _broken(repository: str, name: str, error: Exception) -> HubError:
    first = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
    return HubError(
        f"the download of {repository}/{name} from the hub broke off: {first}.",
        hint="Run the same command again; finished files are kept.",
    )


def _offline_hint(repository: str) -> str:
    return (
        f"With a network, once: hf download {repository} --local-dir FOLDER; then here --model FOLDER "
        "(or unset HF_HUB_OFFLINE). Weights that come with pip: --model efficientnet_lite0, --model minilm"
    )


def _cache_folder() -> str:
    from huggingface_hub import constants

    return os.fspath(constants.HF_HUB_CACHE)
