"""Settings: flags over environment over a job's file over defaults, resolved once into a frozen object.

Every setting of a command is a field here; its flag is the field's name with dashes, its variable
``FEATSTORE_`` and the name in capitals. Each resolved value remembers where it came from.
"""

from __future__ import annotations

import difflib
import json
import math
import os
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Annotated, Literal, TypeVar

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass as checked_dataclass

from featstore.errors import SettingsError
from featstore.records import SettingValue

__all__ = [
    "ENVIRONMENT_PREFIX",
    "MODEL_OPTIONS",
    "ExtractSettings",
    "FinetuneSettings",
    "Gates",
    "HeadSettings",
    "IndexSettings",
    "MigrateSettings",
    "Resolved",
    "TorchSettings",
    "check_environment",
    "resolve",
]

ENVIRONMENT_PREFIX = "FEATSTORE_"

# Variables that mean something to the whole program rather than to one command.
_PROGRAM_VARIABLES = {"FEATSTORE_STORE"}

# How alike two variables must be for one to be meant by the other: their beginnings are the same anyway.
_ALIKE = 0.8

MODEL_OPTIONS = ("pooling", "layer", "dim", "prompt_document", "prompt_query", "decode", "precision")
"""What a command can change of a model, each a part of its space: fields of the settings and of ``ModelOptions``."""

_CREDENTIALS = re.compile(r"://[^/@\s]+@")

_DEVICE = re.compile(r"auto|cpu|cuda(:\d+)?")

_SIZE = re.compile(r"(?P<number>\d+(\.\d+)?)\s*(?P<unit>([kMGT]i?)?B?)", re.IGNORECASE)


def _columns(value: object) -> object:
    if isinstance(value, str):
        return tuple(part.strip() for part in value.split(","))
    return tuple(value) if isinstance(value, list) else value


def _bytes(value: object) -> object:
    if not isinstance(value, str):
        return value
    found = _SIZE.fullmatch(value.strip())
    if found is None:
        raise ValueError("a size is a number of bytes, or one with kB, MB, GB, KiB, MiB or GiB")
    unit = found["unit"].lower()
    factor = 1024 if "i" in unit else 1000
    return round(float(found["number"]) * factor ** " kmgt".index(unit[:1] or " "))


def _device(value: str) -> str:
    if _DEVICE.fullmatch(value) is None:
        raise ValueError("auto, cpu, cuda or cuda:N was expected")
    return value


Columns = Annotated[tuple[str, ...], BeforeValidator(_columns, json_schema_input_type=str | tuple[str, ...])]
Count = Annotated[int, Field(ge=1)]
Bytes = Annotated[int, BeforeValidator(_bytes, json_schema_input_type=int | str), Field(ge=1)]
Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Device = Annotated[str, AfterValidator(_device), Field(json_schema_extra={"pattern": f"^({_DEVICE.pattern})$"})]


# A class's checker is made when its first value is: one command has little to do with the settings of the others.
_STRICT = ConfigDict(extra="forbid", defer_build=True)


@checked_dataclass(frozen=True, kw_only=True, config=_STRICT)
class ExtractSettings:
    """What ``featstore extract`` can be told."""

    source: str
    model: str
    name: str | None = None
    weights: str | None = None
    # what is changed of the model; part of the space
    pooling: Literal["mean", "cls", "last", "max"] | None = None
    layer: str | None = None
    dim: Count | None = None
    prompt_document: str | None = None
    prompt_query: str | None = None
    decode: Literal["exact", "fast"] | None = None
    precision: Literal["fp32", "int8"] | None = None
    device: Device = "auto"
    backend: Literal["onnxruntime", "openvino"] | None = None
    # how the source is read
    source_root: str | None = None
    label_from: Literal["folder"] | None = None
    text_column: Columns = ()
    text_template: str | None = None
    image_column: str | None = None
    id_column: str | None = None
    label_column: str | None = None
    group_column: str | None = None
    split_column: str | None = None
    time_column: str | None = None
    chunk_tokens: Annotated[int, Field(ge=8)] | None = None
    chunk_overlap: Annotated[int, Field(ge=0)] | None = None
    # what the run may do
    add: bool = False
    limit: Count | None = None
    sample: Count | None = None
    rehash: bool = False
    retype: bool = False
    allow_removals: bool = False
    max_removed_share: Share = 0.2
    retry_rejects: bool = False
    max_reject_share: Share = 0.01
    # what is kept beside the vectors
    previews: bool = True
    keep_text: bool = False
    history: bool = False
    # how the work is cut; part of the plan, so that a resumed run makes the same batches
    batch_size: Count | None = None
    token_budget: Annotated[int, Field(ge=16)] | None = None
    shard_items: Count | None = None
    workers: Count | None = None


