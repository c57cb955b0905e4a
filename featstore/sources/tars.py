"""WebDataset tars: every picture or text in them is an item. Streamed once, never extracted."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from featstore.errors import ItemError, UsageError
from featstore.records import Modality, Reject
from featstore.sources import columns, files, pieces, samples, walk
from featstore.sources.folder import IMAGE_SUFFIXES, TEXT_SUFFIXES
from featstore.sources.items import Progress, Reader, Scan, SourceOptions, no_progress
from featstore.sources.remembering import recall, remember
from featstore.sources.shards import Shards
from featstore.storage import hashing

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["TarSource"]

_THREADS = min(4, os.cpu_count() or 1)
# More refusals than these are found again by reading the tar again.
_REJECTS_KEPT = 1000

_ALLOWED = ("label_from", "label_column", "group_column", "split_column", "time_column")


class TarSource:
    """Samples of WebDataset tars.

    ``item_id`` is ``TAR/KEY``: the tar's path below the source without ``.tar``, and the part of
    the members' path before the name's first dot. A sample of several pictures becomes the items
    ``TAR/KEY.SUFFIX``; then ``group`` is ``TAR/KEY``. The names in ``.json`` members become
    columns, ``.cls`` members the label. A tar whose size, time and inode are unchanged is not read.

    Args:
        uri: What the user named.
        shards: The tars it stands for.
        modality: Which members are contents: pictures, or ``.txt`` and ``.md``.
        options: ``label_from`` (the folder within the tar), or names in the ``.json`` members.

    Raises:
        UsageError: An option does not fit.
    """

    kind = "tar"

    def __init__(self, uri: Path, shards: Shards, modality: Modality, options: SourceOptions) -> None:
        given = [name for name in SourceOptions.__dataclass_fields__ if name not in _ALLOWED and getattr(options, name)]
        if given:
            flags = ", ".join("--" + name.removesuffix("s").replace("_", "-") for name in given)
            raise UsageError(
                f"{uri} is made of tars; {flags} needs a table or a list.",
                hint="Leave the option out: an item's id and content come from the names in the tars.",
            )
        self.uri = str(uri)
        self.modality = modality
        self._shards = shards
        self._options = options
        suffixes = IMAGE_SUFFIXES if modality == "image" else TEXT_SUFFIXES
        self._suffixes = frozenset(suffix.encode() for suffix in suffixes)

    def scan(
        self,
        *,
        previous: pa.Table | None = None,
        rehash: bool = False,
        limit: int | None = None,
        progress: Progress = no_progress,
    ) -> Scan:
        """Lists the samples of new and changed tars and hashes their contents.

        Raises:
            UsageError: The only tar is none, or the ``.json`` members have too many names.
            SettingsError: A named column is in no ``.json`` member.
        """
        previous = None if rehash else previous
        found = _Scan(self._shards, self._suffixes, self._options, previous, limit, progress)
        return found.run(recall(previous)) or found.run(None) or Scan(items=_nothing())

    def reader(self, items: pa.Table) -> Reader:
        """Opens the contents of some members."""
        return _MemberReader(self._shards.root, items)


class _Scan:
    def __init__(
        self,
        shards: Shards,
        suffixes: frozenset[bytes],
        options: SourceOptions,
        previous: pa.Table | None,
        limit: int | None,
        progress: Progress,
    ) -> None:
        self._shards = shards
        self._suffixes = suffixes
        self._options = options
        self._previous = previous
        self._limit = limit
        self._progress = progress
        self._digests: dict[tuple[str, int, int], dict[tuple[int, int], str]] | None = None

    def run(self, notes: dict[str, Any] | None) -> Scan | None:
        """Scans all tars; those that ``notes`` say are unchanged are not opened.

        Returns:
            None where the metadata of unchanged tars cannot be joined with what is new.
        """
        found: list[pieces.Piece] = []
        kept: dict[str, Any] = {}
        rejects, ignored = list(self._shards.rejects), Counter(self._shards.ignored)
        warnings: list[str] = []
        unreachable = list(self._shards.unreachable)
        before = notes["types"] if notes and notes["uniform"] else None
        count = 0
        for shard, marks, result in self._pieces(notes if before is not None else None):
            name = walk.escape(shard)
            stem = shard[: -len(b".tar")]
            if isinstance(result, samples.Index):
                piece = pieces.build(result, stem, name, marks[1:], self._options)
                note = _note(result, marks, piece)
                if not result.whole:
                    unreachable += walk.beginnings(stem + b"/")
            else:
                piece, note = result
            found.append(piece)
            kept[name] = note
            rejects += [Reject(**reject) for reject in note["rejects"]]
            ignored.update(note["ignored"])
            warnings += [f"{name} {warning}" for warning in note["warnings"]]
            count += piece.rows.num_rows
            self._progress("read", count, None)
            if self._limit is not None and count >= self._limit:
                break
        self._check_only(count, rejects, unreachable)
        reused = any(piece.reused for piece in found)
        combined = pieces.combine(found, self._options, before if reused else None) if found else None
        if combined is None:
            return None
        items = combined.items
        if not reused:
            self._check_named({name for piece in found for name in piece.metadata}, items.num_rows)
        items, twice = _distinct(items)
        items = items.slice(0, self._limit)
        for old, new in combined.names.items():
            warnings.append(f"the name '{old}' in .json members is kept as '{new}', since '{old}' is taken")
        if not twice and self._limit is None:
            types = {f.name: str(f.type) for f in items.schema if f.name not in pieces.ITEM_COLUMNS}
            types.pop("event_ts", None)
            uniform = combined.uniform and not combined.names
            items = remember(items, {"tars": kept, "types": types, "uniform": uniform})
        return Scan(
            items=items,
            rejects=(*rejects, *twice),
            ignored=dict(ignored),
            warnings=tuple(warnings),
            unreachable=tuple(unreachable),
        )

    def _pieces(
        self, notes: dict[str, Any] | None
    ) -> Iterator[tuple[bytes, tuple[int, int, int], samples.Index | tuple[pieces.Piece, dict[str, Any]]]]:
        """Each tar with its size, mtime_ns and inode, and either what was read of it or what is known."""
        known = _places(notes)
        ahead = _THREADS if self._limit is None else 1
        with ThreadPoolExecutor(_THREADS, thread_name_prefix="featstore-tar") as pool:
            waiting: list[Any] = []
            for shard in self._shards.paths:
                marks = self._marks(shard)
                start, note = known.get(walk.escape(shard), (0, None))
                if note is not None and self._previous is not None and note["marks"] == list(marks):
                    rows = self._previous.slice(start, note["items"])
                    piece = pieces.Piece(rows=rows, several=note["several"], reused=True)
                    for name in note["own"]:
                        piece.own[name] = _column_of(rows, name)
                    waiting.append((shard, marks, (piece, note)))
                else:
                    waiting.append((shard, marks, pool.submit(self._index, shard, marks)))
                if len(waiting) > ahead:
                    yield _done(waiting.pop(0))
            for last in waiting:
                yield _done(last)

    def _marks(self, shard: bytes) -> tuple[int, int, int]:
        try:
            stats = os.stat(os.path.join(self._shards.root, shard))
        except OSError:
            return (-1, -1, -1)  # opening it will say why
        return (stats.st_size, stats.st_mtime_ns, files.signed(stats.st_ino))

    def _index(self, shard: bytes, marks: tuple[int, int, int]) -> samples.Index:
        path = os.path.join(self._shards.root, shard)
        stem = shard[: -len(b".tar")]
        try:
            return samples.index(path, stem, self._suffixes, known=self._known(shard, marks), limit=self._limit)
        except (OSError, ItemError) as error:
            reason = files.failed(error) if isinstance(error, OSError) else error
            reject = Reject(
                item_id=walk.escape(shard),
                content_sha256=None,
                stage=reason.stage,
                code=reason.code,
                message=reason.message,
            )
            return samples.Index(rejects=[reject], whole=False)

    def _known(self, shard: bytes, marks: tuple[int, int, int]) -> Mapping[tuple[int, int], str]:
        """Digests of the members of a tar that is read again though it is as it was."""
        if self._previous is None:
            return {}
        if self._digests is None:
            digests: dict[tuple[str, int, int], dict[tuple[int, int], str]] = {}
            names = ("locator", "mtime_ns", "inode", "content_sha256")
            for locator, mtime, inode, digest in zip(*(self._previous[n].to_pylist() for n in names), strict=True):
                name, offset, size = str(locator).rsplit(":", 2)
                digests.setdefault((name, mtime, inode), {})[int(offset), int(size)] = digest
            self._digests = digests
        return self._digests.get((walk.escape(shard), *marks[1:]), {})

    def _check_only(self, count: int, rejects: list[Reject], unreachable: list[str]) -> None:
        if len(self._shards.paths) == 1 and unreachable and not count:
            for reject in rejects:
                if reject.code in ("bad_tar", "truncated_tar"):
                    raise UsageError(
                        f"{os.fsdecode(os.path.join(self._shards.root, self._shards.paths[0]))} "
                        f"cannot be read as a tar: {reject.message}",
                        hint="Is the file complete? Was it copied in full?",
                    )

    def _check_named(self, names: set[str], items: int) -> None:
        """Names that no sample has are typing errors; without any sample nothing is known."""
        options = self._options
        named = {"--label-column": options.label_column, "--group-column": options.group_column}
        named["--split-column"] = options.split_column
        for flag, name in named.items():
            if name is not None and name not in names and items:
                columns.check(flag, name, sorted(names), "the .json members")


class _MemberReader:
    """Reads members again by their places; what comes out must have the planned hash."""

    def __init__(self, root: bytes, items: pa.Table) -> None:
        self._root = root
        self._locators = [str(locator) for locator in items["locator"].to_pylist()]
        self._hashes = items["content_sha256"].to_pylist()

    def read(self, row: int) -> bytes:
        """Content of the row-th item."""
        name, offset, size = self._locators[row].rsplit(":", 2)
        try:
            descriptor, _ = files.open_regular(os.path.join(self._root, walk.unescape(name)))
            try:
                content = files.read_range(descriptor, int(offset), int(size))
            finally:
                os.close(descriptor)
        except OSError as error:
            raise files.failed(error) from error
        if hashing.of_bytes(content) != self._hashes[row]:
            raise ItemError("read", "changed_during_run", "the tar's content changed after it was listed.")
        return content


def _note(found: samples.Index, marks: tuple[int, int, int], piece: pieces.Piece) -> dict[str, Any]:
    """What the next scan needs to know of a tar that has not changed by then."""
    certain = found.whole and len(found.rejects) <= _REJECTS_KEPT
    fields = ("item_id", "content_sha256", "stage", "code", "message")
    return {
        "marks": list(marks) if certain else None,
        "items": piece.rows.num_rows,
        "several": piece.several,
        "own": sorted(piece.own),
        "rejects": [{name: getattr(reject, name) for name in fields} for reject in found.rejects],
        "ignored": dict(found.ignored),
        "warnings": list(found.warnings),
    }


def _places(notes: dict[str, Any] | None) -> dict[str, tuple[int, dict[str, Any]]]:
    """Where each tar's items begin in the last scan, and what was noted of it."""
    found, start = {}, 0
    for name, note in (notes or {}).get("tars", {}).items():
        found[name] = (start, note)
        start += note["items"]
    return found


