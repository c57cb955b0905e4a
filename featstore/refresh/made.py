"""Which run a version of a table comes from."""

from __future__ import annotations

from featstore.tables import FeatureTable

__all__ = ["made_by"]


def made_by(table: FeatureTable) -> str | None:
    """The run that a version's items come from; commits that only move rows between files are passed over."""
    for commit in table.history():
        if (table.version is None or commit.version <= table.version) and commit.operation == "extract":
            return commit.run_id
    return None
