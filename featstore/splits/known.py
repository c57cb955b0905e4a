"""What a kept split knows, found by item, content or group name."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["Known"]


@dataclass
class Known:
    """The rows of a kept split.

    Attributes:
        test: The side of each row.
        fold: Its fold, -1 on the test side.
        group: The number of its group.
        excluded: Whether it is on no side.
        groups: A number above that of any group.
    """

    test: list[bool]
    fold: list[int]
    group: list[int]
    excluded: list[bool]
    groups: int
    _pairs: dict[tuple[str, str], int] = field(default_factory=dict)
    _ids: dict[str, int] = field(default_factory=dict)
    _contents: dict[str, int] = field(default_factory=dict)
    _names: dict[str, int] = field(default_factory=dict)

    @classmethod
    def of(cls, rows: pa.Table) -> Known:
        """Reads the rows; of several the first stands for an id, a content or a name."""
        columns: dict[str, list[Any]] = {name: rows[name].to_pylist() for name in rows.column_names}
        found = cls(
            test=columns["test"],
            fold=columns["fold"],
            group=columns["group"],
            excluded=columns["excluded"],
            groups=max(columns["group"], default=-1) + 1,
        )
        for row in range(rows.num_rows):
            item, content, name = (columns[key][row] for key in ("item_id", "content_sha256", "name"))
            found._pairs.setdefault((item, content), row)
            if not found.excluded[row]:
                found._ids.setdefault(item, row)
                found._contents.setdefault(content, row)
                if name is not None:
                    found._names.setdefault(name, row)
        return found

    def has(self, item: str, content: str) -> bool:
        """Whether the item was seen with this content."""
        return (item, content) in self._pairs

    def row(self, item: str, content: str) -> int | None:
        """The row of an item with this content."""
        return self._pairs.get((item, content))

    def linked(self, item: str, content: str, name: str | None) -> Iterator[int]:
        """Rows with a side that an item belongs to: of its own id, of its content, of its group's name.

        A content or name that straddles a given split stands for its first row only.
        """
        own = self._pairs.get((item, content))
        if own is not None and not self.excluded[own]:
            yield own
            return  # its side is settled, and its group has it from here
        for found in (
            self._ids.get(item),
            self._contents.get(content),
            None if name is None else self._names.get(name),
        ):
            if found is not None:
                yield found
