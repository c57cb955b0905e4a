"""A job as the rest of the house knows it: resolved settings of each step, and what must hold before it publishes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from featstore.records import SettingValue
from featstore.settings import (
    ExtractSettings,
    FinetuneSettings,
    Gates,
    HeadSettings,
    IndexSettings,
    MigrateSettings,
    TorchSettings,
)

__all__ = ["TUNED", "Gates", "HeadJob", "Job"]

TUNED = "what finetune makes"
"""The model that a job moves its table to where it fine-tunes one; until then nobody knows its name."""


@dataclass(frozen=True, kw_only=True)
class HeadJob:
    """One head that a job keeps: how it is trained, and when it is trained again."""

    name: str
    settings: HeadSettings
    torch: TorchSettings
    refit: Literal["never", "always", "on-drift"] = "on-drift"


@dataclass(frozen=True, kw_only=True)
class Job:
    """A job, resolved: flags over environment over its file over defaults.

    Attributes:
        name: Of the job.
        table: The table that it keeps; its name is what is published.
        space: The model's part of the table's address, where the job extracts nothing.
        extract: How its source is brought in; None where the job only trains on a table that is there, or moves one
            as its last runs were told.
        index: What index it keeps; None for none.
        heads: The heads it keeps.
        migrate: The model that it moves the table to; None for a job that keeps the table as it is. With ``finetune``
            that is the one that comes of it, ``TUNED``.
        finetune: How it trains the table's backbone further; None for a job that does not.
        gates: What must hold.
        keep: How many earlier states stay to go back to.
        textfile: A file for Prometheus, None for none.
        store: The store that the file names, None where it names none.
        file: The TOML file, None where the job was made in Python.
        digest: SHA-256 of what the job says, wherever each setting came from.
        origins: Where each setting came from.
    """

    name: str
    table: str
    space: str | None = None
    extract: ExtractSettings | None = None
    index: IndexSettings | None = None
    heads: tuple[HeadJob, ...] = ()
    migrate: MigrateSettings | None = None
    finetune: FinetuneSettings | None = None
    gates: Gates = field(default_factory=Gates)
    keep: int = 5
    textfile: str | None = None
    store: str | None = None
    file: str | None = None
    digest: str = ""
    origins: dict[str, SettingValue] = field(default_factory=dict)

    @property
    def command(self) -> Literal["refresh", "migrate", "finetune"]:
        """What runs it."""
        return "finetune" if self.finetune is not None else "refresh" if self.migrate is None else "migrate"
