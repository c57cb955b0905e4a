"""The grammar of a feature: ``ADDRESS`` for its vectors, ``ADDRESS[COLUMN]`` for a column beside them.

A table's name and a model's may hold dots, and a colon begins a version; brackets are in neither.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from featstore import addresses
from featstore.errors import UsageError
from featstore.layout import Layout
from featstore.tables import FeatureTable, past, where

__all__ = ["MISSING", "Asked", "asked"]

MISSING = "__missing"
"""What the name of the column that explains missing values ends with."""

_FEATURE = re.compile(r"(?P<address>[^\[\]]+)(\[(?P<column>.+)\])?", re.DOTALL)

_NO_COLUMNS = ("embedding",)


@dataclass(frozen=True)
class Asked:
    """What is wanted of one address.

    Attributes:
        address: As it was written; the name of the vectors' column.
        table: The version that it means.
        vectors: Whether the vectors are wanted.
        columns: The columns wanted, each by the name that it was asked for under.
    """

    address: str
    table: FeatureTable
    vectors: bool
    columns: dict[str, str]

    @property
    def names(self) -> tuple[str, ...]:
        """The columns that the answer will have."""
        return (*([self.address] if self.vectors else []), *self.columns, f"{self.address}{MISSING}")


def asked(layout: Layout, features: Sequence[str], *, taken: Sequence[str] = ()) -> list[Asked]:
    """Takes features apart and opens their tables, in the order of their addresses.

    Args:
        layout: The store.
        features: Each ``ADDRESS`` or ``ADDRESS[COLUMN]``.
        taken: Names that the answer's columns cannot have.

    Raises:
        UsageError: One is not of that form, or is called like a column that is there already.
        NotFoundError: There is no such table, version or column, or ``gc`` has removed the version.
    """
    if isinstance(features, str) or not features:
        raise UsageError("name the features in a list.", hint="For example features=['photos@resnet50'].")
    wanted: dict[str, list[str | None]] = {}
    for text in dict.fromkeys(features):
        match = _FEATURE.fullmatch(text)
        if match is None:
            raise UsageError(f"'{text}' is not a feature.", hint="Write ADDRESS or ADDRESS[COLUMN]: photos@resnet50.")
        wanted.setdefault(match["address"], []).append(match["column"])
    found = [_asked(layout, address, columns) for address, columns in wanted.items()]
    names = [*taken]
    for one in found:
        for name in one.names:
            if name in names:
                raise UsageError(f"there is a column '{name}' already.", hint="Rename it before asking for features.")
            names.append(name)
    return found


def _asked(layout: Layout, address: str, columns: Sequence[str | None]) -> Asked:
    at = addresses.parse(address)
    name, space_id = addresses.resolve(layout, at)
    table = FeatureTable.open(layout, name, space_id, addresses.meant(layout, at, space_id))
    past.check_kept(layout, table)
    known = [column for column in table.column_names if column not in _NO_COLUMNS]
    named = [column for column in columns if column is not None]
    for column in named:
        if column not in known:
            raise where.nearest_column(column, known, asked=f"{address}[…]")
    return Asked(address, table, None in columns, {f"{address}[{column}]": column for column in named})
