"""The sections of a job's file and their keys: those of the settings that the commands have, under the same names."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, fields
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from featstore.jobs.job import Gates
from featstore.settings import (
    MODEL_OPTIONS,
    Count,
    ExtractSettings,
    FinetuneSettings,
    HeadSettings,
    IndexSettings,
    MigrateSettings,
    TorchSettings,
)

__all__ = [
    "ELSEWHERE",
    "SECTIONS",
    "HeadKeys",
    "JobKeys",
    "Key",
    "MetricsKeys",
    "PublishKeys",
    "Section",
    "known",
]


def _name(marks: str) -> BeforeValidator:
    def check(value: object) -> object:
        if isinstance(value, str) and re.fullmatch(rf"[A-Za-z0-9][A-Za-z0-9{marks}]{{0,99}}", value) is None:
            raise ValueError(f"only letters, digits and '{marks}', at most 100, the first a letter or digit")
        return value

    return BeforeValidator(check)


Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$"), _name("._-")]
HeadName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._ -]{0,99}$"), _name("._ -")]


@dataclass(frozen=True, kw_only=True)
class JobKeys:
    """``[job]``: what it is called, the table that it keeps, and the store that it works on."""

    name: Name
    table: Annotated[str, Field(min_length=1)] | None = None
    store: Annotated[str, Field(min_length=1)] | None = None


@dataclass(frozen=True, kw_only=True)
class HeadKeys:
    """What ``[[head]]`` has besides the settings of train-head."""

    name: HeadName | None = None
    refit: Literal["never", "always", "on-drift"] = "on-drift"


@dataclass(frozen=True, kw_only=True)
class PublishKeys:
    """``[publish]``: how many earlier states stay to go back to."""

    keep: Count = 5


@dataclass(frozen=True, kw_only=True)
class MetricsKeys:
    """``[metrics]``: a file for Prometheus."""

    textfile: Annotated[str, Field(min_length=1)] | None = None


@dataclass(frozen=True)
class Key:
    """What a key of a section sets: a field of a class."""

    kind: type
    field: str


@dataclass(frozen=True)
class Section:
    """One section: its keys, which of them must be there, and whether it may be there several times.

    Where the section ``unless`` is there too, none of ``required`` may be: it is what comes of that one.
    """

    keys: dict[str, Key]
    required: tuple[str, ...] = ()
    several: bool = field(default=False)
    unless: str | None = None


_READING = (
    "source_root", "label_from", "text_column", "text_template", "image_column", "id_column", "label_column",
    "group_column", "split_column", "time_column", "chunk_tokens", "chunk_overlap", "add",
)  # fmt: skip
_MODEL = ("device", "backend", "weights", *MODEL_OPTIONS)

ELSEWHERE = {
    "limit": "a trial of one run: featstore refresh JOB --limit N",
    "sample": "not for a job, which keeps a table in step with all of its source",
    "retype": "a decision for one run: featstore extract SOURCE --model MODEL --retype",
    "allow_removals": "a decision for one run: featstore extract SOURCE --model MODEL --allow-removals",
    "new_split": "a decision for one run: featstore train-head TABLE --new-split",
    "rebuild": "a decision for one run: featstore index TABLE --rebuild",
}
"""Settings that no job has, and where they belong."""

_OWN = {"source", "model", "name", "max_removed_share", "max_reject_share", *ELSEWHERE, *_READING, *_MODEL}


def _of(kind: type, *, but: frozenset[str] | set[str] = frozenset()) -> dict[str, Key]:
    return {item.name: Key(kind, item.name) for item in fields(kind) if item.name not in but}


def _named(kind: type, *names: str) -> dict[str, Key]:
    return {name: Key(kind, name) for name in names}


SECTIONS: dict[str, Section] = {
    "job": Section(_of(JobKeys), ("name",)),
    "source": Section({"uri": Key(ExtractSettings, "source"), **_named(ExtractSettings, *_READING)}, ("uri",)),
    "model": Section({"name": Key(ExtractSettings, "model"), **_named(ExtractSettings, *_MODEL)}, ("name",)),
    "extract": Section(_of(ExtractSettings, but=_OWN)),
    "index": Section(_of(IndexSettings, but={"rebuild"})),
    "head": Section(
        {**_of(HeadKeys), **_of(HeadSettings, but={"name", "new_split"}), **_of(TorchSettings)}, several=True
    ),
    "finetune": Section(_of(FinetuneSettings)),
    "migrate": Section(_of(MigrateSettings), ("to",), unless="finetune"),
    "gates": Section(_of(Gates)),
    "publish": Section(_of(PublishKeys)),
    "metrics": Section(_of(MetricsKeys)),
}
"""By their names in the file."""


def known() -> tuple[str, ...]:
    """Every key as ``section.key``."""
    return tuple(f"{name}.{key}" for name, section in SECTIONS.items() for key in section.keys)
