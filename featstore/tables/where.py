"""``--where``: which rows of a table a Polars SQL expression picks."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from featstore.errors import NotFoundError, UsageError
from featstore.tables.columns import VECTOR

if TYPE_CHECKING:
    import polars as pl
    import pyarrow as pa

__all__ = ["columns_of", "nearest_column", "picked"]

_SUBQUERY = "_POLARS_TMP_SQL"


def columns_of(where: str, known: Iterable[str]) -> list[str]:
    """The columns that an expression reads, each once.

    Args:
        where: A Polars SQL expression, such as ``label = 'cat' AND price > 3``.
        known: The table's columns.

    Raises:
        UsageError: It is no expression, or one that cannot be used on a table.
        NotFoundError: It names a column that is not there; the message has the nearest.
    """
    there = list(known)
    try:
        roots = list(dict.fromkeys(_expression(where).meta.root_names()))
    except _failures() as error:
        raise UsageError(f"--where {where!r} is no SQL expression: {_first(error)}.", hint=_EXAMPLE) from error
    for name in roots:
        if name.startswith(_SUBQUERY):
            raise UsageError(f"--where {where!r} holds a SELECT; only an expression is allowed.", hint=_EXAMPLE)
        if name == VECTOR:
            raise UsageError(f"--where {where!r} reads the vectors; only the other columns can be asked.")
        if name not in there:
            raise nearest_column(name, there, asked=f"--where {where!r}")
    return roots


def picked(rows: pa.Table, where: str) -> NDArray[np.bool_]:
    """Whether the expression holds for each row; where it is null it does not.

    Args:
        rows: At least the columns of ``columns_of``. All rows of the table: an expression may compare with an average.
        where: The expression.

    Raises:
        UsageError: It cannot be evaluated on these columns, or gives something else than true and false.
    """
    import polars as pl

    if not rows.num_rows:
        return np.zeros(0, np.bool_)
    try:
        frame = pl.from_arrow(rows)
        assert isinstance(frame, pl.DataFrame)
        found = frame.select(_expression(where).alias("picked"))["picked"]
    except _failures() as error:
        types = ", ".join(f"{field.name} {field.type}" for field in rows.schema if not field.name.startswith("_"))
        hint = f"Columns: {types}."
        if "timestamp" in types or "date" in types:
            hint += " A day is DATE '2026-05-04', a time '2026-05-04 03:02:01+00:00'::timestamptz."
        raise UsageError(f"--where {where!r} does not fit the table: {_first(error)}.", hint=hint) from error
    if found.dtype != pl.Boolean or len(found) not in (1, rows.num_rows):
        raise UsageError(f"--where {where!r} gives {found.dtype}, not true or false for each row.", hint=_EXAMPLE)
    mask = found.fill_null(False).to_numpy()
    return np.array(np.broadcast_to(mask, (rows.num_rows,)), np.bool_)


def nearest_column(name: str, known: Iterable[str], *, asked: str) -> NotFoundError:
    """The error for a column that is not there; names the nearest one."""
    there = [column for column in known if column != VECTOR]
    near = difflib.get_close_matches(name, there, n=1)
    meant = f" Did you mean '{near[0]}'?" if near else ""
    hint = f"Columns: {', '.join(there)}."
    if f'"{name}"' in asked:
        hint += " In SQL a text stands in single quotes."
    return NotFoundError(f"{asked}: there is no column '{name}'.{meant}", hint=hint)


_EXAMPLE = "For example: --where \"label = 'cat' AND price > 3\""


def _expression(where: str) -> pl.Expr:
    import polars as pl

    return pl.sql_expr(where)


def _failures() -> tuple[type[Exception], ...]:
    import polars as pl

    return (pl.exceptions.PolarsError, TypeError, ValueError)


def _first(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
