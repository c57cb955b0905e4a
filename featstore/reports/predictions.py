"""What ``predictions.parquet`` holds, as arrays; probabilities come in blocks, since all at once may not fit."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from featstore.errors import IntegrityError

if TYPE_CHECKING:
    import polars as pl

__all__ = ["blocks", "check", "classes_of", "kept", "labels_of", "numbers_of", "on_test"]

_ALWAYS = ("item_id", "content_sha256", "group", "fold", "side", "truth", "predicted")
# Probabilities held at once: 32 MB of float64.
_VALUES = 4_000_000


def check(frame: pl.DataFrame, *, probabilities: bool) -> None:
    """Looks whether the columns are there.

    Raises:
        IntegrityError: One is missing.
    """
    wanted = (*_ALWAYS, "probabilities") if probabilities else _ALWAYS
    missing = [name for name in wanted if name not in frame.columns]
    if missing:
        raise IntegrityError(
            f"the head's predictions lack {', '.join(missing)}; they have {', '.join(frame.columns) or 'no column'}.",
            hint="Train the head again: featstore train-head",
        )


def kept(frame: pl.DataFrame) -> bool:
    """Whether there are probabilities: of very many items and classes training keeps none, all of them are null."""
    return "probabilities" in frame.columns and frame["probabilities"].null_count() < len(frame)


def on_test(frame: pl.DataFrame) -> NDArray[np.bool_]:
    """(n,) bool: whether each item is on the test side."""
    return (frame["side"] == "test").fill_null(False).to_numpy().astype(np.bool_)


def classes_of(column: pl.Series, classes: Sequence[str]) -> NDArray[np.int64]:
    """A column of classes, by name or by number, as (n,) int64 numbers; −1 for what is none of them."""
    if column.dtype.is_integer():
        found = column.fill_null(-1).to_numpy().astype(np.int64)
        return np.where((found >= 0) & (found < len(classes)), found, -1)
    at = {name: number for number, name in enumerate(classes)}
    return np.array([at.get(str(value), -1) for value in column.to_list()], np.int64)


def labels_of(column: pl.Series, classes: Sequence[str]) -> NDArray[np.bool_]:
    """A column of lists, of the labels' names or of true and false for each, as (n, c) bool.

    Raises:
        IntegrityError: The column is neither.
    """
    at = {name: number for number, name in enumerate(classes)}
    found = np.zeros((len(column), len(classes)), np.bool_)
    for row, value in enumerate(column.to_list()):
        if value is None:
            continue
        if not isinstance(value, list):
            raise IntegrityError(f"the head's predictions: row {row} of '{column.name}' is no list of labels.")
        if len(value) == len(classes) and all(isinstance(one, bool) for one in value):
            found[row] = value
        else:
            found[row, [at[str(one)] for one in value if str(one) in at]] = True
    return found


def numbers_of(column: pl.Series) -> NDArray[np.float64]:
    """A column of numbers, as (n,) float64; NaN for what is missing."""
    import polars as pl

    return column.cast(pl.Float64, strict=False).fill_null(float("nan")).to_numpy().astype(np.float64)


def blocks(frame: pl.DataFrame, classes: int) -> Iterator[tuple[slice, NDArray[np.float64]]]:
    """The probabilities: rows from and to, and their (rows, c) float64.

    Raises:
        IntegrityError: A row has another number of them than there are classes.
    """
    step = max(1, _VALUES // max(classes, 1))
    for start in range(0, len(frame), step):
        rows = slice(start, min(start + step, len(frame)))
        column = frame["probabilities"][start : rows.stop]
        lengths = column.list.len().fill_null(0).to_numpy()
        if (lengths != classes).any():
            at = start + int(np.flatnonzero(lengths != classes)[0])
            raise IntegrityError(
                f"the head's predictions: row {at} has {lengths[at - start]} probabilities for {classes} classes."
            )
        flat = column.explode(empty_as_null=False).to_numpy().astype(np.float64)
        yield rows, flat.reshape(-1, classes)
