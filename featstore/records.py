"""What featstore writes down: one frozen dataclass for each kind of JSON document and message.

Documents carry a ``format_version``; ``schemas/`` holds the JSON Schema generated from each.
Times are ISO 8601 in UTC, digests are lower-case hexadecimal SHA-256, sizes are bytes.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

__all__ = [
    "FORMAT_VERSION",
    "Artefact",
    "Check",
    "CommitInfo",
    "DoctorReport",
    "ExtractResult",
    "Finding",
    "GcReport",
    "ImagePreprocessing",
    "Manifest",
    "Modality",
    "ModelCard",
    "OpenRun",
    "Parity",
    "Reading",
    "Reference",
    "Reject",
    "SettingValue",
    "ShardReceipt",
    "SourceRecord",
    "StageSeconds",
    "StoreRecord",
    "TableSummary",
    "TextPreprocessing",
    "VerifyReport",
    "WeightsInfo",
]

FORMAT_VERSION = 1

Modality = Literal["image", "text"]
Reading = dict[str, str | bool | list[str] | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreRecord:
    """``store.json``: what makes a folder a store."""

    format_version: int = FORMAT_VERSION
    store_id: str
    created_ts: str
    featstore: str


# ── models ────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True, kw_only=True)
class ImagePreprocessing:
    """How an RGB picture of any size becomes the network's uint8 input (height, width, 3).

    ``resize`` is the length of the shorter side (``resize_mode="shortest"``) or the exact
    (height, width) (``"exact"``); then the centre ``crop`` (height, width) is taken. ``mean`` and
    ``std`` (on the 0–1 scale) are applied inside the ONNX graph, never on the way to it.
    """

    resize: tuple[int, int]
    resize_mode: Literal["shortest", "exact"]
    interpolation: Literal["bilinear", "bicubic", "lanczos"]
    crop: tuple[int, int]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class TextPreprocessing:
    """How a string becomes token ids: prompts in front, truncation at ``max_length`` tokens.

    ``inputs`` are the graph's input names in order. ``max_length`` counts special tokens.
    """

    max_length: int
    pad_token_id: int
    inputs: tuple[str, ...]
    prompt_document: str = ""
    prompt_query: str = ""
    padding_side: Literal["left", "right"] = "right"


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightsInfo:
    """Where the weights came from, and what may be done with them."""

    source: str
    sha256: str
    tensors_sha256: str
    parameters: int
    licence: str = "unknown"
    training_data: str = "unknown"
    url: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Artefact:
    """One file of a model, bound to its bytes."""

    file: str
    sha256: str
    bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Parity:
    """How close the exported graph came to the original on the canaries (cosines)."""

    items: int
    min_cosine: float
    mean_cosine: float
    batch_min_cosine: float
    reference: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelCard:
    """``models/SPACE_ID/card.json``: everything that defines a space, and the files that compute it.

    ``digest`` is the full SHA-256 of the function's definition; ``space_id`` is the slug followed
    by its first eight digits.
    """

    format_version: int = FORMAT_VERSION
    space_id: str
    digest: str
    model: str
    family: str
    architecture: str
    modality: Modality
    layer: str
    pooling: str
    normalize: bool
    precision: str
    dim: int
    weights: WeightsInfo
    onnx: Artefact
    canaries: Artefact
    parity: Parity
    versions: dict[str, str]
    created_ts: str
    image: ImagePreprocessing | None = None
    text: TextPreprocessing | None = None
    tokenizer: Artefact | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """``models/refs/KEY.json``: which space a model's name and options lead to."""

    format_version: int = FORMAT_VERSION
    key: str
    model: str
    space_id: str


