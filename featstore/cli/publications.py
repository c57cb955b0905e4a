"""What is published, where tables, versions and runs are shown."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from featstore.records import CommitInfo, HeadCard, Manifest, RefreshResult, TableSummary
    from featstore.store import Store

__all__ = ["ends", "facts", "heads", "marks", "version"]


def version(table: TableSummary) -> str:
    """A table's version in one cell, and which it is where something of it is published."""
    if table.published is None:
        return str(table.version)
    said = ["published" if table.version == table.published else f"{table.published} is published"]
    if table.newest not in (None, table.version):
        said.append(f"newest {table.newest}")
    if table.held:
        said.append("held")
    return f"{table.version} ({', '.join(said)})"


def facts(opened: Store, table: TableSummary) -> Iterator[tuple[str, object]]:
    """Lines for ``show NAME``: what its name means, what is newer, and what it can go back to."""
    found = opened.published(table.table)
    if found is None:
        return
    state = found.state
    where = "" if state.space_id == table.space_id else f" in the space {state.space_id}"
    here = not where and state.table_version == table.version
    with_ = [f"head {head}:{number}" for head, number in state.heads.items()]
    if state.index_version is not None:
        with_.insert(0, f"the index of version {state.index_version}")
    yield (
        "published",
        ("this version" if here else f"version {state.table_version}{where}")
        + (f", with {', '.join(with_)}" if with_ else "")
        + f", since {state.published_ts}"
        + (f" by job '{state.job}'" if state.job else "")
        + (f": {state.reason}" if state.reason else ""),
    )
    if table.newest not in (None, table.version):
        yield "newest", f"version {table.newest}; see featstore show {table.table}@{table.space_id}:{table.newest}"
    if found.held:
        yield "held", "jobs publish nothing; lift it with: featstore publish"
    if found.previous:
        before = found.previous[0]
        yield "before", f"version {before.table_version}; go back with: featstore rollback {table.table}"


def marks(commits: list[CommitInfo]) -> list[str] | None:
    """What became of each version; None where nothing of the table was ever published."""
    found: list[str] = [commit.published or "" for commit in commits]
    return found if any(found) else None


def heads(opened: Store, cards: list[HeadCard]) -> list[str]:
    """Lines for ``ls heads``: the heads of which another version than the one listed is published."""
    from featstore.heads.opening import standing

    said = (standing(opened.layout, card.head, card.version) for card in cards)
    return [text for text in said if text is not None]


def ends(runs: list[Manifest], refreshed: list[RefreshResult]) -> list[tuple[str, str, str, str, str]]:
    """Rows for ``ls runs`` of refreshes that extracted nothing: run, status, table, start, seconds."""
    known = {run.run_id for run in runs}
    return [
        (one.run_id, one.status, one.table, one.started_ts, f"{one.seconds:,.1f}")
        for one in refreshed
        if one.run_id not in known
    ]
