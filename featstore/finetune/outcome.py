"""What training ended with, kept in the run's folder until the gates have spoken: training is never done twice."""

from __future__ import annotations

import io
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from featstore.finetune.examples import Start
from featstore.models import kept, verified
from featstore.records import FORMAT_VERSION, Artefact, FinetuneEpoch, FinetuneTrial, TunedBlock
from featstore.storage import documents

if TYPE_CHECKING:
    from featstore.layout import Layout
    from featstore.settings import FinetuneSettings

__all__ = ["PAGE", "REPORT", "STATE", "Outcome", "clear", "find", "forget", "head", "said", "weights", "write"]

_FILE, _WEIGHTS, _HEAD = "trained.json", "trained.safetensors", "trained-head.npy"

# What outlives the training: how it stands and what came of it.
STATE, REPORT, PAGE = "state.json", "report.json", "report.html"
_LASTING = (STATE, REPORT, PAGE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """``finetunes/TABLE/KEY/trained.json``: how training went.

    ``settings`` are those that it ended up with. ``weights`` are the network's tensors after the best epoch, and
    ``head`` its own head's weights with the bias as the last column; None where no epoch was better than the start.
    ``unit`` says whether that head takes vectors at length 1.
    """

    format_version: int = FORMAT_VERSION
    settings: dict[str, str | float | int | bool | tuple[str, ...] | None]
    method: str
    blocks: tuple[TunedBlock, ...]
    epochs: tuple[FinetuneEpoch, ...]
    best_epoch: int
    stopped_early: bool
    micro_batch: int
    trials: tuple[FinetuneTrial, ...]
    unit: bool
    seconds: float
    weights: Artefact | None = None
    head: Artefact | None = None


def said(settings: FinetuneSettings) -> dict[str, Any]:
    """Settings as they are written down; where the result goes is not one of them, and may hold a password."""
    return {name: value for name, value in asdict(settings).items() if name not in ("mlflow", "report")}


def find(layout: Layout, table: str, key: str) -> Outcome | None:
    """How the training of a run ended; None where it has not.

    Raises:
        IntegrityError: It is damaged.
    """
    return documents.find(layout.storage, layout.finetune(table, key, _FILE), Outcome)


def write(layout: Layout, table: str, key: str, outcome: Outcome, head: Start, weights: bytes | None) -> Outcome:
    """Writes down how training ended, the document last, and lets go of what it was resumed from.

    Args:
        layout: The store.
        table: The table's name.
        key: Of the run.
        outcome: How it went; the artefact is found here.
        head: The network's own head.
        weights: Its tensors, None where nothing was better than the start.
    """
    if weights is not None:
        layout.storage.write(layout.finetune(table, key, _WEIGHTS), weights)
        file = io.BytesIO()
        np.save(file, np.column_stack([head.weight, head.bias]).astype(np.float32), allow_pickle=False)
        layout.storage.write(layout.finetune(table, key, _HEAD), file.getvalue())
        outcome = replace(outcome, weights=kept.artefact(_WEIGHTS, weights), head=kept.artefact(_HEAD, file.getvalue()))
    documents.write(layout.storage, layout.finetune(table, key, _FILE), outcome)
    clear(layout, table, key, but=(*_LASTING, _FILE, _WEIGHTS, _HEAD))
    return outcome


def weights(layout: Layout, table: str, key: str, outcome: Outcome) -> bytes:
    """The network's tensors after its best epoch.

    Raises:
        IntegrityError: They are missing or damaged.
    """
    assert outcome.weights is not None
    return verified.read(layout.storage, layout.finetune(table, key, _WEIGHTS), outcome.weights)


def head(layout: Layout, table: str, key: str, outcome: Outcome) -> Start:
    """The network's own head after its best epoch.

    Raises:
        IntegrityError: It is missing or damaged.
    """
    assert outcome.head is not None
    content = verified.read(layout.storage, layout.finetune(table, key, _HEAD), outcome.head)
    found = np.load(io.BytesIO(content), allow_pickle=False)
    return Start(weight=found[:, :-1].copy(), bias=found[:, -1].copy(), unit=outcome.unit)


def forget(layout: Layout, table: str, key: str) -> None:
    """Lets go of all but the state and the report: the weights are a model's now."""
    clear(layout, table, key, but=_LASTING)


def clear(layout: Layout, table: str, key: str, *, but: tuple[str, ...] = ()) -> None:
    """Removes what lies in a run's folder; the document that names the others first."""
    folder = layout.finetune(table, key)
    found = [path for path in layout.storage.files(folder) if path.removeprefix(f"{folder}/") not in but]
    for path in sorted(found, key=lambda path: not path.endswith(".json")):
        layout.storage.delete(path)
