"""What is written down of a table's move to another model: how it stands, what it found, what links the spaces."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from featstore.records.bridges import RecallAt
from featstore.records.differences import NeighbourOverlap
from featstore.records.evaluations import Evaluation
from featstore.records.heads import Estimate
from featstore.records.refresh import GateOutcome
from featstore.records.runs import ExtractResult
from featstore.records.store import FORMAT_VERSION, Artefact
from featstore.records.tables import TableVersion

__all__ = [
    "HeadMove",
    "Migration",
    "MigrationPlan",
    "MigrationReport",
    "MigrationResult",
    "ScoreMap",
    "ScoreQuantile",
    "SpaceBridgeCard",
    "SpaceBridgeResult",
    "SpaceCost",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class SpaceBridgeCard:
    """``crossings/FROM/TO/card.json``: a linear map from one model's space into another's, for the same modality.

    It is bound to both spaces by their ``space_id`` and the digests of their cards. It was learned from the items with
    the same content in both ``from_version`` and ``to_version`` of ``table``, ``items`` of them in ``groups`` of
    near-duplicates. The figures are of ``queries`` items held out of choosing and fitting, each searched for among
    ``gallery`` items: ``itself`` is how often its own old vector is among the first k found by its mapped new one,
    ``neighbours`` the share of its k nearest by the old model that its mapped new vector finds, and ``reembedded`` the
    share of its k nearest by the new model that it finds; ``old`` is what its old vector finds of these, without a map.
    """

    format_version: int = FORMAT_VERSION
    from_space: str
    from_digest: str
    from_dim: int
    to_space: str
    to_digest: str
    to_dim: int
    table: str
    from_version: int
    to_version: int
    items: int
    groups: int
    method: Literal["ridge", "procrustes"]
    strength: float
    queries: int
    gallery: float
    itself: tuple[RecallAt, ...]
    neighbours: tuple[RecallAt, ...]
    reembedded: tuple[RecallAt, ...]
    old: tuple[RecallAt, ...]
    weights: Artefact
    featstore: str
    created_ts: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SpaceBridgeResult:
    """What ``bridge --onto`` learned. ``kept`` is whether it is in the store, ``path`` where it is or would be."""

    card: SpaceBridgeCard
    kept: bool
    path: str
    seconds: float
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Migration:
    """``migrations/NAME.json``: how a table's move from one model to another stands.

    While ``open``, the published state is of ``from_space`` and refreshes keep both tables in step. ``published`` is
    kept after the swap, so that a job that still names the other model follows what is published. ``model`` holds the
    settings of extract that lead to ``to_space``. ``backfilled`` says that every item of the source was brought in at
    least once. ``refused`` is why the last attempt to publish was refused, ``run_id`` that attempt.
    """

    format_version: int = FORMAT_VERSION
    name: str
    from_space: str
    to_space: str
    model: dict[str, str | int | None]
    before: dict[str, str | int | None]
    status: Literal["open", "published", "abandoned"]
    opened_ts: str
    changed_ts: str
    priority: str | None = None
    backfilled: bool = False
    run_id: str | None = None
    refused: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class MigrationPlan:
    """What ``migrate --dry-run`` says; nothing is written and no model is loaded.

    ``items`` are those of the source, ``there`` of them have a vector of the new model already. The times come from
    the rates of earlier runs of the new model, None where there were none. ``bytes`` is what the new vectors will take,
    ``index_bytes`` about what an index like the present one will, ``disk_free`` what the disk has.
    """

    name: str
    from_space: str
    to_space: str | None
    model: str
    items: int
    there: int
    to_embed: int
    seconds_low: float | None
    seconds_high: float | None
    bytes: int
    index_bytes: int
    disk_free: int
    index: str
    heads: dict[str, str]
    gates: tuple[str, ...]
    extract: ExtractResult | None = None
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadMove:
    """A head before and after, on the same test items of the same split.

    ``figures_before`` and ``figures_after`` are of those ``items``; ``difference`` is after minus before, paired by
    item. ``main`` is the figure that gates go by. ``version`` is None while the new head is not adopted, or could not
    be trained, which ``note`` explains.
    """

    head: str
    task: str
    label: str
    before: int
    version: int | None
    main: str
    items: int
    figures_before: dict[str, Estimate]
    figures_after: dict[str, Estimate]
    difference: dict[str, Estimate]
    note: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreQuantile:
    """One quantile of the scores in both spaces: an old threshold at ``before`` lets through as much as ``after``."""

    share: float
    before: float
    after: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreMap:
    """Cosine scores of the same queries in both spaces, so that thresholds can be carried over.

    ``best`` is of each query's nearest other item, ``tenth`` of its tenth nearest, ``random`` of pairs drawn at random:
    each by that space's own ranking, from the lowest to the highest score.
    """

    queries: int
    pairs: int
    best: tuple[ScoreQuantile, ...]
    tenth: tuple[ScoreQuantile, ...]
    random: tuple[ScoreQuantile, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class SpaceCost:
    """What one side costs: ``items_per_s`` were measured side by side on the same items, None where they were not.

    ``vector_bytes`` are those of the table's data files, ``index_bytes`` those of the index and its ids.
    """

    space_id: str
    dim: int
    items_per_s: float | None
    vector_bytes: int
    index_bytes: int | None
    model_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class MigrationReport:
    """``migrations/NAME/report.json``: the old model beside the new one, on the same items.

    ``evaluation`` compares retrieval (``a`` old, ``b`` new) where judgements were given. ``notes`` say what could not
    be compared, and why. ``html`` is the page for people, relative to the store.
    """

    format_version: int = FORMAT_VERSION
    name: str
    before: TableVersion
    after: TableVersion
    created_ts: str
    heads: tuple[HeadMove, ...]
    evaluation: Evaluation | None
    overlap: NeighbourOverlap | None
    scores: ScoreMap | None
    costs: tuple[SpaceCost, ...]
    bridge: SpaceBridgeCard | None
    gates: tuple[GateOutcome, ...]
    html: str | None
    seconds: float
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class MigrationResult:
    """What ``migrate`` did; the object that ``migrate --json`` prints.

    ``status`` is ``published``, ``ready`` (all gates passed; publishing was left to the user), ``refused`` by a gate,
    ``held``, ``nothing new``, ``abandoned``, or how far it got: ``interrupted``, ``failed``. ``embedded`` of ``items``
    have a vector of the new model. ``next`` are the commands that one would go on with.
    """

    name: str
    status: Literal["published", "ready", "refused", "held", "nothing new", "abandoned", "interrupted", "failed"]
    from_space: str
    to_space: str
    version: int | None
    items: int
    embedded: int
    stored: int
    seconds: float
    stage_seconds: dict[str, float] = field(default_factory=dict)
    run_id: str | None = None
    report: MigrationReport | None = None
    gates: tuple[GateOutcome, ...] = ()
    error: str | None = None
    next: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
