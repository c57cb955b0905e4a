"""Records of what a model's speed was measured to be, and of the choice that was kept for a machine."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from featstore.records.models import Fidelity
from featstore.records.store import FORMAT_VERSION, Modality

__all__ = ["BenchLine", "ModelBench", "TunedChoice", "Tuning"]


@dataclass(frozen=True, slots=True, kw_only=True)
class TunedChoice:
    """What was fastest on one kind of machine: processor, usable cores and runtimes; it holds for no other.

    ``batch_size`` is in images a call, ``token_budget`` in padded tokens; the other one is None.
    """

    cpu: str
    cores: int
    versions: dict[str, str]
    backend: Literal["onnxruntime", "openvino"]
    workers: int
    batch_size: int | None
    token_budget: int | None
    items_per_s: float
    source: str
    measured_ts: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Tuning:
    """``models/SPACE_ID/tuning.json``: the choices that ``models bench --keep`` made, one for each kind of machine."""

    format_version: int = FORMAT_VERSION
    space_id: str
    choices: tuple[TunedChoice, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchLine:
    """One way of running a model, with its items a second in each round and their median.

    ``batch`` is in images a call, for texts in padded tokens. ``best`` marks the fastest of a space, or its default
    where nothing is clearly faster. ``fidelity`` is that of a space in fewer bits, as its gate measured it.
    """

    space_id: str
    precision: str
    backend: Literal["onnxruntime", "openvino"]
    runtime: str
    workers: int
    batch: int
    items_per_s: float
    low: float
    high: float
    rounds: tuple[float, ...]
    best: bool = False
    fidelity: Fidelity | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelBench:
    """What ``models bench`` measured: each way in turn, round by round, on the same items.

    ``source`` is None for the samples that come with the program. ``kept`` are the spaces whose best way the store now
    uses by default on such machines.
    """

    model: str
    modality: Modality
    source: str | None
    items: int
    cpu: str
    cores: int
    lines: tuple[BenchLine, ...]
    kept: tuple[str, ...]
    seconds: float
    warnings: tuple[str, ...] = ()
