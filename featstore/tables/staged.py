"""What must be true of a run's files before they are committed; delta-rs itself looks at none of it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa

from featstore.errors import ConflictError, IntegrityError, SpaceMismatchError
from featstore.storage import hashing
from featstore.tables import evolution
from featstore.tables.entries import Addition, LiveFile
from featstore.tables.footer import opening
from featstore.tables.parts import PartFile

__all__ = ["check", "check_removals"]


def check(folder: Path, part: PartFile, dim: int) -> tuple[Addition, pa.Schema]:
    """Reads a staged file in full and compares it with what the run says it wrote.

    Args:
        folder: The table's folder.
        part: The file.
        dim: The length that its vectors must have.

    Returns:
        What the commit takes, and the file's columns.

    Raises:
        IntegrityError: The file is missing or is not what was written.
        SpaceMismatchError: Its vectors have another length.
    """
    where = folder / part.path
    with opening(where, size=part.bytes, rows=part.rows, ours=True) as file:
        schema = evolution.of_file(file.metadata.schema.to_arrow_schema(), where)
        lengths = {chunk.values / chunk.rows for chunk in file.chunks if chunk.rows}
        if lengths - {float(dim)}:
            raise SpaceMismatchError(
                f"{where} holds vectors of {max(lengths):g} values; the table takes {dim}.",
                hint="Vectors of another model go to that model's own table.",
            )
        if hashing.of_file(where) != part.sha256:
            raise IntegrityError(
                f"{where} is not the file that the run has written.",
                hint="Remove it and run the same command again.",
            )
        return Addition(LiveFile(part.path, part.bytes, part.rows), part.sha256, file.digest), schema


def check_removals(live: Sequence[LiveFile], remove: Sequence[str], *, where: str) -> None:
    """Checks that the files to remove are there, each once.

    Raises:
        ConflictError: One is not live.
    """
    strange = sorted(set(remove) - {file.path for file in live})
    if strange or len(set(remove)) != len(remove):
        raise ConflictError(
            f"{where} has no file {', '.join(strange) or 'twice'} to remove.",
            hint="Open the table again and plan the run anew.",
        )
