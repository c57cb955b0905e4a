"""Models: their cards, how inputs are prepared, what was quantised or fine-tuned, what users say of their own."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from featstore.records.store import FORMAT_VERSION, Artefact, Modality

__all__ = [
    "Bundle",
    "Fidelity",
    "Finetuning",
    "ImagePreprocessing",
    "ModelCard",
    "ModelExport",
    "OwnCard",
    "OwnImage",
    "OwnText",
    "Parity",
    "Quantisation",
    "QuantisationProof",
    "QuantisationStep",
    "TextPreprocessing",
    "WeightsInfo",
]


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
    finetuning: Finetuning | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Finetuning:
    """What a backbone was fine-tuned from and on: the request that its origin is loaded by, and the run.

    ``options`` are what was changed of the origin (pooling, layer …). ``weights`` are the tensors that were trained
    to, by their names in the origin's network.
    """

    base: str
    base_model: str
    base_weights: str | None
    options: dict[str, str | int | None]
    table: str
    version: int
    label: str
    key: str
    n_train: int
    weights: Artefact


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
