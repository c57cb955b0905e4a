"""Every kind of file that a store holds: one registry, so that nothing in it is of an unknown kind."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

__all__ = ["PLACES", "File", "Form", "Place", "of"]

Form = Literal["rows", "document", "log", "bytes"]
"""How a file is read: columns of a Parquet file, values of a JSON document, lines of a Delta log, or just bytes."""


@dataclass(frozen=True)
class Place:
    """One kind of file: ``pattern`` is what its path in the store looks like."""

    kind: str
    pattern: str
    form: Form


@dataclass(frozen=True)
class File:
    """A file and what its path says of it; what it does not say is empty."""

    path: str
    place: Place
    name: str = ""
    space_id: str = ""
    version: str = ""


_NAME, _SPACE, _VERSION = r"(?P<name>[^/]+)", r"(?P<space_id>[^/]+)", r"(?P<version>[^/]+)"

# The first that fits is the one.
PLACES = (
    Place("unfinished write", r"(.*/)?\.[^/]+\.tmp", "bytes"),
    Place("store", r"store\.json", "document"),
    Place("model reference", r"models/refs/[^/]+\.json", "document"),
    Place("model", r"models/[^/]+/.+", "bytes"),
    Place("source", rf"sources/{_NAME}\.json", "document"),
    Place("checked files", r"cache/checked\.json", "document"),
    Place("scan", rf"cache/{_NAME}/(scan|next)-[^/]+\.parquet", "rows"),
    Place("places of previews", rf"cache/{_NAME}/previews\.places", "bytes"),
    Place("membership", rf"members/{_NAME}/{_SPACE}/[^/]+\.parquet", "rows"),
    Place("previews", rf"previews/{_NAME}/[^/]+\.parquet", "rows"),
    Place("published state", rf"published/{_NAME}\.json", "document"),
    Place("migration", rf"migrations/{_NAME}\.json", "document"),
    Place("migration report", rf"migrations/{_NAME}/[^/]+\.json", "document"),
    Place("page", rf"migrations/{_NAME}/[^/]+\.html", "bytes"),
    Place("fine-tuning", rf"finetunes/{_NAME}/.+\.json", "document"),
    Place("page", rf"finetunes/{_NAME}/.+\.html", "bytes"),
    Place("weights of a fine-tuning", rf"finetunes/{_NAME}/.+", "bytes"),
    Place("map between models", r"crossings/[^/]+/[^/]+/[^/]+\.json", "document"),
    Place("weights of a map", r"crossings/[^/]+/[^/]+/[^/]+", "bytes"),
    Place("bridge", r"bridges/[^/]+/[^/]+/[^/]+\.json", "document"),
    Place("weights of a bridge", r"bridges/[^/]+/[^/]+/[^/]+", "bytes"),
    Place("index", rf"indexes/{_NAME}/{_SPACE}/{_VERSION}/[^/]+\.parquet", "rows"),
    Place("index", rf"indexes/{_NAME}/{_SPACE}/{_VERSION}/[^/]+\.json", "document"),
    Place("index", rf"indexes/{_NAME}/{_SPACE}/{_VERSION}/[^/]+", "bytes"),
    Place("table log", rf"features/{_NAME}/{_SPACE}/_delta_log/.+", "log"),
    Place("table", rf"features/{_NAME}/{_SPACE}/.+\.parquet", "rows"),
    Place("history record", rf"history/{_NAME}/[^/]+\.json", "document"),
    Place("history log", rf"history/{_NAME}/{_SPACE}/_delta_log/.+", "log"),
    Place("history", rf"history/{_NAME}/{_SPACE}/.+\.parquet", "rows"),
    Place("rejects log", rf"rejects/{_NAME}/_delta_log/.+", "log"),
    Place("rejects", rf"rejects/{_NAME}/.+\.parquet", "rows"),
    Place("head predictions", rf"heads/{_NAME}/{_VERSION}/[^/]+\.parquet", "rows"),
    Place("head", rf"heads/{_NAME}/{_VERSION}/card\.json", "document"),
    Place("weights of a head", rf"heads/{_NAME}/{_VERSION}/[^/]+\.safetensors", "bytes"),
    Place("split", rf"splits/{_NAME}/[^/]+\.parquet", "rows"),
    Place("split record", rf"splits/{_NAME}/[^/]+\.json", "document"),
    Place("open run", rf"runs/open/{_NAME}/{_SPACE}\.json", "document"),
    Place("run record", rf"runs/{_NAME}/(manifest|refresh)\.json", "document"),
    Place("run", rf"runs/{_NAME}/.+\.parquet", "rows"),
    Place("run", rf"runs/{_NAME}/.+\.json", "document"),
    Place("run", rf"runs/{_NAME}/.+\.safetensors", "bytes"),
    Place("job", rf"jobs/{_NAME}\.json", "document"),
    Place("lock", r"locks/.+\.lock", "bytes"),
)
"""In ``run`` and ``run record`` the name is the run's id, in ``head`` the head's, in ``job`` the job's."""

_KNOWN = tuple((place, re.compile(place.pattern)) for place in PLACES)


def of(path: str) -> File | None:
    """What a file of the store is, by its path; None for what featstore did not put there."""
    for place, pattern in _KNOWN:
        match = pattern.fullmatch(path)
        if match is not None:
            return File(path, place, **{key: value for key, value in match.groupdict().items() if value})
    return None
