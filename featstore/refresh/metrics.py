"""How a job went, for Prometheus: a text file that its node exporter picks up."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from featstore.jobs import Job
    from featstore.layout import Layout
    from featstore.records import RefreshResult

__all__ = ["write"]


def write(layout: Layout, job: Job, result: RefreshResult) -> None:
    """Writes the job's text file, where it has one."""
