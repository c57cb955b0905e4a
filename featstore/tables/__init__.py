"""Feature tables: Delta Lake tables of items and vectors, written and read by us.

``FeatureTable`` is one source embedded in one space, ``RejectsTable`` what was refused and why.
Anything that reads Delta Lake or Parquet reads both without us.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from featstore.tables.parts import Cleaned, PartFile, Problem

if TYPE_CHECKING:
    from featstore.tables.rejects import RejectsTable
    from featstore.tables.table import FeatureTable

__all__ = ["Cleaned", "FeatureTable", "PartFile", "Problem", "RejectsTable"]


def __getattr__(name: str) -> object:
    # pyarrow and deltalake take a noticeable part of a second to import; --help must not wait for them
    if name == "FeatureTable":
        from featstore.tables.table import FeatureTable

        return FeatureTable
    if name == "RejectsTable":
        from featstore.tables.rejects import RejectsTable

        return RejectsTable
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