@checked_dataclass(frozen=True, kw_only=True, config=_STRICT)
class IndexSettings:
    """What ``featstore index`` can be told; what is not said stays as it was said last, ``recall`` 0.95 at first.

    ``memory`` is in bytes, or a text such as ``500MB`` or ``2GiB``.
    """

    recall: Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)] | None = None
    kind: Literal["flat", "hnsw", "ivf", "ivf-sq8", "ivf-pq"] | None = None
    factory: str | None = None
    memory: Bytes | None = None
    rebuild: bool = False


@checked_dataclass(frozen=True, kw_only=True, config=_STRICT)
class MigrateSettings:
    """What ``featstore migrate`` can be told: the model to move to, and how.

    ``priority`` is a column of the table: what has most of it is embedded first. ``queries`` and ``qrels`` are files as
    ``featstore eval`` takes them. ``device`` and ``workers`` are as in ``featstore extract``, by default those of the
    table's last run. Without ``bridge`` no bridge between the two models is learned, without ``publish``
    what passes is left to be published by hand.
    """

    to: Annotated[str, Field(min_length=1)]
    weights: str | None = None
    pooling: Literal["mean", "cls", "last", "max"] | None = None
    layer: str | None = None
    dim: Count | None = None
    prompt_document: str | None = None
    prompt_query: str | None = None
    decode: Literal["exact", "fast"] | None = None
    precision: Literal["fp32", "int8"] | None = None
    priority: str | None = None
    queries: str | None = None
    qrels: str | None = None
    device: Device | None = None
    workers: Count | None = None
    bridge: bool = True
    publish: bool = True


@checked_dataclass(frozen=True, kw_only=True, config=_STRICT)
class HeadSettings:
    """What ``featstore train-head`` can be told, but for the torch kinds.

    ``group`` and ``split`` name columns; by default those called ``group`` and ``split`` are used where they are there.
    ``test_share`` and ``folds`` are what a new split is made by, 0.2 and 5 where nothing is said.
    ``memory`` is what the vectors may take of it, in bytes or a text such as ``2GB``; by default 0.3 of what is free.
    """

    # what is learned
    label: str = "label"
    labels: str | None = None
    task: Literal["classification", "multilabel", "regression"] | None = None
    separator: str | None = None
    where: str | None = None
    drop_rare: bool = False
    name: str | None = None
    # how
    kind: Literal["auto", "logistic", "knn", "prototypes", "ridge", "torch-linear", "torch-mlp"] = "auto"
    class_weights: Literal["balanced"] | None = None
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    # what it is measured on
    group: str | None = None
    split: str | None = None
    new_split: bool = False
    allow_leakage: bool = False
    near_threshold: Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)] | None = None
    memory: Bytes | None = None
    test_share: Annotated[float, Field(gt=0, lt=1, allow_inf_nan=False)] | None = None
    folds: Annotated[int, Field(ge=2, le=20)] | None = None
    shots: Annotated[tuple[Count, ...], BeforeValidator(_columns)] = ()
    baselines: bool = True
    curve: bool = True
    # what else is written
    report: str | None = None
    mlflow: str | None = None


@checked_dataclass(frozen=True, kw_only=True, config=_STRICT)
class TorchSettings:
    """How the torch heads are trained; what is None follows from the number of items and the optimizer.

    ``seeds`` networks are trained, each stopped early on another fold, and averaged into one head. ``patience`` is how
    many epochs in a row may pass in which the loss on that fold does not fall by a thousandth.
    """

    optimizer: Literal["adamw", "sgd"] = "adamw"
    learning_rate: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    weight_decay: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.01
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.2
    hidden: Count = 256
    epochs: Count | None = None
    patience: Count = 6
    batch: Count | None = None
    seeds: Count | None = None
    device: Device = "auto"


