"""A list of files on standard input: ``find … | featstore extract - --name NAME``."""

from __future__ import annotations

import os
import stat
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from featstore.errors import NotFoundError, StorageError, UsageError
from featstore.records import Modality, Reject
from featstore.sources import walk
from featstore.sources.folder import FolderSource
from featstore.sources.items import Progress, Scan, SourceOptions, no_progress
from featstore.sources.roots import Root, given_root

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["LIST_PREFIX", "ListSource", "list_uri"]

LIST_PREFIX = "list:"
"""A list's URI is this and the folder in which its relative paths begin; what was on it is not part of the URI."""

_BYTES_LIMIT = 1 << 30
_BOM = b"\xef\xbb\xbf"


def list_uri(source_root: str | None) -> str:
    """The URI of a list whose relative paths begin in a folder; by default the working folder."""
    return LIST_PREFIX + os.path.abspath(os.path.expanduser(source_root or "."))


class ListSource(FolderSource):
    """Files named on a list, in its order; ``item_id`` is the path relative to the root.

    The root is ``--source-root``, else the working folder; paths may be absolute but not lead out
    of it. Every listed file is taken, whatever its suffix. Only a scan reads standard input: items
    that were planned are found again by their ids alone.

    Args:
        uri: ``-``, or the URI that such a source had: then nothing is on standard input.
        modality: What the items are.
        options: ``source_root`` and ``label_from`` apply.

    Raises:
        UsageError: An option that needs a table was given.
        NotFoundError: The root does not exist.
    """

    kind = "list"

    def __init__(self, uri: str, modality: Modality, options: SourceOptions) -> None:
        self._piped = uri == "-"
        root = options.source_root or ("." if self._piped else uri.removeprefix(LIST_PREFIX))
        super().__init__(given_root(root), modality, options)
        self.uri = list_uri(root)
        self._inside = Root(Path(os.fsdecode(self._root)))
        self._content: bytes | None = None
        self._before: list[bytes] | None = None

    def scan(
        self,
        *,
        previous: pa.Table | None = None,
        rehash: bool = False,
        limit: int | None = None,
        progress: Progress = no_progress,
    ) -> Scan:
        """Reads the list and hashes the files that are new or changed.

        Without standard input the files of ``previous`` are looked at again.

        Raises:
            NotFoundError: There is no list, neither on standard input nor from before.
            UsageError: No path on the list lies below the root, or standard input is a terminal.
        """
        if not self._piped:
            if previous is None:
                raise NotFoundError(
                    f"the list of files below {os.fsdecode(self._root)} came on standard input and was not kept.",
                    hint="Pipe the list again, with - as the source.",
                )
            self._before = [walk.unescape(str(locator)) for locator in previous["locator"].to_pylist()]
        return super().scan(previous=previous, rehash=rehash, limit=limit, progress=progress)

    def _given(self, options: SourceOptions) -> list[str]:
        return [name for name in super()._given(options) if name != "source_root"]

    def _list(self) -> walk.Listing:
        found = walk.Listing()
        seen: set[bytes] = set()
        outside: list[bytes] = []
        named = self._paths() if self._before is None else self._before
        twice = 0
        for path in named:
            relative = self._inside.relative(path)
            if relative is None:
                outside.append(path)
                _refuse(found, path, "outside_root", f"the path leads out of {os.fsdecode(self._root)}.")
            elif relative in seen:
                twice += 1
            else:
                seen.add(relative)
                self._look(found, relative)
        if outside and len(outside) == len(named):
            common = os.fsdecode(_common([self._inside.absolute(path) for path in outside]))
            raise UsageError(
                f"none of the {len(named):,} paths on the list lies below {os.fsdecode(self._root)}.",
                hint=f"Say where they lie: --source-root {common}",
            )
        if not found.paths and self._before is None and any(os.path.isfile(path) for path in named):
            raise UsageError(
                f"none of the {len(named):,} paths on the list is a file below {os.fsdecode(self._root)}; "
                "they begin in the working folder.",
                hint="Leave --source-root out, or pipe paths that begin in it.",
            )
        if twice:
            found.warnings.append(f"{twice:,} lines of the list repeat an earlier one")
        return found

    def _look(self, found: walk.Listing, relative: bytes) -> None:
        try:
            stats = os.stat(self._inside.absolute(relative))
        except FileNotFoundError:
            _refuse(found, relative, "not_found", "the list names it, and there is no such file.")
        except OSError as error:
            _refuse(found, relative, "unreadable", f"the file cannot be looked at: {error.strerror or error}.")
        else:
            if stat.S_ISREG(stats.st_mode):
                found.add(relative, stats)
            else:
                _refuse(found, relative, "not_a_file", "it is a folder, pipe, socket or device, not a regular file.")

    def _paths(self) -> list[bytes]:
        """The list: one path a line, or separated by NUL if there is one (find -print0)."""
        if self._content is None:
            self._content = _standard_input()
        content = self._content.removeprefix(_BOM)
        if b"\0" in content:
            return [path for path in content.split(b"\0") if path]
        # A name may end in a carriage return; where every line does, they are line ends.
        lines = [line for line in content.split(b"\n") if line.strip(b"\r")]
        if lines and all(line.endswith(b"\r") for line in lines):
            lines = [line[:-1] for line in lines]
        return lines


def _standard_input() -> bytes:
    stream = getattr(sys.stdin, "buffer", None)
    if stream is None or sys.stdin.isatty():
        raise UsageError(
            "the source is '-', and there is no list on standard input.",
            hint="Pipe one: find photos -name '*.jpg' | featstore extract - --name photos --model …",
        )
    try:
        content: bytes = stream.read(_BYTES_LIMIT + 1)
    except (OSError, ValueError) as error:
        raise StorageError(f"the list on standard input cannot be read: {error}.") from error
    if len(content) > _BYTES_LIMIT:
        raise UsageError(f"the list on standard input is longer than {_BYTES_LIMIT:,} bytes.")
    return content


def _common(paths: list[bytes]) -> bytes:
    folders = [os.path.dirname(os.path.normpath(path)) for path in paths]
    return os.path.commonpath(folders) or b"/"


def _refuse(found: walk.Listing, path: bytes, code: str, message: str) -> None:
    found.rejects.append(
        Reject(item_id=walk.escape(path), content_sha256=None, stage="scan", code=code, message=message)
    )
