"""Gives columns of a table a new type, by writing all its files anew in one commit."""

from __future__ import annotations

import pyarrow as pa

from featstore.tables import evolution
from featstore.tables.columns import VECTOR
from featstore.tables.metadata import normalise
from featstore.tables.reading import Reader

__all__ = ["new_types", "retyped_schema"]


def new_types(reader: Reader, rows: pa.Table) -> dict[str, pa.DataType]:
    """The types that columns need so that they can hold both what is stored and what comes.

    That is the new type where nothing stored changes by it, else the old one where nothing that comes
    changes by it, else text. Columns that can stay as they are, are left out.
    """
    plain = normalise(rows)
    found: dict[str, pa.DataType] = {}
    for name in plain.column_names:
        if name not in reader.schema.names or name == VECTOR:
            continue
        old, new = reader.schema.field(name).type, plain[name].type
        if old == new:
            continue
        if evolution.converted(reader.rows([name])[name], new) is not None:
            found[name] = new
        elif evolution.converted(plain[name], old) is None:
            found[name] = pa.string()
    return found


def retyped_schema(schema: pa.Schema, types: dict[str, pa.DataType]) -> pa.Schema:
    """The schema with some types replaced."""
    return pa.schema([field.with_type(types.get(field.name, field.type)) for field in schema])
