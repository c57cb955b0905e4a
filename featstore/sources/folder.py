"""A folder of files: every file of the wanted kind below it is an item."""

from __future__ import annotations

import os
import unicodedata
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from featstore.errors import ItemError, NotFoundError, StorageError, UsageError
from featstore.records import Modality, Reject
from featstore.sources import files, walk
from featstore.sources.items import Progress, Reader, Scan, SourceOptions, no_progress

if TYPE_CHECKING:
    import pyarrow as pa
    from numpy.typing import NDArray

__all__ = ["IMAGE_SUFFIXES", "TEXT_SUFFIXES", "FolderSource"]

IMAGE_SUFFIXES = frozenset({"jpg", "jpeg", "jpe", "jfif", "png", "webp", "gif", "bmp", "tif", "tiff"})
TEXT_SUFFIXES = frozenset({"txt", "md"})

_PROGRESS_EVERY = 500


class FolderSource:
    """Files below a folder; ``item_id`` is the path relative to it.

    Args:
        root: The folder.
        modality: Which suffixes count.
        options: Only ``label_from`` applies.

    Raises:
        UsageError: An option that needs a table was given.
    """

    kind = "folder"

    def __init__(self, root: Path, modality: Modality, options: SourceOptions) -> None:
        given = self._given(options)
        if given:
            flags = ", ".join("--" + name.removesuffix("s").replace("_", "-") for name in given)
            needs = "needs" if len(given) == 1 else "need"
            raise UsageError(
                f"{root} is a folder; {flags} {needs} a table (CSV, JSONL, Parquet or Arrow)."
                if given != ["source_root"]
                else f"{root} is a folder; {flags} needs a table whose column names files, or a list of files.",
                hint="Leave the option out, or name a table file as the source.",
            )
        self.uri = str(root)
        self.modality = modality
        self._root = os.fsencode(root)
        self._label = options.label_from == "folder"
        self._suffixes = IMAGE_SUFFIXES if modality == "image" else TEXT_SUFFIXES

    def scan(
        self,
        *,
        previous: pa.Table | None = None,
        rehash: bool = False,
        limit: int | None = None,
        progress: Progress = no_progress,
    ) -> Scan:
        """Lists the files and hashes those that are new or changed.

        Raises:
            NotFoundError: The folder does not exist.
            StorageError: It cannot be listed.
        """
        listing = self._list()
        paths, marks = listing.paths[:limit], listing.marks()[:limit]
        progress("list", len(paths), len(paths))
        ids = [walk.escape(path) for path in paths]
        hashes: NDArray[np.object_] = np.full(len(ids), None, dtype=object)
        if previous is not None and not rehash:
            files.reuse(previous, ids, marks, hashes)
        rejects = list(listing.rejects)
        new = np.flatnonzero(hashes == None).tolist()  # noqa: E711 - elementwise
        prefix = os.path.join(self._root, b"")
        refused: set[int] = set()
        for done, (row, result) in enumerate(
            zip(new, files.hash_files([prefix + paths[row] for row in new]), strict=True)
        ):
            if isinstance(result, ItemError):
                rejects.append(_reject(ids[row], result))
                refused.add(row)
            else:
                hashes[row] = result.sha256
                marks[row] = (result.size, result.mtime_ns, result.inode)
            if done % _PROGRESS_EVERY == 0:
                progress("hash", done, len(new))
        if new:
            progress("hash", len(new), len(new))
        return Scan(
            items=self._table(ids, paths, hashes, marks, refused),
            rejects=tuple(rejects),
            ignored=dict(listing.ignored),
            warnings=(*listing.warnings, *_twins(ids)),
            unreachable=tuple(listing.unreachable),
        )

    def reader(self, items: pa.Table) -> Reader:
        """Opens some of the files."""
        columns = (items[name].to_pylist() for name in ("content_sha256", "size", "mtime_ns", "inode"))
        prefix = os.path.join(self._root, b"")
        return files.FileReader(
            [prefix + walk.unescape(str(locator)) for locator in items["locator"].to_pylist()],
            [files.Hashed(*row) for row in zip(*columns, strict=True)],
        )

    def _given(self, options: SourceOptions) -> list[str]:
        """Options that do not apply, and were given."""
        return [name for name in SourceOptions.__dataclass_fields__ if name != "label_from" and getattr(options, name)]

    def _list(self) -> walk.Listing:
        try:
            found = walk.list_folder(self._root, frozenset(suffix.encode() for suffix in self._suffixes))
        except (FileNotFoundError, NotADirectoryError) as error:
            raise NotFoundError(
                f"the folder {self.uri} does not exist.", hint="Check the path; is the disk or share mounted?"
            ) from error
        except OSError as error:
            raise StorageError(f"cannot list the folder {self.uri}: {error.strerror or error}.") from error
        if found.ignored[".tar"]:
            found.warnings.append(
                f"{found.ignored['.tar']:,} tars are ignored, since there are {self.modality} files beside them; "
                "a folder that holds only tars is read as WebDataset shards"
            )
        return found

    def _table(
        self,
        ids: list[str],
        paths: list[bytes],
        hashes: NDArray[np.object_],
        marks: NDArray[np.int64],
        refused: set[int],
    ) -> pa.Table:
        import pyarrow as pa

        names = pa.array(ids, pa.string())
        columns: dict[str, Any] = {
            "item_id": names,
            "content_sha256": pa.array(hashes, pa.string()),
            "locator": names,
            "size": pa.array(marks[:, 0]),
            "mtime_ns": pa.array(marks[:, 1]),
            "inode": pa.array(marks[:, 2]),
        }
        if self._label:
            columns["label"] = pa.array([_parent_name(path) for path in paths], pa.string())
        table = pa.table(columns)
        if refused:
            table = table.filter(pa.array([row not in refused for row in range(len(ids))]))
        return table


def _reject(item_id: str, error: ItemError) -> Reject:
    return Reject(item_id=item_id, content_sha256=None, stage=error.stage, code=error.code, message=error.message)


def _parent_name(path: bytes) -> str | None:
    parent = path.rpartition(b"/")[0].rpartition(b"/")[2]
    return walk.escape(parent) if parent else None


def _twins(ids: list[str]) -> list[str]:
    """Names that differ only in how Unicode composes them: usually one file copied between systems."""
    groups: defaultdict[str, list[str]] = defaultdict(list)
    for item_id in ids:
        if not item_id.isascii():
            groups[unicodedata.normalize("NFC", item_id)].append(item_id)
    twins = sorted(name for name, group in groups.items() if len(group) > 1)
    if not twins:
        return []
    more = f" and {len(twins) - 3} more" if len(twins) > 3 else ""
    names = ", ".join(repr(name) for name in twins[:3])
    return [f"names that differ only in Unicode composition (NFC/NFD) are kept as separate items: {names}{more}"]
