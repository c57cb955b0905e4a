"""Pictures that a table's rows hold, as bytes, or name, as paths."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from featstore.errors import ItemError
from featstore.sources import files
from featstore.sources.roots import Root

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["Pictures"]


class Pictures:
    """Finds a row's pictures; paths are relative to the root and never lead out of it.

    Args:
        root: The folder where the table lies, or ``--source-root``.
        called: What messages call it.
    """

    def __init__(self, root: Path, called: str) -> None:
        self._root = Root(root)
        self._called = called

    @staticmethod
    def several(value: object) -> list[object] | None:
        """The pictures in a cell that holds a list of them, or JSON text of a list of paths; else None."""
        if isinstance(value, list):
            return value
        if isinstance(value, str) and value.startswith("[") and value.endswith("]"):
            try:
                found = json.loads(value)
            except (ValueError, RecursionError):
                return None  # a file may be called so
            if isinstance(found, list) and all(isinstance(one, str) or one is None for one in found):
                return found
        return None

    @staticmethod
    def content(value: object) -> bytes | None:
        """The bytes in a cell: its own, or those of a struct ``{bytes, path}`` as Hugging Face datasets have."""
        if isinstance(value, dict):
            value = value.get("bytes")
        return value if isinstance(value, bytes) else None

    def locate(self, value: object) -> str | None:
        """The path, relative to the root, in a cell that holds no bytes, or None.

        Raises:
            ItemError: The path leads out of the root.
        """
        if isinstance(value, dict):
            value = value.get("path")
        if not isinstance(value, str) or not value:
            return None
        relative = self._root.relative(value.encode("utf-8", "surrogateescape"))
        if relative is None:
            raise ItemError("scan", "outside_root", f"the path {value[:200]!r} leads out of {self._called}.")
        return relative.decode("utf-8", "surrogateescape")

    def path(self, located: str) -> bytes:
        """The absolute path of what ``locate`` gave."""
        return self._root.absolute(located.encode("utf-8", "surrogateescape"))

    def reader(self, items: pa.Table) -> files.FileReader:
        """Reads rows whose locators are ``file:PATH``."""
        columns = (items[name].to_pylist() for name in ("content_sha256", "size", "mtime_ns", "inode"))
        return files.FileReader(
            [self.path(str(locator).removeprefix("file:")) for locator in items["locator"].to_pylist()],
            [files.Hashed(*row) for row in zip(*columns, strict=True)],
        )
