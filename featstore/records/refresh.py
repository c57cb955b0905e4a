"""What is written down of jobs: what they published, what they would have, and how each run went."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from featstore.records.drift import DriftReport
from featstore.records.heads import Estimate
from featstore.records.indexes import IndexCard
from featstore.records.runs import ExtractResult
from featstore.records.store import FORMAT_VERSION

__all__ = [
    "GateItem",
    "GateOutcome",
    "HeadOutcome",
    "JobCheck",
    "JobDraft",
    "JobProblem",
    "JobStanding",
    "JobState",
    "RefreshPlan",
    "RefreshResult",
    "StagedCommit",
    "StagedFile",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class StagedFile:
    """A data file that a run has written and no commit names yet; ``path`` is relative to the table's folder."""

    path: str
    rows: int
    bytes: int
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StagedCommit:
    """``runs/RUN_ID/commit.json``: what a finished run would commit on top of exactly ``base_version``.

    ``version`` is what the table would then have. ``source`` is where its items came from.
    """

    format_version: int = FORMAT_VERSION
    run_id: str
    name: str
    space_id: str
    dim: int
    base_version: int | None
    version: int
    source: str
    add: tuple[StagedFile, ...]
    remove: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class GateItem:
    """One item behind a gate's verdict, and what is to be said of it."""

    item_id: str
    about: str


@dataclass(frozen=True, slots=True, kw_only=True)
class GateOutcome:
    """One check before publishing: ``value`` against ``limit``, ``relation`` says which way.

    ``status`` is ``not judged`` where there was too little to judge by, which ``note`` explains; it does not refuse.
    ``items`` are the first ten behind it.
    """

    gate: str
    status: Literal["passed", "refused", "not judged"]
    value: float | None
    limit: float
    relation: Literal["at most", "at least"]
    note: str | None = None
    items: tuple[GateItem, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadOutcome:
    """What became of one head of a job.

    ``version`` is the one that is (or would be) published, ``before`` the one published until now. ``figures`` are
    those of that version on the test items of the new table version; ``difference`` is a refitted head's figures
    minus those of the one before on the same items. ``failed`` heads could be neither measured nor fitted, which
    ``reason`` explains. ``wrong`` are test items that it is sure of, and wrong about, the surest first.
    """

    head: str
    action: Literal["kept", "refitted", "trained", "refit dropped", "failed"]
    reason: str
    version: int | None
    before: int | None
    folder: str | None
    figures: dict[str, Estimate]
    difference: dict[str, Estimate] = field(default_factory=dict)
    wrong: tuple[GateItem, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class RefreshResult:
    """What a refresh did: ``runs/RUN_ID/refresh.json``, and the one line that ``refresh`` prints.

    ``status`` is ``published``, ``nothing new``, ``refused`` by a gate (the candidate is kept), ``held`` (all gates
    passed, but publishing is held), or why it ended before: ``interrupted``, ``failed``. ``version`` is the table
    version that the run made or would make. ``next`` are the commands that one would go on with. ``beside`` is what was
    brought into the table of the model that this one is on its way to, ``beside_error`` why that could not be done.
    """

    format_version: int = FORMAT_VERSION
    job: str
    run_id: str
    status: Literal["published", "nothing new", "refused", "held", "interrupted", "failed"]
    table: str
    space_id: str | None
    version: int | None
    published_version: int | None
    started_ts: str
    finished_ts: str
    seconds: float
    as_of: str | None = None
    extract: ExtractResult | None = None
    index: IndexCard | None = None
    heads: tuple[HeadOutcome, ...] = ()
    drift: DriftReport | None = None
    gates: tuple[GateOutcome, ...] = ()
    stage_seconds: dict[str, float] = field(default_factory=dict)
    job_digest: str = ""
    error: str | None = None
    next: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    beside: ExtractResult | None = None
    beside_error: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RefreshPlan:
    """What ``refresh --dry-run`` says: nothing is written and no model is loaded.

    ``seconds_low`` and ``seconds_high`` are from measured rates, None where there are none yet. ``index`` and
    ``heads`` say in words what would be done.
    """

    job: str
    table: str
    extract: ExtractResult | None
    shards: int
    bytes: int
    seconds_low: float | None
    seconds_high: float | None
    index: str
    heads: dict[str, str]
    gates: tuple[str, ...]
    published_version: int | None
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class JobState:
    """``jobs/NAME.json`` of a store: how a job's last runs went. Times are None where there was none.

    ``command`` is what runs it: ``refresh``, ``migrate`` where it moves its table to another model, or ``finetune``
    where it makes that model.
    """

    format_version: int = FORMAT_VERSION
    job: str
    file: str | None
    table: str
    digest: str
    last_run_id: str
    last_status: str
    last_started_ts: str
    last_finished_ts: str
    last_success_ts: str | None
    last_published_ts: str | None
    failures: int
    next: str | None
    command: Literal["refresh", "migrate", "finetune"] = "refresh"


@dataclass(frozen=True, slots=True, kw_only=True)
class JobStanding:
    """One line of ``ls jobs``: how a job stands.

    ``status`` is that of its last run, ``never run``, or ``unreadable`` where its file is not as it must be, which
    ``note`` explains. ``age_seconds`` is the time since its last success. ``stale`` is None where no age was asked
    about; a job that never succeeded is stale at any age.
    """

    job: str
    file: str | None
    table: str
    status: str
    last_run_id: str | None
    last_started_ts: str | None
    last_success_ts: str | None
    last_published_ts: str | None
    age_seconds: float | None
    stale: bool | None
    published_version: int | None
    failures: int
    next: str | None
    note: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class JobProblem:
    """One thing that is wrong in a job's file: its key, such as ``head[1].refit`` (counted from 0), and its line."""

    path: str
    line: int | None
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class JobCheck:
    """What ``jobs check`` found in one file; ``warnings`` are of what lies around it, and do not make it wrong."""

    file: str
    job: str | None
    table: str | None
    digest: str | None
    problems: tuple[JobProblem, ...] = ()
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class JobDraft:
    """What ``jobs new`` wrote; ``notes`` say what it could not know."""

    job: str
    file: str
    table: str
    space_id: str
    heads: tuple[str, ...]
    notes: tuple[str, ...] = ()
