"""From what the user wrote to a source."""

from __future__ import annotations

import os

from featstore.errors import NotFoundError, UsageError
from featstore.records import Modality
from featstore.sources.folder import IMAGE_SUFFIXES, TEXT_SUFFIXES, FolderSource
from featstore.sources.items import Source, SourceOptions
from featstore.sources.listed import LIST_PREFIX, ListSource, list_uri
from featstore.sources.shards import find_shards
from featstore.storage import Storage, shown

__all__ = ["open_source", "source_uri"]


def open_source(uri: str, *, modality: Modality, options: SourceOptions | None = None) -> Source:
    """Opens a folder, tars, a list, or a table by its suffix (Parquet and Arrow also by their first bytes).

    Args:
        uri: A path or ``file://`` URL, a range of tars (``name-{000..009}.tar``), ``-`` for a list of files on
            standard input, or the ``uri`` of a source that was opened before.
        modality: What the items are.
        options: How items are made of files or rows.

    Raises:
        NotFoundError: There is nothing at that path.
        UsageError: It is nothing that featstore reads, or an option does not fit it.
        SettingsError: An option names a column that is not there.
    """
    options = options or SourceOptions()
    if not uri.strip():
        raise UsageError("no source was named: it is an empty text.", hint="For the working folder, write a point: .")
    if uri.startswith(("s3://", "gs://", "gcs://", "az://", "abfs://", "abfss://")):
        raise UsageError(
            f"{shown(uri)}: sources in buckets are not supported yet.",
            hint="Copy or mount the bucket and name the folder.",
        )
    if uri == "-" or uri.startswith(LIST_PREFIX):
        return ListSource(uri, modality, options)
    path = Storage.at(uri).root
    shards = find_shards(path, IMAGE_SUFFIXES if modality == "image" else TEXT_SUFFIXES)
    if shards is not None:
        from featstore.sources.tars import TarSource

        return TarSource(path, shards, modality, options)
    if path.is_dir():
        return FolderSource(path, modality, options)
    if not os.path.lexists(path):
        raise NotFoundError(
            f"{path} does not exist.", hint="Name a folder, a tar, or a CSV, JSONL, Parquet or Arrow file."
        )
    if not path.is_file():
        raise UsageError(f"{path} is neither a folder nor a regular file.")
    from featstore.sources.table import open_table

    return open_table(path, modality, options)


def source_uri(uri: str, source_root: str | None = None) -> str:
    """The ``uri`` that the source will have once opened; nothing is looked at.

    Args:
        uri: What the user wrote.
        source_root: Where a list's paths begin.
    """
    if uri == "-":
        return list_uri(source_root)
    if uri.startswith(LIST_PREFIX):
        return uri
    try:
        return str(Storage.at(uri).root)
    except UsageError:
        return uri
