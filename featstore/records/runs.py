"""Sources and runs: what was read, what was refused, what was stored."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from featstore.records.store import FORMAT_VERSION, Modality, SettingValue

__all__ = [
    "CommitInfo",
    "ExtractResult",
    "Manifest",
    "OpenRun",
    "Reading",
    "Reject",
    "ShardReceipt",
    "SourceRecord",
    "StageSeconds",
]

Reading = dict[str, str | int | bool | list[str] | None]


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
class ExtractResult:
    """What an extract did; the object that ``extract --json`` prints.

    ``seen = stored + reused + rejected + left``. ``stored`` were embedded in this run, ``reused`` are
    unchanged, renamed or of equal content, ``rejected`` includes those rejected before and not
    retried, ``left`` are new and wait for a later run, where this one was told to embed a part only.
    ``version`` is None while nothing was ever committed. ``shards`` are those of the run's plan.
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
    left: int = 0
    truncated: int = 0
    tokens: int = 0
    bytes_written: int = 0
    shards: int = 0
    resumed_shards: int = 0
    stage_seconds: StageSeconds = field(default_factory=StageSeconds)
    rates: dict[str, float] = field(default_factory=dict)
    reject_codes: dict[str, int] = field(default_factory=dict)
    device: str | None = None
    backend: str | None = None
    path: str = ""
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """``runs/RUN_ID/manifest.json``: one execution, its settings and where each came from."""

    format_version: int = FORMAT_VERSION
    run_id: str
    status: Literal["running", "committed", "failed", "interrupted", "refused", "superseded"]
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
    """One version of a feature table, as ``show --history`` lists it.

    ``published`` is what became of it: what the table's name means now, what ``rollback`` can go back to, or what was
    taken back; None for all others.
    """

    version: int
    timestamp: str
    operation: str
    run_id: str | None
    rows_added: int
    rows_removed: int
    files_added: int
    files_removed: int
    published: Literal["published", "previous", "taken back"] | None = None
