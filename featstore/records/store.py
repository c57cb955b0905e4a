"""What all documents share, and the store itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["FORMAT_VERSION", "Artefact", "Modality", "Reference", "SettingValue", "StoreRecord"]

FORMAT_VERSION = 1

Modality = Literal["image", "text"]


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreRecord:
    """``store.json``: what makes a folder a store."""

    format_version: int = FORMAT_VERSION
    store_id: str
    created_ts: str
    featstore: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """``models/refs/KEY.json``: which space a model's name and options lead to."""

    format_version: int = FORMAT_VERSION
    key: str
    model: str
    space_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Artefact:
    """One file of a model, bound to its bytes."""

    file: str
    sha256: str
    bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SettingValue:
    """A resolved setting and where it came from: flag, environment, job or default."""

    value: str | int | float | bool | list[str] | None
    origin: str
