"""What must be true of a run's files before they are committed; delta-rs itself looks at none of it."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow as pa

from featstore.errors import ConflictError, IntegrityError, SpaceMismatchError
from featstore.storage import Stat, hashing
from featstore.tables import evolution
from featstore.tables.entries import Addition, LiveFile
from featstore.tables.footer import opening
from featstore.tables.parts import PartFile
from featstore.tables.vectors import THREADS

__all__ = ["Checks", "check_removals"]


class Checks:
    """Compares staged files with what a run says it wrote; each is read in full once, unless it was touched since.

    Args:
        folder: The table's folder.
        dim: The length that the vectors must have.
    """

    def __init__(self, folder: Path, dim: int) -> None:
        self._folder, self._dim = folder, dim
        self._passed: dict[PartFile, Stat] = {}

    def check(self, parts: Sequence[PartFile]) -> list[tuple[Addition, pa.Schema]]:
        """Checks some files.

        Returns:
            Of each what the commit takes, and the file's columns.

        Raises:
            IntegrityError: A file is missing or is not what was written.
            SpaceMismatchError: Its vectors have another length.
        """
        with ThreadPoolExecutor(THREADS) as pool:
            found = list(pool.map(lambda part: _check(self._folder, part, self._dim, self._passed.get(part)), parts))
        for part, (_, _, stat) in zip(parts, found, strict=True):
            self._passed[part] = stat
        return [(addition, schema) for addition, schema, _ in found]


def _check(folder: Path, part: PartFile, dim: int, passed: Stat | None) -> tuple[Addition, pa.Schema, Stat]:
    where = folder / part.path
    with opening(where, size=part.bytes, rows=part.rows, ours=True) as file:
        schema = evolution.of_file(file.metadata.schema.to_arrow_schema(), where)
        lengths = {chunk.values / chunk.rows for chunk in file.chunks if chunk.rows}
        if lengths - {float(dim)}:
            raise SpaceMismatchError(
                f"{where} holds vectors of {max(lengths):g} values; the table takes {dim}.",
                hint="Vectors of another model go to that model's own table.",
            )
        if passed != file.stat and hashing.of_file(where) != part.sha256:
            raise IntegrityError(
                f"{where} is not the file that the run has written.",
                hint="Remove it and run the same command again.",
            )
        return Addition(LiveFile(part.path, part.bytes, part.rows), part.sha256, file.digest), schema, file.stat


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
