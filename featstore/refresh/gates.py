"""What must hold before anything is published."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from featstore.records import GateOutcome

if TYPE_CHECKING:
    from featstore.jobs import Job
    from featstore.layout import Layout
    from featstore.records import DriftReport, ExtractResult, HeadOutcome, IndexCard, Published
    from featstore.tables import FeatureTable

__all__ = ["judge", "told"]


def judge(
    layout: Layout,
    job: Job,
    *,
    before: Published | None,
    table: FeatureTable | None,
    candidate: FeatureTable,
    extracted: ExtractResult | None,
    index: IndexCard | None,
    heads: Sequence[HeadOutcome],
    drift: DriftReport | None,
) -> tuple[GateOutcome, ...]:
    """Judges a candidate by each gate of its job."""
    found = []
    if extracted is not None and extracted.seen:
        share = extracted.rejected / extracted.seen
        refused = extracted.rejected > 10 and share > job.gates.max_reject_share
        found.append(
            GateOutcome(
                gate="max_reject_share",
                status="refused" if refused else "passed",
                value=share,
                limit=job.gates.max_reject_share,
                relation="at most",
            )
        )
    return tuple(found)


def told(refused: Sequence[GateOutcome]) -> str:
    """The gates that refused, in one sentence each."""
    return " ".join(f"{one.gate} is {one.value:.4g}, {one.relation} {one.limit:.4g} is allowed." for one in refused)
