"""What is written down of stores, models, tables, indexes and bridges, and what commands say of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from featstore.records.drift import DriftReport

__all__ = [
    "FORMAT_VERSION",
    "Artefact",
    "BridgeCard",
    "BridgeResult",
    "Bundle",
    "Check",
    "CommitInfo",
    "ComparedModel",
    "Comparison",
    "Difference",
    "DoctorReport",
    "DuplicateGroup",
    "DuplicateItem",
    "DuplicateReport",
    "EvaluatedTable",
    "Evaluation",
    "ExportOrigin",
    "ExportResult",
    "ExtractResult",
    "Fidelity",
    "Finding",
    "GcReport",
    "ImagePreprocessing",
    "IndexCard",
    "IndexPlan",
    "IndexRecall",
    "IndexRequest",
    "IndexSummary",
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
    "Quantisation",
    "QuantisationProof",
    "QuantisationStep",
    "QueryChange",
    "QueryDifference",
    "QueryOverlap",
    "RankingOverlap",
    "Reading",
    "RecallAt",
    "Reference",
    "Reject",
    "Score",
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
    (height, width) (``"exact"``); then the centre ``crop`` (height, width) is taken. Where what is cut
    away is odd, torchvision and timm round the offset to an even number, transformers rounds it down.
    ``mean`` and ``std`` (on the 0–1 scale) are applied inside the ONNX graph, never on the way to it.
    ``decode="fast"`` lets the JPEG decoder reduce a large picture by a whole factor before it is resized.
    """

    resize: tuple[int, int]
    resize_mode: Literal["shortest", "exact"]
    interpolation: Literal["bilinear", "bicubic", "lanczos"]
    crop: tuple[int, int]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    crop_offset: Literal["even", "down"] = "even"
    decode: Literal["exact", "fast"] = "exact"


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
    quantisation: Quantisation | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Fidelity:
    """How near the vectors of a quantised model are to those of the model it was made from, on unseen items.

    ``mean_cosine`` and ``p1_cosine`` (the first percentile) are between an item's two vectors; ``overlap`` is the
    share of its ten nearest neighbours among the others that stay. ``accuracy`` and ``accuracy_before`` are those of
    a probe on ``labelled`` of the items, out of fold; ``accuracy_low`` and ``accuracy_high`` bound their difference.
    """

    items: int
    mean_cosine: float
    p1_cosine: float
    overlap: float
    labelled: int = 0
    accuracy: float | None = None
    accuracy_before: float | None = None
    accuracy_low: float | None = None
    accuracy_high: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class QuantisationStep:
    """One way of quantising that was tried; ``failed`` says what of the gate it missed, nothing if it passed."""

    recipe: str
    fidelity: Fidelity
    failed: tuple[str, ...]
    items_per_s: float
    bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantisation:
    """How a model in fewer bits came about: from which space, on which table's items, by which of the steps tried."""

    base: str
    table: str
    calibrated: int
    base_items_per_s: float
    steps: tuple[QuantisationStep, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class QuantisationProof:
    """``models/SPACE_ID/proofs/TABLE.json``: the gate of a quantised model on the items of another table."""

    format_version: int = FORMAT_VERSION
    space_id: str
    table: str
    fidelity: Fidelity


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


# ── bridges ───────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True, kw_only=True)
class RecallAt:
    """The share of held-out queries whose one right answer is among the first ``k``.

    ``low`` and ``high`` are its 95 % interval; ``chance`` is what an order without meaning would reach.
    """

    k: int
    value: float
    low: float
    high: float
    chance: float


@dataclass(frozen=True, slots=True, kw_only=True)
class BridgeCard:
    """``bridges/IMAGE_SPACE/TEXT_SPACE/card.json``: a linear map from an image space into a text space.

    It is bound to both spaces by their ``space_id`` and the digests of their cards. ``pairs`` of ``table`` at
    ``version`` were learned from; they fall into ``groups``, of which no two share a picture, a caption or nearly one.
    ``strength`` is the ridge's penalty, or the number of dimensions that the rotation turns. The figures are of pairs
    held out: ``queries`` of them, each searched for among ``gallery`` (the mean over the folds).
    """

    format_version: int = FORMAT_VERSION
    image_space: str
    image_digest: str
    image_dim: int
    text_space: str
    text_digest: str
    text_dim: int
    table: str
    version: int
    pairs: int
    groups: int
    method: Literal["ridge", "procrustes"]
    strength: float
    queries: int
    gallery: float
    text_to_image: tuple[RecallAt, ...]
    image_to_text: tuple[RecallAt, ...]
    weights: Artefact
    featstore: str
    created_ts: str


@dataclass(frozen=True, slots=True, kw_only=True)
class BridgeResult:
    """What ``bridge`` learned. ``kept`` is whether it is in the store, ``path`` the folder where it is or would be.

    ``without_caption`` are items that no caption was given for, ``without_item`` captions whose item the table does
    not have, ``refused`` captions that the text model does not take. ``sampled`` says that not all pairs were used.
    """

    card: BridgeCard
    kept: bool
    path: str
    without_caption: int
    without_item: int
    refused: int
    sampled: bool
    seconds: float
    warnings: tuple[str, ...]


# ── search ────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexRequest:
    """What an index was asked to be; ``memory`` is in bytes, None where nothing was said."""

    recall: float
    kind: str | None
    factory: str | None
    memory: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexRecall:
    """How much of exact search an index finds, measured.

    ``recall`` is the mean share of the ``k`` nearest by exact cosine that are among the ``k`` found, with its 95 %
    interval, over ``queries`` that had no part in tuning; ``tuned_on`` others had. ``source`` says what they were:
    ``items`` of the table that were not in the index yet, nor any of equal content, or ``given`` vectors such as
    texts. ``version`` is the table's at which that was measured.
    """

    k: int
    recall: float
    low: float
    high: float
    queries: int
    tuned_on: int
    source: Literal["items", "given"]
    version: int
    queries_per_s_single: float
    queries_per_s_batch: float


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexCard:
    """``indexes/NAME/SPACE_ID/VERSION/card.json``: what an index was made from, and how well it does.

    Vectors have length 1 in the index, so that its inner product is the cosine. A FAISS id is a row of the ids'
    file, whose column ``row`` is the item's place in the table at ``version``, null once the item has left: there
    are ``tombstones`` such ids, and with ``ordered`` none and each id is its own row. ``files`` are the version's
    data files and their rows, in reading order. ``search`` holds ``efSearch`` or ``nprobe``, and ``rerank``, the
    candidates for each wanted hit whose cosines are computed anew from the table.

    ``action`` says what the last ``featstore index`` did and ``reason`` why. ``built_items`` counts the vectors when
    everything was last built anew, ``build_seconds`` is what that took. ``measured`` is None where there are too few
    items to ask. ``note`` says what the figures do not.
    """

    format_version: int = FORMAT_VERSION
    name: str
    space_id: str
    version: int
    items: int
    dim: int
    kind: str
    factory: str
    search: dict[str, int]
    metric: Literal["cosine"] = "cosine"
    action: Literal["built", "rebuilt", "updated", "carried", "unchanged"]
    reason: str
    added: int
    removed: int
    ordered: bool
    tombstones: int
    built_items: int
    build_seconds: float
    seconds: float
    bytes_per_vector: float
    request: IndexRequest
    measured: IndexRecall | None
    index: Artefact
    ids: Artefact
    files: dict[str, int]
    versions: dict[str, str]
    created_ts: str
    note: str | None = None


# ── looking and looking after ─────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexPlan:
    """What ``index --dry-run`` would begin with; ``updated`` becomes ``rebuilt`` where recall has fallen.

    ``kinds`` are those to try one after another where all is built anew, as FAISS describes them.
    """

    table: str
    space_id: str
    version: int
    items: int
    action: Literal["built", "rebuilt", "updated", "carried", "unchanged"]
    reason: str
    added: int
    removed: int
    kinds: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexSummary:
    """A table's newest index, made from its ``version``.

    ``kind`` is ``damaged`` where its card cannot be read; ``recall`` is None where there were too few items to ask.
    """

    version: int
    kind: str
    factory: str
    recall: float | None
    k: int | None
    bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TableSummary:
    """One line of ``ls``, and the head of ``show``: a table at one version.

    ``newest`` is the version that was committed last. ``published`` is the version that the table's bare name means, in
    this space; None where nothing of it is published in this space. While ``held``, jobs publish nothing.
    """

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
    index: IndexSummary | None = None
    newest: int | None = None
    published: int | None = None
    held: bool = False


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
    two spaces; ``drift`` holds the contents that only ``b`` has against those of ``a``, in one space; ``note`` says
    what could not be compared.
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
    drift: DriftReport | None
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
    judged. ``overlap`` is the mean share of common nearest neighbours (``neighbours`` of each item) of two spaces,
    ``chance`` that of two which have nothing to do with each other; both are left out where all are neighbours.
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
    chance: float | None = None
    queries: tuple[str, ...]
    files: tuple[str, ...]
    seconds: float
    warnings: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class DuplicateItem:
    """One item of a group of duplicates.

    ``score`` is its cosine to the group's representative, ``exact`` whether its content is the representative's;
    ``text`` is the beginning of a text, where one was kept.
    """

    item_id: str
    score: float
    exact: bool
    text: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class DuplicateGroup:
    """A group of ``items`` with ``contents`` different contents; ``first`` has some of them, the representative first.

    ``lowest`` is the least cosine of any of them to the representative.
    """

    items: int
    contents: int
    lowest: float
    first: tuple[DuplicateItem, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class DuplicateReport:
    """What ``dedup`` found: ``groups`` that hold ``items`` of the table, ``surplus`` of them beside one of each group.

    Items of equal content belong together, and those whose cosine is at least ``threshold``, directly or through
    others; ``rule`` says where the threshold comes from (both None where there is nothing to compare).
    ``contents`` counts the table's different contents, ``exact_surplus`` the items beside one of each. ``chained``
    groups hold an item that is near the representative only through others. ``largest`` names the first groups;
    ``path`` and ``png`` are the files that were written.
    """

    table: TableVersion
    threshold: float | None
    rule: str | None
    contents: int
    groups: int
    items: int
    surplus: int
    exact_surplus: int
    chained: int
    largest: tuple[DuplicateGroup, ...]
    path: str | None
    png: str | None
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """A mean over queries, and its 95 % interval by the bootstrap."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluatedTable:
    """One table of an ``eval``.

    ``metrics`` holds, for the ways ``exact`` and ``index``, each metric's score; ``index_difference`` is index minus
    exact on the same queries. Both are empty without judgements, as are the index's where there is none.
    ``judged_absent`` counts the relevant judgements whose item the table does not hold: they can only be missed.
    ``note`` is what the user should know of its index, or of its not being used.
    """

    table: TableVersion
    metrics: dict[str, dict[str, Score]]
    index_difference: dict[str, Score]
    judged_absent: int
    note: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class QueryDifference:
    """One query of two tables: its metric in each and the difference b - a, and what each found first."""

    query: str
    text: str
    a: float
    b: float
    difference: float
    first_a: tuple[str, ...]
    first_b: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class QueryChange:
    """One query: the share of hits that both rankings have, those only in the first and those only in the second."""

    query: str
    text: str
    overlap: float
    only_a: tuple[str, ...]
    only_b: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class RankingOverlap:
    """How many of the first ``k`` hits two rankings of the same queries share: of tables, or exact and index."""

    between: Literal["tables", "exact and index"]
    k: int
    share: Score
    changed_most: tuple[QueryChange, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """What ``eval`` measured on ``queries`` queries.

    With judgements these are the ones with at least one relevant judgement; ``unjudged`` queries have none and were
    not asked, ``without_text`` are judged, but not among the queries. ``difference`` is b - a by metric, over the
    same queries by exact search, and ``worst`` has the queries that lost most of ``worst_by``. ``overlap`` is of two
    tables or, for one, of exact search and its index. ``path`` is the file with each query's figures.
    """

    a: EvaluatedTable
    b: EvaluatedTable | None
    queries: int
    unjudged: int
    without_text: int
    judgements: int
    k: int
    difference: dict[str, Score]
    worst_by: str | None
    worst: tuple[QueryDifference, ...]
    overlap: RankingOverlap | None
    path: str | None
    seconds: float


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
    kept_heads: dict[str, list[int]]
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
