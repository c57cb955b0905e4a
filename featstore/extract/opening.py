"""What a run must know before it plans: the table's name, its source, its model."""

from __future__ import annotations

import os
import re
from dataclasses import replace
from pathlib import PurePosixPath
from urllib.parse import urlparse

from featstore.errors import FeatstoreError, NotFoundError, SettingsError, StorageError, UsageError
from featstore.layout import Layout
from featstore.records import Modality, Reading, SettingValue, SourceRecord
from featstore.settings import ExtractSettings
from featstore.sources import LIST_PREFIX, Source, source_uri
from featstore.storage import Storage, documents, hashing

__all__ = ["READING", "check_name", "check_source", "known_source", "lost", "remembered", "source_key", "table_name"]

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")

# The numbers of a range of tars, and what sets them off from the name before them.
_RANGE = re.compile(r"[-_.]*\{[^{}/]*\}")

# Settings that say how a source is read: a later run that does not give them means the same again.
READING = (
    "source_root",
    "label_from",
    "text_column",
    "text_template",
    "image_column",
    "id_column",
    "label_column",
    "group_column",
    "split_column",
    "time_column",
    "chunk_tokens",
    "chunk_overlap",
)


# Remembered besides, without bearing on what a scan finds.
_REMEMBERED = (*READING, "keep_text")


def table_name(settings: ExtractSettings) -> str:
    """The table's name: as given, else made from the source's last part.

    Raises:
        SettingsError: The given name cannot be a table's, or a list on standard input was given none.
    """
    if settings.name is not None:
        return check_name(settings.name)
    if settings.source == "-":
        raise SettingsError("a list on standard input has no name.", hint="Name the table: --name NAME")
    path = urlparse(settings.source).path if "://" in settings.source else settings.source
    last = PurePosixPath(_RANGE.sub("", path.replace("\\", "/")).rstrip("/") or "items").name
    if "." in last.lstrip("."):
        last = PurePosixPath(last).stem
    made = re.sub(r"[^A-Za-z0-9_.-]+", "_", last).strip("._-")[:100]
    return made if _NAME.fullmatch(made) else "items"


def check_name(name: str) -> str:
    """Returns the name if a table can have it.

    Raises:
        SettingsError: It has other characters than letters, digits, ``_``, ``.`` and ``-``.
    """
    if not _NAME.fullmatch(name):
        raise SettingsError(
            f"'{name}' cannot be a table's name: use letters, digits, '_', '.' and '-', at most 100, "
            "the first a letter or digit."
        )
    return name


def remembered(
    layout: Layout, name: str, settings: ExtractSettings, origins: dict[str, SettingValue]
) -> tuple[ExtractSettings, dict[str, SettingValue]]:
    """Fills in how the source was read before, where this run does not say; makes ``source_root`` absolute."""
    filled: dict[str, object] = {}
    origins = dict(origins)
    if settings.source_root is not None:
        # Another process that takes shards of this run may work in another folder.
        filled["source_root"] = root = os.path.abspath(os.path.expanduser(settings.source_root))
        said = origins.get("source_root")
        origins["source_root"] = SettingValue(value=root, origin="default" if said is None else said.origin)
        settings = replace(settings, source_root=root)
    options = known_source(layout, name, settings)
    if options is None:
        return settings, origins
    for key in _REMEMBERED:
        unsaid = origins[key].origin == "default" if key in origins else getattr(settings, key) in (None, ())
        if unsaid and options.get(key) not in (None, []):
            value = options[key]
            filled[key] = tuple(value) if isinstance(value, list) else value
            origins[key] = SettingValue(value=value, origin=f"remembered from {name}'s last run")
    return (replace(settings, **filled), origins) if filled else (settings, origins)  # type: ignore[arg-type]


def known_source(layout: Layout, name: str, settings: ExtractSettings) -> Reading | None:
    """How the source was read before, if the table is kept in step with it."""
    record = documents.find(layout.storage, layout.source(name), SourceRecord)
    if record is None:
        return None
    known = {record.uri: record.options, **record.added}
    options = known.get(source_uri(settings.source, settings.source_root))
    if options is None and settings.source == "-" and settings.source_root is None:
        # A list without a root is the one that came before, if there was only one.
        lists = [reading for uri, reading in known.items() if uri.startswith(LIST_PREFIX) and reading["source_root"]]
        return lists[0] if len(lists) == 1 else None
    return options


def lost(settings: ExtractSettings, error: FeatstoreError) -> bool:
    """Whether a source could not be opened because it is gone, empty or cannot be read."""
    if isinstance(error, NotFoundError | StorageError):
        return True
    try:
        return not Storage.at(settings.source).stat("").size
    except FeatstoreError:
        return False  # no path, such as a list on standard input or a range of tars


def check_source(
    layout: Layout, name: str, source: Source, modality: Modality, settings: ExtractSettings
) -> SourceRecord:
    """The table's source record as it will be after this run.

    Raises:
        UsageError: The table is kept in step with another source and ``--add`` was not given, or
            holds items of another kind.
    """
    options: Reading = {}
    for key in _REMEMBERED:
        value = getattr(settings, key)
        options[key] = list(value) if isinstance(value, tuple) else value
    record = documents.find(layout.storage, layout.source(name), SourceRecord)
    if record is None:
        return SourceRecord(name=name, modality=modality, uri=source.uri, kind=source.kind, options=options)
    if record.modality != modality:
        raise UsageError(
            f"table '{name}' holds {record.modality}s and the model '{settings.model}' takes {modality}s.",
            hint=f"Choose another name for this table: --name {name}-{modality}s",
        )
    if source.uri == record.uri:
        return replace(record, options=options)
    if source.uri in record.added or settings.add:
        return replace(record, added={**record.added, source.uri: options})
    raise UsageError(
        f"table '{name}' is kept in step with {record.uri}, and this is {source.uri}.",
        hint="Use --add to put these items beside those, or --name to make another table.",
    )


def source_key(source: Source, settings: ExtractSettings, cutting: str | None = None) -> str:
    """Names the cache of one source read in one way; ``cutting`` is what cuts its texts, if anything does."""
    reading = {key: value for key in READING if (value := getattr(settings, key)) not in (None, ())}
    if cutting is not None:
        reading["cutting"] = cutting
    return hashing.of_json({"uri": source.uri, "kind": source.kind, "reading": reading})[:12]