@checked_dataclass(frozen=True, kw_only=True, config=_STRICT)
class FinetuneSettings:
    """What ``featstore finetune`` can be told; what is None follows from the model and the number of labels.

    ``model`` is the backbone to begin with, by default the table's own, or what that was fine-tuned from. ``start`` is
    the head that training begins with: ``head`` one fitted to the frozen vectors (LP-FT), ``random`` a new one.
    ``lora`` is the rank of low-rank adapters that are trained instead of the weights themselves.

    ``blocks`` are the parts of the network that are trained, by their names in it, the top one first
    (``layer4``, ``blocks.11``, ``encoder.layer.5``); behind a colon stands the epoch, from 0, from which on a block is
    trained (``layer3:2``). Without epochs a further block begins every ``unfreeze_every`` epochs, several at once where
    epochs are few, all of them with 0; the head is trained from the first one. ``depth`` says instead how many blocks
    from the top are trained.

    ``learning_rate`` is that of the top block, each lower one has ``layer_decay`` times that of the one above it;
    ``head_rate`` is the head's. With ``halving`` all rates are halved each time that a block begins. ``warmup`` is a
    share of all steps. ``clip`` is the largest norm of a step's gradient, 0 for any.

    ``crop_scale`` is the least share of a picture's area that a random crop keeps, 1 for no crop; ``rotation`` is in
    degrees; ``color`` is how far brightness, contrast and saturation vary; ``randaugment`` is its magnitude, 0 for
    none. ``batch`` items make a step, of which ``micro_batch`` are computed at once.

    ``min_gain`` is what the lower end of the gain's interval must exceed, ``max_forgetting`` what other heads and the
    neutral items may lose of their accuracy, ``max_rank_loss`` the share of the vectors' effective rank that may go,
    ``max_slower`` how many times as long an item may take.
    """

    # what is learned
    label: str = "label"
    labels: str | None = None
    where: str | None = None
    drop_rare: bool = False
    name: str | None = None
    model: str | None = None
    weights: str | None = None
    # what it is measured on
    group: str | None = None
    split: str | None = None
    near_threshold: Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)] | None = None
    test_share: Annotated[float, Field(gt=0, lt=1, allow_inf_nan=False)] | None = None
    folds: Annotated[int, Field(ge=2, le=20)] | None = None
    # what is trained, and from when on
    start: Literal["head", "random"] = "head"
    lora: Count | None = None
    lora_alpha: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    blocks: Columns = ()
    depth: Count | None = None
    unfreeze_every: Annotated[int, Field(ge=0)] = 1
    batch_norm: Literal["auto", "frozen", "train"] = "auto"
    # how
    epochs: Count | None = None
    patience: Count = 3
    optimizer: Literal["adamw", "sgd"] | None = None
    learning_rate: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    head_rate: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    layer_decay: Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)] = 0.75
    halving: bool = False
    schedule: Literal["cosine", "constant"] = "cosine"
    warmup: Share = 0.1
    momentum: Annotated[float, Field(ge=0, lt=1, allow_inf_nan=False)] = 0.9
    weight_decay: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.01
    clip: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 1.0
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    class_weights: Literal["balanced"] | None = None
    # what pictures go through while training
    crop_scale: Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)] = 0.5
    flip: bool = True
    rotation: Annotated[float, Field(ge=0, le=180, allow_inf_nan=False)] = 0.0
    color: Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)] = 0.0
    randaugment: Annotated[int, Field(ge=0, le=30)] = 0
    # how the work is cut
    batch: Count = 32
    micro_batch: Count | None = None
    checkpointing: bool = False
    mixed_precision: Literal["auto", "off", "bf16", "fp16"] = "auto"
    checkpoint_every: Count | None = None
    device: Device = "auto"
    workers: Count | None = None
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    # what must hold before the new backbone becomes a model
    min_gain: Annotated[float, Field(ge=-1, lt=1, allow_inf_nan=False)] = 0.0
    max_forgetting: Share = 0.01
    max_rank_loss: Share = 0.2
    max_slower: Annotated[float, Field(ge=1, allow_inf_nan=False)] = 1.25
    # what else is done and written
    trials: Count | None = None
    report: str | None = None
    mlflow: str | None = None


