"""What is said of a deletion for good: of items in all that a store holds, or of a table in one space."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["DropReport", "PurgeReport", "PurgeScan", "PurgedHead", "PurgedTable"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PurgeScan:
    """One look at every file of a store for some ids.

    ``found`` counts, by kind of place, the files that hold an id as their own; ``files_found`` are the first hundred of
    them. ``mentions`` are columns of the user's own, such as ``photos.duplicate_of``, in which rows of other items name
    one, with the number of rows: those are left to the source.
    """

    files: int
    bytes: int
    hits: int
    found: dict[str, int]
    files_found: tuple[str, ...]
    mentions: dict[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class PurgedTable:
    """A table that held purged items.

    ``rows`` left the newest version, which is ``version`` now; ``history_rows`` the table's history.
    ``published_version`` is what its name means now, None where nothing of this space is published. The versions
    ``unreadable`` held the items, and cannot be read any more; ``indexes`` are those that were removed.
    """

    name: str
    space_id: str
    rows: int
    history_rows: int
    version: int | None
    published_version: int | None
    unreadable: tuple[int, ...]
    indexes: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class PurgedHead:
    """A head that has learned from purged items: ``rows`` left what it keeps of its predictions.

    ``vectors`` of theirs left its weights: those of a head of neighbours are its training items' vectors.
    ``keeps_vectors`` is true where a vector of theirs stays in the weights: it must be trained anew to forget it.
    ``again`` is the command that does it.
    """

    head: str
    version: int
    rows: int
    vectors: int
    keeps_vectors: bool
    again: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PurgeReport:
    """What ``gc --purge-ids`` removed, or with ``--dry-run`` would.

    ``items`` were asked for, ``found`` of them were somewhere; of those that were nowhere ``unknown`` has the first
    ten. ``chunks`` are the items that were cut from them. ``before`` is the scan that found them, ``after`` the one
    that proves that they are gone (None for a dry run). ``breaks`` says what no longer works, ``remaining`` where a
    vector of theirs is still in a head's weights, also after an earlier purge; ``next`` is what to run.
    """

    dry_run: bool
    items: int
    found: int
    unknown: tuple[str, ...]
    chunks: int
    tables: tuple[PurgedTable, ...]
    heads: tuple[PurgedHead, ...]
    runs: tuple[str, ...]
    previews: int
    before: PurgeScan
    after: PurgeScan | None
    breaks: tuple[str, ...]
    remaining: tuple[str, ...]
    next: tuple[str, ...]
    warnings: tuple[str, ...]
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class DropReport:
    """What ``gc --drop-space`` removed, or with ``--dry-run`` would.

    ``removed`` counts the files of each kind, of ``bytes`` together. ``lost_states`` are the versions that can no
    longer be gone back to, ``heads`` the heads of the space, which stay. ``breaks`` says what no longer works.
    """

    dry_run: bool
    name: str
    space_id: str
    rows: int
    versions: int
    removed: dict[str, int]
    files: int
    bytes: int
    reject_rows: int
    lost_states: tuple[int, ...]
    heads: tuple[str, ...]
    runs: tuple[str, ...]
    breaks: tuple[str, ...]
    seconds: float
