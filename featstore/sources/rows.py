"""Reading a table's rows in pieces, and single rows again: what every table format offers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["BadRow", "Chunk", "Rows"]


@dataclass(frozen=True, slots=True)
class BadRow:
    """A row that cannot be read."""

    number: int
    code: str
    message: str


@dataclass(slots=True)
class Chunk:
    """Some rows in the file's order.

    Attributes:
        numbers: Each row's number, from 0, counting rows that cannot be read.
        locators: Where each row is found again: ``NUMBER`` or ``NUMBER:OFFSET:BYTES``.
        columns: The values.
        bad: Rows among or after these that cannot be read.
    """

    numbers: Sequence[int]
    locators: Sequence[str]
    columns: dict[str, pa.Array[Any]]
    bad: list[BadRow] = field(default_factory=list)


class Rows(Protocol):
    """A table file. Its methods raise ``UsageError`` for a file that is damaged or of another format."""

    kind: str

    def names(self) -> list[str]:
        """The columns."""

    def strings(self) -> list[str]:
        """Those that hold strings."""

    def binaries(self) -> list[str]:
        """Those that hold bytes, or structs or lists with bytes in them."""

    def chunks(self, skip: Sequence[str]) -> Iterator[Chunk]:
        """All rows, a piece at a time, without the columns named in ``skip``."""

    def fetch(self, locator: str, columns: Sequence[str]) -> list[object]:
        """One row's values; safe in threads. Raises ``ValueError`` or ``OSError`` if it is not there any more."""
