"""Fine-tuned backbones: what is trained at which rate, how training went, what the gates found."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from featstore.records.heads import Estimate
from featstore.records.migrations import MigrationResult
from featstore.records.refresh import GateOutcome
from featstore.records.store import FORMAT_VERSION

__all__ = [
    "FinetuneEpoch",
    "FinetuneForgetting",
    "FinetunePlan",
    "FinetuneReport",
    "FinetuneResult",
    "FinetuneState",
    "FinetuneTrial",
    "ParameterGroup",
    "TunedBlock",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class TunedBlock:
    """A part of the network, from the top down: ``epoch`` is when it begins to be trained, None for never."""

    name: str
    parameters: int
    epoch: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ParameterGroup:
    """One of the optimizer's groups: the tensors of a block that share a rate and a decay.

    ``rate`` is the one at the end of the warm-up of the epoch that it is said of, before the schedule bends it.
    """

    name: str
    parameters: int
    rate: float
    decay: float


@dataclass(frozen=True, slots=True, kw_only=True)
class FinetuneEpoch:
    """One epoch: losses and accuracies of training (augmented, as it went) and validation, and the groups as used.

    ``validation_loss`` and ``validation_accuracy`` of epoch -1 are those before the first step.
    """

    epoch: int
    train_loss: float | None
    train_accuracy: float | None
    validation_loss: float
    validation_accuracy: float
    groups: tuple[ParameterGroup, ...]
    seconds: float
    best: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class FinetuneTrial:
    """One trial of a search: what was tried, and the best validation accuracy; a pruned one has the last it reached."""

    number: int
    settings: dict[str, str | float | int | bool | None]
    accuracy: float | None
    status: Literal["complete", "pruned", "failed"]


@dataclass(frozen=True, slots=True, kw_only=True)
class FinetuneForgetting:
    """What other tasks lose: a registered head (``head``) or the neutral items (``probe``), before and after.

    ``difference`` is after minus before on the same test items, paired.
    """

    name: str
    kind: Literal["head", "probe"]
    items: int
    before: float
    after: float
    difference: Estimate


@dataclass(frozen=True, slots=True, kw_only=True)
class FinetunePlan:
    """``featstore finetune --dry-run``: what would be trained, for how long, and what the frozen head reaches.

    ``groups`` are those of the epoch with which the last block begins. ``frozen`` is the accuracy of the best head on
    the frozen vectors, out of fold on the training side: the test side is not looked at. ``seconds_low`` and
    ``seconds_high`` bound the time by rates measured just now. ``resumes`` is the epoch and step that an unfinished run
    of the same would go on from, ``then`` what a job would do with what passes.
    """

    table: str
    version: int
    space_id: str
    model: str
    label: str
    classes: dict[str, int]
    n_train: int
    n_validation: int
    n_test: int
    method: str
    blocks: tuple[TunedBlock, ...]
    groups: tuple[ParameterGroup, ...]
    trained_parameters: int
    parameters: int
    epochs: int
    steps: int
    seconds_low: float
    seconds_high: float
    frozen: Estimate
    frozen_kind: str
    advice: str | None
    resumes: str | None
    warnings: tuple[str, ...] = ()
    then: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class FinetuneState:
    """``finetunes/TABLE/KEY/state.json``: how one fine-tuning stands; the key is of all that determines it.

    ``judged_by`` is a digest of what a refusal rests on beside that: where it is another now, the gates are asked
    again.
    """

    format_version: int = FORMAT_VERSION
    key: str
    table: str
    version: int
    label: str
    base: str
    status: Literal["open", "kept", "refused"]
    space_id: str | None
    started_ts: str
    changed_ts: str
    refused: str | None = None
    judged_by: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class FinetuneReport:
    """``finetunes/TABLE/KEY/report.json``: how it went and what the gates found; ``html`` is the page beside it,
    None where a purge has removed that.

    ``frozen`` and ``tuned`` are the figures of the best head on the old and on the new vectors, on the same test
    items; ``own`` those of the network's own head; ``gain`` is tuned minus frozen, paired by item. ``cosine`` is the
    mean between an item's old and new vector (same dimension, not the same space: it only says how far they went),
    ``overlap`` the share of ten nearest neighbours that stay.
    """

    format_version: int = FORMAT_VERSION
    table: str
    version: int
    label: str
    base: str
    model: str
    space_id: str
    method: str
    settings: dict[str, str | float | int | bool | tuple[str, ...] | None]
    classes: dict[str, int]
    n_train: int
    n_validation: int
    n_test: int
    split_id: str
    blocks: tuple[TunedBlock, ...]
    epochs: tuple[FinetuneEpoch, ...]
    best_epoch: int
    stopped_early: bool
    micro_batch: int
    trials: tuple[FinetuneTrial, ...]
    frozen: dict[str, Estimate]
    frozen_kind: str
    tuned: dict[str, Estimate]
    tuned_kind: str
    own: dict[str, Estimate]
    gain: Estimate
    forgetting: tuple[FinetuneForgetting, ...]
    cosine: float
    overlap: float
    gates: tuple[GateOutcome, ...]
    html: str | None
    created_ts: str
    seconds: float
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class FinetuneResult:
    """What ``featstore finetune`` ends with.

    ``kept``: there is a new model, ``space_id``; ``published``: and a job has moved the table to it. ``nothing new``:
    the same labels and settings had their end before, and ``space_id`` is what came of it, None for a refusal.
    ``migration`` is what a job's move to the new model came to.
    """

    table: str
    label: str
    status: Literal["kept", "published", "refused", "nothing new", "interrupted", "failed"]
    space_id: str | None
    key: str | None
    report: FinetuneReport | None
    html: str | None
    next: tuple[str, ...]
    seconds: float
    error: str | None = None
    warnings: tuple[str, ...] = ()
    migration: MigrationResult | None = None
