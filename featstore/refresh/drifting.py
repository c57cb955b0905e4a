"""Whether what a job brought is of the kind that is published."""

from __future__ import annotations

from typing import TYPE_CHECKING

from featstore.diff.drifting import drifted
from featstore.tables import FeatureTable

if TYPE_CHECKING:
    from featstore.extract.progress import Reporter
    from featstore.layout import Layout
    from featstore.records import DriftReport, Published

__all__ = ["drift_of"]


def drift_of(
    layout: Layout, before: Published | None, candidate: FeatureTable, *, reporter: Reporter
) -> DriftReport | None:
    """Holds the contents that only the candidate has against the published ones; None where nothing compares."""
    if before is None or before.state.space_id != candidate.space_id:
        return None
    reporter.stage("looking for drift")
    there = FeatureTable.open(layout, candidate.name, candidate.space_id, before.state.table_version)
    return drifted(there, candidate)
