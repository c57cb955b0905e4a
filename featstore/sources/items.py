"""What every source gives: items as an Arrow table, and what was refused or passed over."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, Protocol

from featstore.records import Modality, Reject

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["RESERVED", "Progress", "Reader", "Scan", "Source", "SourceOptions", "no_progress"]

Progress = Callable[[str, int, int | None], None]
"""Called with the stage (``list``, ``hash`` or ``read``), how many are done, and of how many (None: unknown)."""

RESERVED = frozenset(
    {
        "item_id",
        "content_sha256",
        "embedding",
        "event_ts",
        "created_ts",
        "run_id",
        "text",
        "locator",
        "size",
        "mtime_ns",
        "inode",
        "_file",
        "_row",
    }
)
"""Names of featstore's own columns; a source's metadata column of that name gets ``_`` appended."""


def no_progress(_stage: str, _done: int, _total: int | None) -> None:
    """Reports to nobody."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceOptions:
    """How items are made of files or rows; every field is the command line's flag of that name."""

    source_root: str | None = None
    label_from: Literal["folder"] | None = None
    text_columns: tuple[str, ...] = ()
    text_template: str | None = None
    image_column: str | None = None
    id_column: str | None = None
    label_column: str | None = None
    group_column: str | None = None
    split_column: str | None = None
    time_column: str | None = None


@dataclass(frozen=True)
class Scan:
    """What a source holds now.

    Attributes:
        items: One row an item, in the source's own order: item_id string, content_sha256 string
            (64 hexadecimal digits), locator string, size, mtime_ns and inode int64, event_ts
            timestamp[us, UTC] where a time column was named, then the metadata columns.
        rejects: Items that were refused while listing (stage ``scan``) or reading (``read``).
        ignored: Files of another kind, by lower-case suffix; ``(none)`` and ``(hidden)`` besides.
        warnings: One sentence each.
        unreachable: Beginnings of item ids under which nothing could be listed; an item that was
            there before is not to be taken for removed.
    """

    items: pa.Table
    rejects: tuple[Reject, ...] = ()
    ignored: dict[str, int] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    unreachable: tuple[str, ...] = ()


class Reader(Protocol):
    """Hands out the contents of some items; safe to call from several threads."""

    def read(self, row: int) -> bytes | str:
        """Content of the row-th item.

        Raises:
            ItemError: stage ``read``; code ``changed_during_run`` if the content is no longer the scanned one.
        """


class Source(Protocol):
    """Where items come from."""

    @property
    def uri(self) -> str:
        """Absolute path; a range of tars as it was written; of a list ``list:`` and its root."""

    @property
    def kind(self) -> str:
        """``folder``, ``list``, ``tar``, ``csv``, ``jsonl``, ``parquet`` or ``arrow``."""

    @property
    def modality(self) -> Modality:
        """``image`` or ``text``."""

    def scan(
        self,
        *,
        previous: pa.Table | None = None,
        rehash: bool = False,
        limit: int | None = None,
        progress: Progress = no_progress,
    ) -> Scan:
        """Lists the items and hashes their contents.

        Args:
            previous: The items of the last scan; what has its size, time and inode unchanged keeps its hash unread.
            rehash: Read everything, whatever ``previous`` says.
            limit: Stop after that many items of the source's order.
            progress: Told how far it is.
        """

    def reader(self, items: pa.Table) -> Reader:
        """Opens the contents of some rows of ``Scan.items``."""