# ── sources, runs ─────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceRecord:
    """``sources/NAME.json``: what a table is kept in step with.

    ``options`` say how the source is read; ``added`` holds those of each source that was put beside it.
    """

    format_version: int = FORMAT_VERSION
    name: str
    modality: Modality
    uri: str
    kind: str
    options: Reading = field(default_factory=dict)
    added: dict[str, Reading] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reject:
    """One item that was refused, and why."""

    item_id: str
    content_sha256: str | None
    stage: str
    code: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StageSeconds:
    """Thread-seconds spent in each stage of a shard or run."""

    read: float = 0.0
    decode: float = 0.0
    infer: float = 0.0
    write: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardReceipt:
    """``runs/RUN_ID/shards/NNNNN.json``: a finished shard; what a re-run resumes from.

    ``file`` is relative to the feature table's folder, or None when every item was rejected.
    """

    format_version: int = FORMAT_VERSION
    run_id: str
    shard: int
    file: str | None
    rows: int
    bytes: int
    sha256: str | None
    rejects: tuple[Reject, ...]
    truncated: int
    tokens: int
    seconds: StageSeconds


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenRun:
    """``runs/open/NAME/SPACE_ID.json``: the run that is under way, or was when it was killed."""

    format_version: int = FORMAT_VERSION
    run_id: str
    name: str
    space_id: str
    plan_digest: str
    base_version: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class SettingValue:
    """A resolved setting and where it came from: flag, environment, job or default."""

    value: str | int | float | bool | list[str] | None
    origin: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ExtractResult:
    """What an extract did; the object that ``extract --json`` prints.

    ``seen = stored + reused + rejected``. ``stored`` were embedded in this run, ``reused`` are
    unchanged, renamed or of equal content, ``rejected`` includes those rejected before and not
    retried. ``version`` is None while nothing was ever committed.
    """

    run_id: str | None
    table: str
    space_id: str
    version: int | None
    dim: int
    seen: int
    stored: int
    reused: int
    rejected: int
    removed: int
    ignored: int
    seconds: float
    items_per_s: float
    bottleneck: str | None
    status: str
    new: int = 0
    changed: int = 0
    renamed: int = 0
    twins: int = 0
    updated: int = 0
    truncated: int = 0
    tokens: int = 0
    bytes_written: int = 0
    resumed_shards: int = 0
    stage_seconds: StageSeconds = field(default_factory=StageSeconds)
    rates: dict[str, float] = field(default_factory=dict)
    reject_codes: dict[str, int] = field(default_factory=dict)
    device: str | None = None
    path: str = ""
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """``runs/RUN_ID/manifest.json``: one execution, its settings and where each came from."""

    format_version: int = FORMAT_VERSION
    run_id: str
    status: Literal["running", "committed", "failed", "interrupted", "superseded"]
    name: str
    space_id: str
    source: str
    base_version: int | None
    plan_digest: str
    shards: int
    started_ts: str
    finished_ts: str | None = None
    settings: dict[str, SettingValue] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    result: ExtractResult | None = None
    error: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CommitInfo:
    """One version of a feature table, as ``show --history`` lists it."""

    version: int
    timestamp: str
    operation: str
    run_id: str | None
    rows_added: int
    rows_removed: int
    files_added: int
    files_removed: int


# ── looking and looking after ─────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True, kw_only=True)
class TableSummary:
    """One line of ``ls``, and the head of ``show``: a table at one version."""

    table: str
    space_id: str
    version: int
    items: int
    dim: int
    bytes: int
    modality: Modality
    model: str
    source: str
    rejects: int
    updated_ts: str
    columns: tuple[str, ...]
    path: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that ``verify`` found wrong, or worth knowing."""

    severity: Literal["error", "warning"]
    code: str
    path: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifyReport:
    """What ``verify`` looked at. ``ok`` is whether there is no finding of severity error."""

    ok: bool
    tables: int
    files: int
    bytes: int
    rows: int
    models: int
    sampled: int
    min_cosine: float | None
    seconds: float
    findings: tuple[Finding, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class GcReport:
    """What ``gc`` removed and rewrote, or with ``--dry-run`` would."""

    dry_run: bool
    tables: int
    compacted_files: int
    written_files: int
    removed_files: int
    removed_bytes: int
    kept_versions: dict[str, list[int]]
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One line of ``doctor``."""

    name: str
    status: Literal["ok", "warning", "error"]
    value: str
    hint: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DoctorReport:
    """What ``doctor`` found out about this machine and store."""

    ok: bool
    checks: tuple[Check, ...]