def _done(waiting: tuple[Any, Any, Any]) -> tuple[Any, Any, Any]:
    shard, marks, result = waiting
    return shard, marks, result.result() if hasattr(result, "result") else result


def _column_of(rows: pa.Table, name: str) -> pa.Array[Any]:
    import pyarrow as pa

    return rows[name].combine_chunks() if name in rows.column_names else pa.nulls(rows.num_rows)


def _distinct(items: pa.Table) -> tuple[pa.Table, list[Reject]]:
    """Takes out items whose id came before: a.tar with b/c, and a/b.tar with c."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if pc.count_distinct(items["item_id"]).as_py() == items.num_rows:
        return items, []
    seen: set[str] = set()
    first, twice = [], []
    for item_id in items["item_id"].to_pylist():
        first.append(item_id not in seen)
        if item_id in seen:
            twice.append(
                Reject(
                    item_id=str(item_id),
                    content_sha256=None,
                    stage="scan",
                    code="duplicate_id",
                    message="an earlier tar has an item of the same id.",
                )
            )
        seen.add(str(item_id))
    return items.filter(pa.array(first)), twice


def _nothing() -> pa.Table:
    import pyarrow as pa

    texts: list[pa.Field[Any]] = [pa.field(name, pa.string()) for name in pieces.ITEM_COLUMNS[:3]]
    return pa.schema([*texts, *(pa.field(name, pa.int64()) for name in pieces.ITEM_COLUMNS[3:])]).empty_table()
