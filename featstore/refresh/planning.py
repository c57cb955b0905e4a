"""What a refresh would do, by reading only."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from featstore.jobs import Job
    from featstore.layout import Layout
    from featstore.records import RefreshPlan

__all__ = ["plan"]


def plan(layout: Layout, job: Job) -> RefreshPlan:
    """What ``refresh`` would do; times and bytes are estimates."""
    raise NotImplementedError
