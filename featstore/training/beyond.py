"""Vectors that are too many for memory: laid out on disk in the order of the sides, for as long as a training lasts."""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from featstore.errors import StorageError, UsageError
from featstore.extract.progress import Reporter
from featstore.layout import Layout
from featstore.machine import available_memory
from featstore.settings import HeadSettings
from featstore.tables import FeatureTable

__all__ = ["NOTE", "laid_out", "needed"]

NOTE = (
    "the vectors stay on disk: near-duplicates are not looked for (equal contents are), and there are no baselines, "
    "learning curve or shots"
)

# The share of the free memory that vectors may take: sides and folds are copies of their rows.
_SHARE = 0.3


def needed(tables: Sequence[FeatureTable], items: int, settings: HeadSettings) -> bool:
    """Whether the vectors of some items do not fit into memory.

    Raises:
        UsageError: They do not, and what was asked for needs them there.
    """
    size = sum(4 * table.dim * items for table in tables)
    room = settings.memory if settings.memory is not None else int(_SHARE * available_memory())
    if size <= room:
        return False
    if len(tables) > 1 or not settings.kind.startswith("torch-"):
        what = "several tables" if len(tables) > 1 else f"--kind {settings.kind}"
        raise UsageError(
            f"{items:,} vectors take {size / 1e9:,.1f} GB, and {room / 1e9:,.1f} GB of memory may be used; "
            f"{what} needs them in memory.",
            hint="--kind torch-linear and torch-mlp read one table's piece by piece. Or take fewer with --where, or "
            "allow more with --memory.",
        )
    return True


def laid_out(
    layout: Layout, table: FeatureTable, sides: Sequence[NDArray[np.int64]], reporter: Reporter
) -> list[NDArray[np.float32]]:
    """Copies the vectors of some rows to a file without a name, which ends with what is returned.

    Args:
        layout: The store, on whose disk it lies.
        table: The table.
        sides: (n,) rows for each array wanted.
        reporter: Told of progress.

    Returns:
        For each side its vectors (n, d), memory-mapped.

    Raises:
        StorageError: There is no room on the disk.
    """
    total = sum(map(len, sides))
    size, free = total * table.dim * 4, layout.storage.free_bytes()
    if free < size:  # a mapped file that outgrows its disk ends the process
        raise StorageError(
            f"{layout.storage.local()} has {free / 1e9:,.1f} GB free; laying the vectors out takes {size / 1e9:,.1f}."
        )
    reporter.stage("laying out the vectors on disk", total)
    try:
        with tempfile.TemporaryFile(dir=layout.storage.local()) as file:
            file.truncate(max(1, total) * table.dim * 4)
            mapped = np.memmap(file, np.float32, mode="r+", shape=(total, table.dim))
    except OSError as error:
        raise StorageError(
            f"{total:,} vectors cannot be laid out in {layout.storage.local()}: {error.strerror or error}."
        ) from error
    place = np.full(len(table), -1, np.int64)
    place[np.concatenate(sides)] = np.arange(total)
    at = 0
    for _, vectors in table.stream(["item_id"]):  # once through, in the table's order, whatever that of the sides
        here = place[at : at + len(vectors)]
        wanted = here >= 0
        mapped[here[wanted]] = vectors if wanted.all() else vectors[wanted]
        at += len(vectors)
        reporter.advance(int(wanted.sum()))
    ends = np.cumsum([0, *map(len, sides)]).tolist()
    return [mapped[first:last] for first, last in itertools.pairwise(ends)]
