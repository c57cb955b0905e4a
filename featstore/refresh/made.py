"""Which run a version of a table comes from, and whether two versions hold the same."""

from __future__ import annotations

from typing import TYPE_CHECKING

from featstore.tables import FeatureTable

if TYPE_CHECKING:
    from featstore.records import Published, PublishedState

__all__ = ["last_of", "made_by", "same_rows"]


def last_of(job: str, before: Published) -> PublishedState:
    """What a job published last of a table; what other jobs have published of it since is passed over.

    The present state, where somebody published by hand since, or the job's is none that can be gone back to.
    """
    for state in (before.state, *before.previous):
        if state.job == job:
            return state
        if state.job is None:
            break
    return before.state


def made_by(table: FeatureTable) -> str | None:
    """The run that a version's items come from; commits that only move rows between files are passed over."""
    for commit in table.history():
        if (table.version is None or commit.version <= table.version) and commit.operation == "extract":
            return commit.run_id
    return None


def same_rows(table: FeatureTable, version: int) -> bool:
    """Whether a table has the rows of another of its versions: nothing but merging of files lies between."""
    assert table.version is not None
    low, high = sorted((table.version, version))
    return all(commit.operation == "compact" for commit in table.history() if low < commit.version <= high)
