"""Whether what a job brought is of the kind that is published."""

from __future__ import annotations

from typing import TYPE_CHECKING

from featstore.diff.drifting import drifted
from featstore.heads.opening import find_card
from featstore.tables import FeatureTable
from featstore.training.unseen import unseen

if TYPE_CHECKING:
    from featstore.extract.progress import Reporter
    from featstore.layout import Layout
    from featstore.records import DriftReport, Published

__all__ = ["drift_of"]


def drift_of(
    layout: Layout, before: Published | None, candidate: FeatureTable, *, reporter: Reporter
) -> DriftReport | None:
    """Holds the contents that only the candidate has against the published ones, their classes by the published heads.

    Returns:
        None where nothing compares: nothing was published, or vectors of another space.

    Raises:
        IntegrityError: A table or a published head is damaged.
    """
    if before is None or before.state.space_id != candidate.space_id:
        return None
    reporter.stage("looking for drift")
    state = before.state
    there = FeatureTable.open(layout, candidate.name, candidate.space_id, state.table_version)
    addresses = [f"{head}:{version}" for head, version in state.heads.items()]
    mine = [address for address in addresses if find_card(layout, address).space_id == candidate.space_id]
    return drifted(there, candidate, heads=unseen(layout, mine))
