"""Where a training stands, on disk: whole after every write, whatever ends the program.

Two files of tensors, the last state and the best weights, and a JSON document that names them. Tensors are written
under a new name first; then the document is swapped; then what it no longer names is deleted. A data order or a random
draw is never stored: each follows from the seed, the epoch and the step.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from featstore.errors import IntegrityError, NotFoundError
from featstore.layout import Layout
from featstore.records import FORMAT_VERSION, Artefact, FinetuneEpoch
from featstore.storage import documents, hashing

if TYPE_CHECKING:
    import torch

__all__ = ["Checkpoint", "Checkpoints", "Progress"]

DOCUMENT = "checkpoint.json"

_SECONDS = 60.0  # between two checkpoints of an epoch, at least
_SHARE = 20.0  # and so many times as long as one takes


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far a training is; ``losses``, ``right``, ``seen`` and ``seconds`` are of the epoch under way.

    ``step`` counts the steps of the epoch that are done; ``scale`` is that of float16's losses and how many steps it
    has held.
    """

    epoch: int
    step: int
    losses: float
    right: int
    seen: int
    seconds: float
    micro_batch: int
    scale: tuple[float, int] | None
    history: tuple[FinetuneEpoch, ...]
    stopped_early: bool = False
    finished: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """``checkpoint.json``: the progress, and the tensors that belong to it; ``identity`` is what was asked for."""

    format_version: int = FORMAT_VERSION
    identity: str
    progress: Progress
    state: Artefact | None
    best: Artefact


class Checkpoints:
    """The checkpoints of one training.

    Args:
        layout: The store.
        folder: Where they lie in it; nothing else in there is touched.
        identity: A digest of what is trained and how; a checkpoint of anything else is not gone on from.
        every: Steps between two of them within an epoch; None: by the clock.
    """

    def __init__(self, layout: Layout, folder: str, identity: str, every: int | None) -> None:
        self._storage = layout.storage
        self._folder = folder
        self._identity = identity
        self._every = every
        self._written = time.monotonic()
        self._took = 0.0
        self._best: Artefact | None = None

    def find(self, warn: Callable[[str], None]) -> tuple[Progress, dict[str, torch.Tensor]] | None:
        """The last progress and its tensors; None where there is none of this training, or it is damaged.

        A finished training has no state left: its tensors are the best ones.

        Args:
            warn: Told of damage: the training can be begun again, and comes to the same end.
        """
        try:
            found = documents.find(self._storage, self._at(DOCUMENT), Checkpoint)
            if found is None:
                return None
            if found.identity != self._identity:
                folder = self._storage.local(self._folder)
                warn(f"the checkpoint in {folder} is of other settings or another program, so training begins again")
                return None
            tensors = self._read(found.state or found.best)
            if found.state is not None:
                self._read(found.best)
        except (IntegrityError, NotFoundError) as error:
            warn(f"the checkpoint in {self._storage.local(self._folder)} is damaged, so training begins again: {error}")
            return None
        self._best = found.best
        return found.progress, tensors

    def best(self) -> dict[str, torch.Tensor]:
        """The weights of the best epoch so far.

        Raises:
            IntegrityError: They are not what was written.
        """
        assert self._best is not None
        return self._read(self._best)

    def due(self, step: int) -> bool:
        """Whether it is time for another one after so many steps of an epoch."""
        if self._every is not None:
            return step % self._every == 0
        return time.monotonic() - self._written >= max(_SECONDS, _SHARE * self._took)

    def save(
        self,
        progress: Progress,
        state: Mapping[str, torch.Tensor],
        *,
        best: Mapping[str, torch.Tensor] | None = None,
    ) -> None:
        """Writes where the training stands.

        Args:
            progress: Also says whether it is finished: then only the best weights are kept.
            state: Whatever going on needs.
            best: The weights after the epoch that just ended, where it is the best so far.

        Raises:
            StorageError: The disk refused.
        """
        begun = time.monotonic()
        if best is not None:
            self._best = self._write("best", best)
        assert self._best is not None
        kept = None if progress.finished else self._write("checkpoint", state)
        document = Checkpoint(identity=self._identity, progress=progress, state=kept, best=self._best)
        documents.write(self._storage, self._at(DOCUMENT), document)
        named = {self._best.file, kept.file if kept is not None else ""}
        for path in self._storage.files(self._folder):
            file = path.rpartition("/")[2]
            if file.startswith(("best-", "checkpoint-")) and file.endswith(".safetensors") and file not in named:
                self._storage.delete(path)
        self._written = time.monotonic()
        self._took = self._written - begun

    def _write(self, kind: str, tensors: Mapping[str, torch.Tensor]) -> Artefact:
        from safetensors.torch import save

        # Copies: tensors that share their memory with others cannot be written.
        content = save({name: t.detach().cpu().contiguous().clone() for name, t in tensors.items()})
        sha256 = hashing.of_bytes(content)
        file = f"{kind}-{sha256[:16]}.safetensors"
        self._storage.write(self._at(file), content)
        return Artefact(file=file, sha256=sha256, bytes=len(content))

    def _read(self, artefact: Artefact) -> dict[str, torch.Tensor]:
        from safetensors.torch import load

        content = self._storage.read(self._at(artefact.file))
        if hashing.of_bytes(content) != artefact.sha256:
            raise IntegrityError(f"{self._storage.local(self._at(artefact.file))} is damaged.")
        return load(content)

    def _at(self, file: str) -> str:
        return f"{self._folder}/{file}"
