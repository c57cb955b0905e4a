"""Pictures that a table's rows hold, as bytes, or name, as paths beside the table."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from featstore.errors import ItemError
from featstore.sources import files

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["Pictures"]


class Pictures:
    """Finds a row's picture; paths are relative to ``folder`` and never lead out of it.

    Args:
        folder: Where the table lies.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = os.fsencode(folder)
        self._real = os.path.join(os.path.realpath(self._folder), b"")

    @staticmethod
    def content(value: object) -> bytes | None:
        """The bytes in a cell: its own, or those of a struct ``{bytes, path}`` as Hugging Face datasets have."""
        if isinstance(value, dict):
            value = value.get("bytes")
        return value if isinstance(value, bytes) else None

    def locate(self, value: object) -> str | None:
        """The path in a cell that holds no bytes, or None.

        Raises:
            ItemError: The path leads out of the table's folder.
        """
        if isinstance(value, dict):
            value = value.get("path")
        if not isinstance(value, str) or not value:
            return None
        if "\0" in value or not os.path.realpath(self.path(value)).startswith(self._real):
            raise ItemError("scan", "outside_root", f"the path {value[:200]!r} leads out of the table's folder.")
        return value

    def path(self, located: str) -> bytes:
        """The absolute path of what ``locate`` gave."""
        return os.path.join(self._folder, located.encode("utf-8", "surrogateescape"))

    def reader(self, items: pa.Table) -> files.FileReader:
        """Reads rows whose locators are ``file:PATH``."""
        columns = (items[name].to_pylist() for name in ("content_sha256", "size", "mtime_ns", "inode"))
        return files.FileReader(
            [self.path(str(locator).removeprefix("file:")) for locator in items["locator"].to_pylist()],
            [files.Hashed(*row) for row in zip(*columns, strict=True)],
        )