# R² of a head that is worse than saying the mean is below 0.
Figure = Annotated[float, Field(le=1, allow_inf_nan=False)]


@dataclass(frozen=True, kw_only=True)
class Gates:
    """What must hold before a job publishes; None is not looked at.

    ``min_recall`` is of the index at its k, ``max_drift_auc`` the classifier's area between what was published and
    what came, ``min_accuracy`` each head's main figure (accuracy, mAP or R²) by the head's name. Where a table moves to
    another model, ``min_ndcg`` is the new one's nDCG@10 on the judgements, and ``max_drop`` the most that a head's main
    figure or the nDCG may fall, on the same test items or queries; unsaid, it is a drop that is significant which
    refuses. The bounds of their types are checked where a file is loaded.
    """

    max_reject_share: Share = 0.01
    max_removed_share: Share = 0.2
    min_recall: Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)] | None = None
    max_drift_auc: Annotated[float, Field(ge=0.5, le=1, allow_inf_nan=False)] | None = None
    min_accuracy: dict[str, Figure] = field(default_factory=dict)
    min_ndcg: Share | None = None
    max_drop: Share | None = None


_SETTINGS: tuple[type, ...] = (
    ExtractSettings,
    IndexSettings,
    HeadSettings,
    TorchSettings,
    MigrateSettings,
    FinetuneSettings,
    Gates,
)

Settings = TypeVar("Settings")


@dataclass(frozen=True)
class Resolved:
    """Where each of a command's settings came from, for the manifest."""

    origins: dict[str, SettingValue]


def resolve(
    kind: type[Settings],
    given: Mapping[str, object],
    environ: Mapping[str, str] | None = None,
    *,
    origin: str = "flag",
    lower: Mapping[str, object] | None = None,
    lower_origin: str = "job",
) -> tuple[Settings, Resolved]:
    """Merges what was given with the environment, a file and the defaults, and checks all of it.

    Args:
        kind: The settings class.
        given: Values set by the caller; those that are None count as not given.
        environ: The environment; ``os.environ`` by default.
        origin: What to call the given values' origin.
        lower: What a file says; the environment goes over it. Its types must be right as they stand: a number in
            quotes is none.
        lower_origin: What to call the file's values' origin.

    Raises:
        SettingsError: An unknown key (the nearest known one is named), a wrong type or a value out
            of range. All of them are listed; ``context["problems"]`` are those of single values, by their key.
    """
    lower = lower or {}
    environ = os.environ if environ is None else environ
    known = [own.name for own in fields(kind)]  # type: ignore[arg-type]
    problems = [_unknown(key, known) for key in (*given, *lower) if key not in known]
    problems += _unknown_variables(environ)
    values: dict[str, object] = {}
    origins: dict[str, str] = {}
    for key in known:
        variable = ENVIRONMENT_PREFIX + key.upper()
        if given.get(key) is not None:
            values[key], origins[key] = given[key], origin
        elif variable in environ:
            values[key], origins[key] = environ[variable], f"environment {variable}"
        elif key in lower:
            values[key], origins[key] = lower[key], lower_origin
    wrong: dict[str, str] = {}
    for key, value in values.items():
        if isinstance(value, Path):
            values[key] = str(value)
        if isinstance(value, float) and math.isnan(value):
            wrong[key] = "NaN is not a number"
    if problems:
        raise SettingsError(_ended("; ".join((*problems, *_said(wrong, origins)))))
    adapter, cause = TypeAdapter(kind), None
    try:
        # JSON knows TOML's types and no others, so that it can tell a number in quotes from a number.
        written = {key: lower[key] for key in lower if origins.get(key) == lower_origin}
        adapter.validate_json(json.dumps(written, default=str), strict=True)
    except ValidationError as error:
        wrong, cause = {**_wrong(error, missing=False), **wrong}, error
    try:
        settings = adapter.validate_python(values)
    except ValidationError as error:
        wrong, cause = {**_wrong(error), **wrong}, error
    if wrong:
        raise SettingsError(
            f"{'; '.join(_said(wrong, origins))}.",
            hint=None if kind is Gates else f"See featstore {_command(kind)} --help.",  # gates are of several commands
            context={"problems": tuple(wrong.items())},
        ) from cause
    recorded = {}
    for key in known:
        value = getattr(settings, key)
        plain = list(value) if isinstance(value, tuple) else value
        recorded[key] = SettingValue(value=plain, origin=origins.get(key, "default"))
    return settings, Resolved(recorded)


