"""Earlier versions of a table: which one was current at a time, and whether its files are still kept."""

from __future__ import annotations

from datetime import UTC, datetime

from featstore.errors import NotFoundError, UsageError
from featstore.layout import Layout
from featstore.tables.table import FeatureTable

__all__ = ["at_time", "check_kept", "moment"]


def moment(text: str | datetime) -> datetime:
    """A time as a user gives it: ISO 8601; UTC where it names no zone, midnight where it is a date.

    Raises:
        UsageError: It is no time.
    """
    if isinstance(text, datetime):
        found = text
    else:
        try:
            found = datetime.fromisoformat(text.strip())
        except ValueError as error:
            raise UsageError(
                f"'{text}' is no time.", hint="Write it as 2026-05-04T03:02:01Z, or 2026-05-04 for its midnight (UTC)."
            ) from error
    return found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)


def at_time(layout: Layout, table: FeatureTable, when: datetime) -> FeatureTable:
    """The newest version, up to the table's own, that was committed at or before a time.

    Raises:
        NotFoundError: The table is younger, or that version's files are no longer kept.
    """
    commits = [commit for commit in table.history() if table.version is None or commit.version <= table.version]
    for commit in commits:
        if datetime.fromisoformat(commit.timestamp) <= when:
            found = table
            if commit.version != table.version:
                found = FeatureTable.open(layout, table.name, table.space_id, commit.version)
            check_kept(layout, found)
            return found
    first = f" Its first version is of {commits[-1].timestamp}." if commits else ""
    raise NotFoundError(f"'{table.name}' had no version yet at {when.isoformat()}.{first}")


def check_kept(layout: Layout, table: FeatureTable) -> None:
    """Refuses an earlier version whose files ``gc`` has removed.

    A missing file that the newest version needs as well is damage, which reading it will report.

    Raises:
        NotFoundError: Files of the version are gone.
    """
    missing = {file for file in table.files if not (table.path / file).exists()}
    if missing and missing - set(FeatureTable.open(layout, table.name, table.space_id).files):
        raise NotFoundError(
            f"version {table.version} of '{table.name}' is no longer kept: gc has removed {len(missing)} of its files.",
            hint=f"See the versions: featstore show {table.name}@{table.space_id} --history",
        )
