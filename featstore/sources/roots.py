"""A folder that paths from elsewhere (a list, a table's column) begin in and may not lead out of."""

from __future__ import annotations

import os
from pathlib import Path

from featstore.errors import NotFoundError

__all__ = ["Root", "given_root"]


class Root:
    """Makes paths relative to a folder, and refuses those that leave it, by ``..`` or through a link.

    Args:
        folder: The folder.
    """

    def __init__(self, folder: Path) -> None:
        self.path = os.fsencode(folder)
        self._below = os.path.join(self.path, b"")
        self._real = os.path.realpath(self.path)
        self._real_below = os.path.join(self._real, b"")
        self._parents: dict[bytes, bytes] = {}

    def relative(self, path: bytes) -> bytes | None:
        """A path below the root in its shortest form, without ``.`` and ``..``; None if it leads out.

        Args:
            path: Relative to the root, or absolute.
        """
        if b"\0" in path:
            return None
        found = os.path.normpath(path)
        if os.path.isabs(found):
            found = b"/" + found.lstrip(b"/")  # POSIX lets two slashes in front mean something else
            if found.startswith(self._below):
                found = found[len(self._below) :]
            elif found.startswith(self._real_below):
                found = found[len(self._real_below) :]
            else:
                return None
        if found == b".." or found.startswith(b"../"):
            return None
        return found if self._inside(found) else None

    def absolute(self, relative: bytes) -> bytes:
        """Where a path that ``relative`` gave lies."""
        return os.path.join(self.path, relative)

    def _inside(self, relative: bytes) -> bool:
        folder, name = os.path.split(relative)
        # Most files share their folder: its links are followed once.
        parent = self._parents.get(folder)
        if parent is None:
            parent = self._parents[folder] = os.path.realpath(os.path.join(self.path, folder))
        whole = os.path.join(parent, name)
        real = os.path.realpath(whole) if os.path.islink(whole) else whole
        return real == self._real or real.startswith(self._real_below)


def given_root(folder: str) -> Path:
    """The folder of ``--source-root``, absolute.

    Raises:
        NotFoundError: There is no such folder.
    """
    path = Path(os.path.abspath(os.path.expanduser(folder)))
    if not path.is_dir():
        raise NotFoundError(
            f"--source-root {folder}: there is no such folder.", hint="Check the path; is the disk or share mounted?"
        )
    return path