def check_environment(environ: Mapping[str, str] | None = None) -> None:
    """Refuses variables that nothing reads: one that is mistyped would be passed over without a word.

    Args:
        environ: The environment; ``os.environ`` by default.

    Raises:
        SettingsError: There is such a variable; all are named, each with the nearest known one.
    """
    unknown = _unknown_variables(os.environ if environ is None else environ)
    if unknown:
        raise SettingsError(_ended("; ".join(unknown)))


# What Kubernetes puts into every pod beside a Service called featstore, or featstore-SOMETHING.
# Source: Kubernetes documentation, "Service", section "Environment variables".
_OF_A_SERVICE = re.compile(
    rf"{ENVIRONMENT_PREFIX}([A-Z0-9_]+_)?(SERVICE_HOST|SERVICE_PORT(_[A-Z0-9_]+)?|PORT(_\d+_(TCP|UDP|SCTP)(_[A-Z]+)?)?)"
)


def _unknown_variables(environ: Mapping[str, str]) -> list[str]:
    ours = {variable for variable in environ if variable.startswith(ENVIRONMENT_PREFIX)} - _PROGRAM_VARIABLES
    named = {variable for variable in ours if not _OF_A_SERVICE.fullmatch(variable)}
    if not named:
        return []
    # Of all commands: a variable may be meant for another one.
    settings = {own.name for kind in _SETTINGS for own in fields(kind)}
    known = _PROGRAM_VARIABLES | {ENVIRONMENT_PREFIX + key.upper() for key in settings}
    found = []
    for variable in sorted(named - known):
        near = difflib.get_close_matches(variable.upper(), known, n=1, cutoff=_ALIKE)
        meant = f"; did you mean {near[0]}?" if near else ""
        found.append(f"environment variable {variable} is unknown{meant}")
    return found


def _ended(text: str) -> str:
    return text if text.endswith("?") else f"{text}."


def _unknown(key: str, known: Collection[str]) -> str:
    near = difflib.get_close_matches(key, known, n=1)
    return f"unknown setting '{key}'" + (f"; did you mean '{near[0]}'?" if near else "")


def _command(kind: type) -> str:
    name = kind.__name__.removesuffix("Settings").lower()
    return "train-head" if name in ("head", "torch") else name


def _wrong(error: ValidationError, *, missing: bool = True) -> dict[str, str]:
    """What is wrong with each value, by its key."""
    return {
        _flag(e["loc"]): "is missing"
        if e["type"] == "missing"
        else f"{e['msg'].removeprefix('Value error, ')} (got {_shown(e['input'])})"
        for e in error.errors()
        if missing or e["type"] != "missing"
    }


def _said(wrong: Mapping[str, str], origins: Mapping[str, str]) -> list[str]:
    """What is wrong, each value by the name that it was given by."""
    found = []
    for key, text in wrong.items():
        where, _, variable = origins.get(key, "").partition(" ")
        name = {"flag": f"--{key.replace('_', '-')}", "environment": variable}.get(where, key)
        found.append(f"{name}: {text}")
    return found


def _shown(value: object) -> str:
    """A value as a message may repeat it: no secret of a URL, and no more than a line."""
    text = _CREDENTIALS.sub("://…@", repr(value))
    return text if len(text) <= 100 else text[:100] + "…"


def _flag(location: tuple[int | str, ...]) -> str:
    return ".".join(str(part) for part in location) or "settings"
