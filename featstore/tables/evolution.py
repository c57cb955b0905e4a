"""How a table's columns change: new ones are added, a changed type is refused unless it is asked for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from featstore.errors import IntegrityError, SettingsError
from featstore.tables.columns import FIXED, VECTOR, describe, vector_type
from featstore.tables.metadata import check_names, normalise

__all__ = ["added", "conform", "converted", "merge", "of_file"]


def conform(rows: pa.Table, table: pa.Schema, *, where: str, retype: bool) -> pa.Table:
    """Normalises rows and fits them to an existing table's types.

    Columns that the table does not have stay; they are added to it when the rows are committed.

    Args:
        rows: As for ``normalise``.
        table: The table's schema.
        where: What to call the table in a message.
        retype: Convert a column whose type has changed, where no value is changed by it.

    Raises:
        SettingsError: A column's type has changed, and ``retype`` was not asked for or would lose something.
    """
    known = {name.casefold(): name for name in table.names}
    plain = normalise(rows)
    columns: dict[str, pa.ChunkedArray[Any]] = {}
    for name in plain.column_names:
        column, same = plain[name], known.get(name.casefold())
        if same is not None and same != name:
            raise SettingsError(
                f"the metadata column '{name}' is called '{same}' in {where}; they differ in case only.",
                hint=f"Rename it to '{same}' in the source.",
            )
        if same is not None and column.type != table.field(name).type:
            column = _retyped(name, column, table.field(name).type, where=where, retype=retype)
        columns[name] = column
    return pa.table(columns)


def of_file(schema: pa.Schema, where: object) -> pa.Schema:
    """The columns of a data file, as the table would have them.

    Raises:
        IntegrityError: A fixed column is missing or of another type.
    """
    wanted = {**FIXED, VECTOR: vector_type()}
    for name, kind in wanted.items():
        if name not in schema.names or schema.field(name).type != kind:
            got = describe(schema.field(name).type) if name in schema.names else "nothing"
            raise IntegrityError(f"{where} has {got} as its column '{name}' instead of {describe(kind)}.")
    return schema.remove_metadata()


def merge(schemas: Sequence[pa.Schema]) -> pa.Schema:
    """One schema for the files of a run, in the order of the longest.

    Raises:
        SettingsError: Two files have a column of different types.
    """
    fields: dict[str, pa.Field[Any]] = {}
    for schema in sorted(schemas, key=len, reverse=True):
        for found in schema:
            if fields.setdefault(found.name, found).type != found.type:
                raise SettingsError(
                    f"two files of this run have the column '{found.name}', as {describe(fields[found.name].type)} "
                    f"and as {describe(found.type)}.",
                    hint="Align all rows of a run at once.",
                )
    check_names([name for name in fields if name not in FIXED and name != VECTOR])
    return pa.schema(list(fields.values()))


def added(schema: pa.Schema, table: pa.Schema, *, where: str) -> list[pa.Field[Any]]:
    """The columns that a run adds to a table.

    Raises:
        SettingsError: A column has another type in the table.
    """
    for found in schema:
        if found.name in table.names and table.field(found.name).type != found.type:
            raise SettingsError(
                f"the column '{found.name}' is {describe(table.field(found.name).type)} in {where}, "
                f"and {describe(found.type)} in this run.",
                hint="Align all rows of a run with the table first.",
            )
    new = [found for found in schema if found.name not in table.names]
    if new:
        check_names([name for name in {*table.names, *schema.names} if name not in FIXED and name != VECTOR])
    return new


def converted(column: pa.ChunkedArray[Any], target: pa.DataType) -> pa.ChunkedArray[Any] | None:
    """The column as another type, or None where a value would change. Text can hold anything."""
    try:
        there = column.cast(target)
        same = pa.types.is_string(target) or there.cast(column.type).equals(column)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        return None
    return there if same and there.null_count == column.null_count else None


def _retyped(
    name: str, column: pa.ChunkedArray[Any], target: pa.DataType, *, where: str, retype: bool
) -> pa.ChunkedArray[Any]:
    change = f"the column '{name}' is {describe(target)} in {where}, and {describe(column.type)} in the source"
    if not retype:
        raise SettingsError(
            f"{change}.",
            hint=f"Make it {describe(target)} again in the source, or pass --retype to convert the column.",
        )
    there = converted(column, target)
    if there is None:
        raise SettingsError(
            f"{change}, and converting it would change values.",
            hint="Give the column a new name in the source, or extract into a new table.",
        )
    return there
