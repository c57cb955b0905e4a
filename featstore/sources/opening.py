"""From what the user wrote to a source."""

from __future__ import annotations

import os

from featstore.errors import NotFoundError, UsageError
from featstore.records import Modality
from featstore.sources.folder import FolderSource
from featstore.sources.items import Source, SourceOptions
from featstore.storage import Storage

__all__ = ["open_source"]


def open_source(uri: str, *, modality: Modality, options: SourceOptions | None = None) -> Source:
    """Opens a folder, or a table by its suffix (Parquet and Arrow also by their first bytes).

    Args:
        uri: A path or ``file://`` URL.
        modality: What the items are.
        options: How items are made of files or rows.

    Raises:
        NotFoundError: There is nothing at that path.
        UsageError: It is neither a folder nor a table featstore reads, or an option does not fit it.
        SettingsError: An option names a column that is not there.
    """
    options = options or SourceOptions()
    if uri.startswith(("s3://", "gs://", "gcs://", "az://", "abfs://", "abfss://")):
        raise UsageError(
            f"{uri}: sources in buckets are not supported yet.", hint="Copy or mount the bucket and name the folder."
        )
    path = Storage.at(uri).root
    if path.is_dir():
        return FolderSource(path, modality, options)
    if not os.path.lexists(path):
        raise NotFoundError(f"{path} does not exist.", hint="Name a folder, or a CSV, JSONL, Parquet or Arrow file.")
    if not path.is_file():
        raise UsageError(f"{path} is neither a folder nor a regular file.")
    from featstore.sources.table import open_table

    return open_table(path, modality, options)
