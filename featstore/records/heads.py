"""What is written down of heads: how they were made, what they reach, what they predict."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from featstore.records.store import FORMAT_VERSION, Artefact

__all__ = [
    "BaselineFigures",
    "CandidateFigures",
    "ClassFigures",
    "Conformal",
    "CurvePoint",
    "Estimate",
    "HeadCard",
    "HeadComparison",
    "HeadDifference",
    "HeadExport",
    "HeadKind",
    "HeadPlan",
    "HeadPrediction",
    "HeadTask",
    "PreviousHead",
    "ShotFigures",
    "SplitRecord",
    "SplitScoring",
]

HeadTask = Literal["classification", "multilabel", "regression"]
HeadKind = Literal["majority", "logistic", "knn", "prototypes", "ridge", "torch-linear", "torch-mlp"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """A figure and its 95 % interval, from a bootstrap that draws whole groups."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class SplitScoring:
    """One time that a split's test items were scored: by this version of this head."""

    head: str
    version: int
    space_id: str
    ts: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SplitRecord:
    """``splits/NAME/LABEL.json``: how a split came about, and how often its test items were scored.

    The sides are in ``LABEL.parquet`` beside it. ``split_id`` changes with ``--new-split`` only, not as the table
    grows: figures of one ``split_id`` may be compared. ``origin`` is ``made``, or the column that said it.
    """

    format_version: int = FORMAT_VERSION
    split_id: str
    table: str
    label: str
    origin: str
    seed: int
    test_share: float
    folds: int
    group_column: str | None
    near_threshold: float | None
    scored: tuple[SplitScoring, ...]
    created_ts: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CandidateFigures:
    """One kind of head that was tried, at its best setting: its score on items that it was not fitted on.

    ``score`` is what the choice went by, ``error`` its standard error over groups. ``left_out`` says why a kind was
    not tried; its score is None then.
    """

    kind: HeadKind
    input: str
    settings: dict[str, float]
    score: float | None
    error: float | None
    seconds: float
    left_out: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class BaselineFigures:
    """What something simple reaches on the same test items: ``majority``, ``prototypes``, ``text``, ``colour`` …"""

    name: str
    metrics: dict[str, Estimate]


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassFigures:
    """One class: its items in training and test, and how it fares on the test items (None where it has none)."""

    label: str
    n_train: int
    n_test: int
    precision: float | None
    recall: float | None
    f1: float | None
    threshold: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Conformal:
    """What makes sets of classes that hold the true one with a given probability.

    ``scores[i]`` is the bound of nonconformity (1 − probability of the class) that a share ``levels[i]`` of ``n``
    items outside the fit stayed under, with split conformal prediction's correction for ``n``. ``coverage`` is what
    level 0.9 covered on the test items, and ``set_size`` the mean size of those sets.
    """

    n: int
    levels: tuple[float, ...]
    scores: tuple[float, ...]
    coverage: Estimate | None
    set_size: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class CurvePoint:
    """The chosen kind fitted on so many training items: its score on items outside the fit, none of them test."""

    items: int
    score: float
    low: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ShotFigures:
    """So many training items of each class, drawn ``tries`` times: the test items' figures, mean and spread."""

    shots: int
    tries: int
    accuracy: Estimate
    kind: HeadKind


@dataclass(frozen=True, slots=True, kw_only=True)
class PreviousHead:
    """What the version before had on the same test items, and this one minus it, paired (empty if not comparable)."""

    version: int
    metrics: dict[str, Estimate]
    difference: dict[str, Estimate]
    note: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadCard:
    """``heads/NAME/VERSION/card.json``: a light model on one space's vectors, and what it reaches.

    Bound to its space by ``space_id`` and the digest of the space's card. ``input`` is what was done to the vectors:
    ``raw``, ``unit`` (length 1), ``standard`` (each value mean 0 and spread 1) or ``centred`` (length 1, then mean 0).
    ``training``, ``validation`` and ``metrics`` hold the same figures on the items fitted on, on the same items by
    heads that had not seen them, and on the test items. ``labels_from`` names the column or file. ``n_excluded``
    items had labels but were left out (their group would straddle the split); ``conflicts`` had several labels.
    ``test_scored`` counts how often this split's test items have been scored, this time included. ``where``,
    ``drop_rare`` and ``separator`` are as it was asked for, so that it can be trained again on the same labels.
    """

    format_version: int = FORMAT_VERSION
    head: str
    version: int
    table: str
    space_id: str
    space_digest: str
    table_version: int
    dim: int
    model: str
    label: str
    labels_from: str
    task: HeadTask
    kind: HeadKind
    classes: tuple[str, ...]
    input: str
    settings: dict[str, float]
    class_weights: str | None
    n_train: int
    n_test: int
    n_unlabelled: int
    n_excluded: int
    n_groups: int
    folds: int
    conflicts: int
    leakage: int
    split_id: str
    split_origin: str
    test_scored: int
    seed: int
    metrics: dict[str, Estimate]
    validation: dict[str, Estimate]
    training: dict[str, Estimate]
    fit: str
    baselines: dict[str, BaselineFigures]
    candidates: tuple[CandidateFigures, ...]
    classes_figures: tuple[ClassFigures, ...]
    conformal: Conformal | None
    learning_curve: tuple[CurvePoint, ...]
    advice: tuple[str, ...]
    shots: tuple[ShotFigures, ...]
    previous: PreviousHead | None
    head_file: Artefact
    predictions: Artefact
    versions: dict[str, str]
    featstore: str
    created_ts: str
    seconds: float
    warnings: tuple[str, ...]
    where: str | None = None
    drop_rare: bool = False
    separator: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadDifference:
    """Two heads on the same test items: each metric of ``b`` minus ``a``, paired by item and drawn by group."""

    a: str
    b: str
    metrics: dict[str, Estimate]
    better: str


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadComparison:
    """Several heads on one split: their cards, and each against the first."""

    heads: tuple[HeadCard, ...]
    split_id: str
    differences: tuple[HeadDifference, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadPlan:
    """What ``train-head`` would do, by reading only: the items of each side, and the split if it is there already.

    ``version`` is the one that would be made; ``classes`` has the items of each class.
    """

    head: str
    version: int
    tables: tuple[str, ...]
    label: str
    labels_from: str
    task: HeadTask
    classes: dict[str, int]
    n_train: int
    n_test: int
    n_unlabelled: int
    n_excluded: int
    n_groups: int
    conflicts: int
    leakage: int
    split_id: str | None
    split_origin: str
    test_scored: int
    warnings: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadPrediction:
    """What ``predict`` did: ``items`` predicted, of which ``stored`` had vectors in the store and ``embedded`` not.

    ``coverage`` is what was asked for; ``abstained`` items have a set that is not one class, ``empty_sets`` of them
    one without any: they are like no class.
    """

    head: str
    version: int
    space_id: str
    task: HeadTask
    source: str
    items: int
    stored: int
    embedded: int
    rejected: int
    reject_codes: dict[str, int]
    abstained: int
    empty_sets: int
    coverage: float | None
    path: str | None
    seconds: float
    warnings: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadExport:
    """What ``export HEAD`` wrote: one ONNX file, from vectors or (``fused``) from pixels or token ids.

    ``difference`` is the largest one of a probability from the head's own on ``compared`` items, ``agreement`` the
    share of them whose first class is the same.
    """

    head: str
    version: int
    format: str
    fused: bool
    path: str
    bytes: int
    sha256: str
    inputs: dict[str, str]
    outputs: dict[str, str]
    compared: int
    difference: float
    agreement: float
