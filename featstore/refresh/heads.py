"""What becomes of each head of a job: kept and measured again, or fitted anew beside it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from featstore.extract.progress import Reporter
    from featstore.jobs import Job
    from featstore.layout import Layout
    from featstore.records import DriftReport, HeadOutcome, ModelCard, Published
    from featstore.tables import FeatureTable

__all__ = ["settle"]


def settle(
    layout: Layout,
    job: Job,
    *,
    run_id: str,
    candidate: FeatureTable,
    model: ModelCard,
    before: Published | None,
    drift: DriftReport | None,
    reporter: Reporter,
) -> tuple[HeadOutcome, ...]:
    """Measures the published heads on the candidate, and fits anew those that are due."""
    return ()
