"""Features beside the rows of a frame, each as it was at the row's time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from featstore.errors import UsageError
from featstore.features import asking, frames
from featstore.layout import Layout
from featstore.tables.timeline import Answers, Timeline

__all__ = ["columns_of", "get_features"]


def get_features(
    layout: Layout, frame: Any, features: Sequence[str], *, timestamp_column: str | None = None, on: str = "item_id"
) -> Any:
    """Puts vectors, and columns beside them, next to the rows of a frame.

    With times, each row gets the vector that counted at its time: of those with max(event_ts, created_ts) at or
    before it the one made last; ``created_ts`` is the beginning of the run that made it. Rows that have left the
    table are known where it keeps its history. Without times each row gets what the address means now.

    The ids of the frame, times and row numbers are held in memory; of the tables' files only those row groups are
    read that hold what is asked for.

    Args:
        layout: The store.
        frame: A Polars or pandas frame or an Arrow table; it is not changed.
        features: Each ``ADDRESS`` for its vectors, or ``ADDRESS[COLUMN]``; they name the columns.
        timestamp_column: The column of times; those without a zone are UTC.
        on: The column of ids.

    Returns:
        A frame of the same kind with the same rows in the same order, and behind its own columns for each address
        its vectors (fixed-size lists of float32; arrays in pandas), its columns and ``ADDRESS__missing``: why there
        is none, null where there is one.

    Raises:
        UsageError: The frame, a feature or a column cannot be used so.
        NotFoundError: There is no such table, version or column.
        IntegrityError: A file of a table or its history is damaged.
    """
    names = frames.column_names(frame)
    wanted = asking.asked(layout, features, taken=names)
    if timestamp_column == on:
        raise UsageError(f"'{on}' cannot be both the column of ids and that of times.")
    ids = frames.ids(frame, on)
    times = None if timestamp_column is None else frames.times(frame, timestamp_column)
    columns: dict[str, pa.Array[Any]] = {}
    for asked in wanted:
        timeline = Timeline.of(layout, asked.table)
        columns |= columns_of(asked, timeline, timeline.at(ids, times))
    return frames.beside(frame, columns)


def columns_of(asked: asking.Asked, timeline: Timeline, answers: Answers) -> dict[str, pa.Array[Any]]:
    """The columns of one address: its vectors, its metadata, and why some are missing."""
    columns: dict[str, pa.Array[Any]] = {}
    if asked.vectors:
        columns[asked.address] = _lists(timeline.vectors(answers.rows), answers.rows < 0)
    if asked.columns:
        found = timeline.metadata(answers.rows, list(dict.fromkeys(asked.columns.values())))
        for name, column in asked.columns.items():
            columns[name] = pa.concat_arrays(found[column].chunks) if len(found) else pa.array([], found[column].type)
    columns[f"{asked.address}{asking.MISSING}"] = answers.reasons.to_arrow().cast(pa.string())
    return columns


def _lists(vectors: NDArray[np.float32], missing: NDArray[np.bool_]) -> pa.Array[Any]:
    """A matrix as fixed-size lists over the same memory."""
    mask = pa.array(missing) if missing.any() else None
    return pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1)), vectors.shape[1], mask=mask)
