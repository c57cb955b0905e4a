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
    "Bundle",
    "Check",
    "CommitInfo",
    "ComparedModel",
    "Comparison",
    "Difference",
    "DoctorReport",
    "ExportOrigin",
    "ExportResult",
    "ExtractResult",
    "Finding",
    "GcReport",
    "ImagePreprocessing",
    "ItemCosine",
    "Manifest",
    "Modality",
    "ModelCard",
    "ModelExport",
    "NeighbourOverlap",
    "OpenRun",
    "OwnCard",
    "OwnImage",
    "OwnText",
    "Parity",
    "QueryOverlap",
    "Reading",
    "Reference",
    "Reject",
    "SettingValue",
    "ShardReceipt",
    "SourceRecord",
    "StageSeconds",
    "StoreRecord",
    "TableSummary",
    "TableVersion",
    "TextPreprocessing",
    "VectorChanges",
    "VerifyReport",
    "WeightsInfo",
]

FORMAT_VERSION = 1

Modality = Literal["image", "text"]
Reading = dict[str, str | int | bool | list[str] | None]


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
    by its first eight digits. The two towers of one model (CLIP, SigLIP) have the same ``joint_id``:
    their vectors may be compared with each other.
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
    joint_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """``models/refs/KEY.json``: which space a model's name and options lead to."""

    format_version: int = FORMAT_VERSION
    key: str
    model: str
    space_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundle:
    """``bundle.json`` of a ``.featstore`` file: which model it holds, and the bytes of every other file in it."""

    format_version: int = FORMAT_VERSION
    space_id: str
    digest: str
    files: tuple[Artefact, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelExport:
    """What ``models export`` wrote: a folder, a bundle or both.

    ``files`` are the names in the folder and in the bundle; ``artefacts`` carry the digests of the model's own.
    """

    model: str
    space_id: str
    folder: str | None
    files: tuple[str, ...]
    artefacts: tuple[Artefact, ...]
    bundle: Artefact | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnImage:
    """How pictures are made ready for an own ONNX file: resized, then cut to the centre, RGB.

    ``resize`` is the shorter side, or with ``resize_mode`` ``exact`` one (height, width). ``crop`` is the input's
    (height, width); the graph's own where it says. ``mean`` and ``std`` (on the 0–1 scale) are needed for float
    inputs; a graph that takes uint8 normalises by itself and has none.
    """

    __pydantic_config__ = {"extra": "forbid"}  # noqa: RUF012 – read by pydantic, which is at home elsewhere

    resize: int | tuple[int, int]
    crop: tuple[int, int] | None = None
    resize_mode: Literal["shortest", "exact"] = "shortest"
    interpolation: Literal["bilinear", "bicubic", "lanczos"] = "bilinear"
    mean: tuple[float, float, float] | None = None
    std: tuple[float, float, float] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnText:
    """How texts are made ready for an own ONNX file.

    ``tokenizer`` is a ``tokenizer.json`` in the card's folder. ``max_length`` counts special tokens. ``inputs``
    names the graph's inputs where they are not called ``input_ids``, ``attention_mask`` and ``token_type_ids``.
    """

    __pydantic_config__ = {"extra": "forbid"}  # noqa: RUF012

    max_length: int
    pad_token_id: int
    tokenizer: str = "tokenizer.json"
    prompt_document: str = ""
    prompt_query: str = ""
    inputs: dict[Literal["input_ids", "attention_mask", "token_type_ids"], str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnCard:
    """``NAME.card.json`` or ``NAME.json`` beside ``NAME.onnx``: what the graph itself does not say.

    Exactly one of ``image`` and ``text`` stands beside the ``modality`` of that name. ``output`` names the output
    with the vectors where there are several. An output of (batch, dim) is taken as it is, and ``pooling`` only
    tells how the graph made it; for (batch, tokens, dim) the named pooling is added to the graph: ``mean``,
    ``cls`` (the first token), ``last`` or ``max``. ``normalize`` says that the vectors are of length 1, which is
    checked. ``layer``, ``licence``, ``training_data`` and ``url`` are shown and kept, and no part of the space.
    """

    __pydantic_config__ = {"extra": "forbid"}  # noqa: RUF012

    format_version: int = FORMAT_VERSION
    modality: Modality
    licence: str
    name: str | None = None
    output: str | None = None
    pooling: Literal["none", "mean", "cls", "last", "max"] = "none"
    normalize: bool = False
    dim: int | None = None
    layer: str | None = None
    training_data: str = "unknown"
    url: str | None = None
    image: OwnImage | None = None
    text: OwnText | None = None


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


# ── out ───────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportOrigin:
    """Where the vectors of an exported file come from.

    Parquet, npz and safetensors files hold it as JSON under the key ``featstore``; beside ``FILE.csv`` it is the
    document ``FILE.csv.json``, and ``sha256`` is that of the CSV file. ``digest`` is the model card's.
    """

    format_version: int = FORMAT_VERSION
    table: str
    space_id: str
    digest: str
    version: int
    model: str
    licence: str
    dim: int
    rows: int
    columns: tuple[str, ...]
    where: str | None
    as_of: str | None
    ids: int | None
    sha256: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportResult:
    """What ``export`` wrote: ``rows`` of the version's ``items``.

    ``missing`` are the ids asked for that the version does not hold, ``missing_ids`` the first of them.
    """

    table: str
    space_id: str
    version: int
    dim: int
    format: Literal["parquet", "csv", "npz", "safetensors"]
    path: str
    rows: int
    items: int
    bytes: int
    sha256: str
    columns: tuple[str, ...]
    missing: int
    missing_ids: tuple[str, ...]
    seconds: float


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
class TableVersion:
    """One side of a ``diff``."""

    table: str
    space_id: str
    version: int
    items: int
    dim: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemCosine:
    """How far one item's vector has moved; ``content_changed`` says whether the item itself did."""

    item_id: str
    cosine: float
    content_changed: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class VectorChanges:
    """The items of two versions whose vectors differ in any bit.

    ``same_content`` are those whose content did not change. ``cosines`` are quantiles over all of them, by
    ``0``, ``0.01``, ``0.05``, ``0.25``, ``0.5``, ``0.75``, ``0.95`` and ``1``; ``worst`` has the lowest.
    """

    changed: int
    same_content: int
    cosines: dict[str, float]
    worst: tuple[ItemCosine, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class QueryOverlap:
    """One query: the share of neighbours that both spaces agree on, those only in ``a`` and those only in ``b``."""

    item_id: str
    overlap: float
    only_a: tuple[str, ...]
    only_b: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class NeighbourOverlap:
    """How far two spaces agree on each item's ``k`` nearest, by exact cosine among the ``items`` that both hold.

    ``mean`` is over ``queries`` of them; ``low`` and ``high`` are its 95 % interval, equal to it where all were
    asked. ``expected`` is what vectors without meaning would reach.
    """

    k: int
    items: int
    queries: int
    mean: float
    low: float
    high: float
    expected: float
    quantiles: dict[str, float]
    changed_most: tuple[QueryOverlap, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """What ``diff`` found between two tables, ``a`` and ``b``.

    Items are matched by ``item_id``. ``added`` are in ``b`` only, ``removed`` in ``a`` only; ``renamed`` are those
    among the added whose content one of the removed had; ``changed`` have another content, ``updated`` other
    metadata. Each list of ids has the first few. ``vectors`` is for two versions of one space, ``neighbours`` for
    two spaces; ``note`` says what could not be compared.
    """

    a: TableVersion
    b: TableVersion
    common: int
    added: int
    removed: int
    renamed: int
    changed: int
    updated: int
    added_ids: tuple[str, ...]
    removed_ids: tuple[str, ...]
    changed_ids: tuple[str, ...]
    updated_columns: dict[str, int]
    vectors: VectorChanges | None
    neighbours: NeighbourOverlap | None
    note: str | None
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparedModel:
    """One model of ``models compare``.

    ``accuracy`` and ``balanced_accuracy`` are shares of held-out items, None without labels. ``difference`` is
    its accuracy minus that of the best model, with the 95 % interval ``[difference_low, difference_high]``; all
    three are None for the best itself. ``items_per_s`` was timed here on the same items for every model;
    ``whole_seconds`` and ``whole_bytes`` are estimates for all of the source from it and from ``dim``.
    """

    model: str
    space_id: str
    accuracy: float | None
    balanced_accuracy: float | None
    difference: float | None
    difference_low: float | None
    difference_high: float | None
    items_per_s: float
    device: str
    whole_seconds: float
    whole_bytes: int
    dim: int
    parameters: int
    model_bytes: int
    licence: str
    training_data: str
    stored: int
    reused: int
    rejected: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """What ``models compare`` found, models in the order they were named.

    ``source_items`` are all of the source, ``sampled`` those that every model was to embed, ``compared`` those that
    all of them have. ``labelled`` of these went into the probe, in ``folds`` folds (0: there was none);
    ``majority`` is the share of the most frequent class and ``rare`` counts the items of classes too small to be
    judged. ``overlap`` is the mean share of common nearest neighbours (``neighbours`` of each item) of two spaces.
    """

    table: str
    source: str
    modality: Modality
    source_items: int
    sampled: int
    compared: int
    labelled: int
    classes: int
    folds: int
    majority: float | None
    rare: dict[str, int]
    best: str | None
    models: tuple[ComparedModel, ...]
    neighbours: int
    overlap: dict[str, dict[str, float]]
    queries: tuple[str, ...]
    files: tuple[str, ...]
    seconds: float
    warnings: tuple[str, ...]


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
