"""One export: select, write beside, replace."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

import pyarrow as pa

from featstore.errors import NotFoundError, UsageError
from featstore.export import arrays, delimited, parquet, tensors
from featstore.export.formats import Format, format_of
from featstore.export.remembered import remembered
from featstore.export.selection import Selected, Selection, select
from featstore.extract.progress import Reporter
from featstore.layout import Layout
from featstore.records import ExportOrigin, ExportResult, ModelCard
from featstore.storage import Storage, documents, durable, hashing
from featstore.tables import FeatureTable

__all__ = ["export"]

_NAMED = 10


def export(
    layout: Layout,
    table: FeatureTable,
    card: ModelCard,
    output: str | os.PathLike[str],
    selection: Selection,
    *,
    format: str | None = None,
    reporter: Reporter | None = None,
) -> ExportResult:
    """Writes a version of a table, or some of it, into one file.

    The vectors pass through in blocks; ids and metadata are held for npz and safetensors only. Rows keep the
    table's order, and equal exports are equal files. The file appears when it is whole.

    Args:
        layout: The store.
        table: The version; with ``selection.as_of`` the newest that may be taken.
        card: The card of its model.
        output: The file; replaced if it is there. ``FILE.csv`` gets ``FILE.csv.json`` beside it, with its origin.
        selection: Which rows and columns. By default all; npz and safetensors then hold ids and vectors only.
        format: ``parquet``, ``csv``, ``npz`` or ``safetensors``; by default the file's suffix.
        reporter: Told of progress.

    Raises:
        UsageError: The format, the place, the expression or the time cannot be used.
        NotFoundError: A column, an id or a version is not there.
        IntegrityError: A file of the table is damaged; nothing is written then.
        StorageError: The disk refused.
    """
    started = time.monotonic()
    target = Path(os.path.abspath(os.path.expanduser(output)))
    kind = format_of(target, format)
    _check_place(target, layout)
    if table.version is None:
        raise NotFoundError(f"table '{table.name}' has no version yet.")
    arrays_only = kind in ("npz", "safetensors")
    default = () if arrays_only else None
    selected: Selected | None = remembered(layout, table, selection, default=default)
    if selected is None:
        selected = select(layout, table, selection, default=default)
    origin = _origin(selected, card, selection)
    reporter = reporter or Reporter()
    reporter.stage("writing", selected.rows)
    with durable.replacing(target) as file:
        _write(kind, file, selected, origin, reporter.advance)
    digest = hashing.of_file(target)
    if kind == "csv":
        documents.write(Storage.at(target.parent), f"{target.name}.json", replace(origin, sha256=digest))
    return ExportResult(
        table=table.name,
        space_id=table.space_id,
        version=origin.version,
        dim=table.dim,
        format=kind,
        path=str(target),
        rows=selected.rows,
        items=len(selected.table),
        bytes=target.stat().st_size,
        sha256=digest,
        columns=origin.columns,
        missing=len(selected.missing),
        missing_ids=selected.missing[:_NAMED],
        seconds=time.monotonic() - started,
    )


def _write(kind: Format, file: BinaryIO, selected: Selected, origin: ExportOrigin, tell: Callable[[int], None]) -> None:
    try:
        if kind == "csv":
            delimited.write(file, selected, tell)
        elif kind == "parquet":
            parquet.write(file, selected, origin, tell)
        elif kind == "npz":
            arrays.write(file, selected, origin, tell)
        else:
            tensors.write(file, selected, origin, tell)
    except (pa.ArrowException, ValueError) as error:
        raise UsageError(f"the table cannot be written as {kind}: {error}.", hint="Try another format.") from error


def _check_place(target: Path, layout: Layout) -> None:
    if target.is_dir():
        raise UsageError(f"{target} is a folder; name a file.")
    root = Path(os.path.realpath(layout.storage.root))
    if Path(os.path.realpath(target)).is_relative_to(root):
        raise UsageError(f"{target} lies within the store; write the file somewhere else.")


def _origin(selected: Selected, card: ModelCard, selection: Selection) -> ExportOrigin:
    table = selected.table
    assert table.version is not None
    return ExportOrigin(
        table=table.name,
        space_id=table.space_id,
        digest=card.digest,
        version=table.version,
        model=card.model,
        licence=card.weights.licence,
        dim=table.dim,
        rows=selected.rows,
        columns=("item_id", *selected.columns, "embedding"),
        where=selection.where,
        as_of=selected.as_of,
        ids=None if selection.ids is None else len(set(selection.ids)),
    )
