"""Labels as they were given: one value for each row of a table, or none."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

__all__ = ["NAMED", "Labels", "known"]

NAMED = 5
"""Ids that a message names; the counts are of all."""


@dataclass(frozen=True)
class Labels:
    """What is said of each row of a table, in the order of ``rows()``.

    Attributes:
        values: (n,) a text, bool, integer or float, a list as JSON text; None where nothing is said.
        source: The name of the column or file that they come from.
        conflicts: Items of which a file says several things; they count as unlabelled.
        conflicting: The first of them.
        unknown: Ids in a file that are no items of the table.
        unknown_ids: The first of them.
        repeated: Lines that say again what an earlier one said.
    """

    values: list[Any]
    source: str
    conflicts: int = 0
    conflicting: tuple[str, ...] = ()
    unknown: int = 0
    unknown_ids: tuple[str, ...] = ()
    repeated: int = 0

    def __len__(self) -> int:
        return len(self.values)

    @property
    def labelled(self) -> int:
        """How many rows have a label."""
        return sum(value is not None for value in self.values)

    def warnings(self) -> tuple[str, ...]:
        """What a person should know of the joining."""
        found = []
        if self.conflicts:
            named = _listed(self.conflicting, self.conflicts)
            found.append(f"{self.conflicts:,} items have several labels in {self.source} and are left out: {named}")
        if self.unknown:
            named = _listed(self.unknown_ids, self.unknown)
            found.append(f"{self.unknown:,} ids in {self.source} are not in the table: {named}")
        return tuple(found)


def known(value: Any) -> Any:
    """The value, or None where it says nothing: null, NaN, white space."""
    if isinstance(value, str):
        return value if value.strip() else None
    if isinstance(value, float) and math.isnan(value):
        return None
    return value


def _listed(names: tuple[str, ...], count: int) -> str:
    short = (name if len(name) <= 80 else f"{name[:79]}…" for name in names)
    return ", ".join(repr(name) for name in short) + (", …" if count > len(names) else "")
