"""From samples of tars to items: one piece for each tar, and all pieces as one table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from featstore.errors import ItemError, UsageError
from featstore.records import Reject
from featstore.sources import walk
from featstore.sources.items import RESERVED, SourceOptions
from featstore.sources.samples import Index, Sample
from featstore.sources.values import from_json, joined, moment, typed

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["ITEM_COLUMNS", "Combined", "Piece", "build", "combine"]

ITEM_COLUMNS = ("item_id", "content_sha256", "locator", "size", "mtime_ns", "inode")
"""The columns that every source's items begin with."""

_COLUMNS_LIMIT = 1000


@dataclass(slots=True)
class Piece:
    """The items of one tar.

    Attributes:
        rows: The fixed columns and, under ``--time-column``, event_ts; of a tar that was not read again all columns.
        own: ``key``, ``label`` or ``cls``, ``group``: what featstore makes of names and ``.cls`` members.
        metadata: What ``.json`` members say, under their own names.
        several: Whether a sample has several contents, so that groups are needed.
        reused: Taken from the last scan.
    """

    rows: pa.Table
    own: dict[str, pa.Array[Any]] = field(default_factory=dict)
    metadata: dict[str, pa.Array[Any]] = field(default_factory=dict)
    several: bool = False
    reused: bool = False


@dataclass(slots=True)
class Combined:
    """All items, and what is to be said and remembered of their columns.

    Attributes:
        items: The items.
        names: JSON names → columns, where they differ.
        uniform: Whether each column had one type in all tars; if not, one tar alone cannot be read anew.
    """

    items: pa.Table
    names: dict[str, str]
    uniform: bool


def build(found: Index, stem: bytes, locator: str, marks: tuple[int, int], options: SourceOptions) -> Piece:
    """Makes the items of one tar's samples; a sample whose time cannot be read becomes one of ``found.rejects``.

    Args:
        found: The samples.
        stem: What ids begin with: the tar's path without ``.tar``.
        locator: What locators begin with: the tar's path.
        marks: The tar's mtime_ns and inode.
        options: Which JSON values are the label, group, split and time.
    """
    import pyarrow as pa

    rows: list[tuple[str, str, str, int, int, int]] = []
    samples: list[Sample] = []
    times: list[Any] = []
    for sample in found.samples:
        time = None
        whole = stem + b"/" + sample.key
        if options.time_column is not None:
            time = moment(sample.metadata.get(options.time_column), options.time_column)
        if isinstance(time, ItemError):
            found.rejects.append(
                Reject(
                    item_id=walk.escape(whole),
                    content_sha256=None,
                    stage=time.stage,
                    code=time.code,
                    message=time.message,
                )
            )
            continue
        for content in sample.contents:
            name = whole if len(sample.contents) == 1 else whole + b"." + content.suffix.encode()
            place = f"{locator}:{content.offset}:{content.size}"
            rows.append((walk.escape(name), content.sha256, place, content.size, *marks))
            samples.append(sample)
            times.append(time)
    types = [pa.string()] * 3 + [pa.int64()] * 3
    columns = zip(*rows, strict=True) if rows else [()] * 6
    table = pa.table(
        {name: pa.array(column, kind) for name, column, kind in zip(ITEM_COLUMNS, columns, types, strict=True)}
    )
    if options.time_column is not None:
        table = table.append_column("event_ts", pa.array(times, pa.timestamp("us", "UTC")))
    return Piece(
        rows=table,
        own=_own(samples, stem, options),
        metadata=_metadata(samples, options),
        several=any(len(sample.contents) > 1 for sample in samples),
    )


def combine(pieces: Sequence[Piece], options: SourceOptions, before: dict[str, str] | None) -> Combined | None:
    """Puts pieces together.

    Args:
        pieces: In the source's order.
        options: Which JSON values are the label, group and split.
        before: Where pieces are reused, the column types of the last scan.

    Returns:
        None where the reused pieces do not fit the new ones: then all tars are to be read.

    Raises:
        UsageError: The JSON members have too many different names.
    """
    import pyarrow as pa

    several = any(piece.several for piece in pieces)
    if before is not None and options.group_column is None and ("group" in before) != several:
        return None
    own = {name for piece in pieces for name in piece.own}
    if not several or options.group_column is not None:
        own.discard("group")
    given = {options.label_column: "label", options.group_column: "group", options.split_column: "split"}
    given = {name: target for name, target in given.items() if name is not None}
    names = {name for piece in pieces for name in piece.metadata}
    targets = _targets(names - set(given), own | set(given.values()))
    renamed = {name: target for name, target in targets.items() if name != target}
    targets |= {name: target for name, target in given.items() if name in names}
    if len(targets) > _COLUMNS_LIMIT:
        raise UsageError(
            f"the .json members have {len(targets):,} different names; at most {_COLUMNS_LIMIT:,} columns are made.",
            hint="Put what differs from sample to sample under one name, as a nested object.",
        )
    if before is not None and (renamed or _differs(pieces, own, targets, before)):
        return None

    table = pa.concat_tables([piece.rows.select(_fixed(piece.rows)) for piece in pieces])
    uniform = True
    wanted = {**{name: name for name in own}, **targets}
    if before is not None:
        wanted |= {name: name for name in before if name not in wanted.values()}
    for name, target in sorted(wanted.items(), key=lambda pair: pair[1]):
        parts = [_column(piece, name, target) for piece in pieces]
        uniform &= len({part.type for part in parts if not pa.types.is_null(part.type)}) < 2
        column = joined(parts)
        if column.null_count < len(column):
            table = table.append_column(target, column)
    return Combined(table, renamed, uniform)


def _own(samples: list[Sample], stem: bytes, options: SourceOptions) -> dict[str, pa.Array[Any]]:
    import pyarrow as pa

    found: dict[str, pa.Array[Any]] = {"key": pa.array([walk.escape(s.key) for s in samples], pa.string())}
    # Always made: other tars may have samples of several contents though this one has none.
    found["group"] = pa.array([walk.escape(stem + b"/" + s.key) for s in samples], pa.string())
    name = "label" if options.label_column is None and options.label_from is None else "cls"
    labels = pa.array([s.label for s in samples], pa.string())
    if labels.null_count < len(labels):
        found[name] = pa.concat_arrays(typed(pa.chunked_array([labels])).chunks)
    if options.label_from is not None and options.label_column is None:
        folders = [s.key.rpartition(b"/")[0].rpartition(b"/")[2] for s in samples]
        found["label"] = pa.array([walk.escape(folder) or None for folder in folders], pa.string())
    return found


def _metadata(samples: list[Sample], options: SourceOptions) -> dict[str, pa.Array[Any]]:
    names = dict.fromkeys(name for sample in samples for name in sample.metadata)
    used = {options.time_column} - {options.label_column, options.group_column, options.split_column}
    return {name: from_json([s.metadata.get(name) for s in samples]) for name in names if name not in used}


def _targets(names: set[str], own: set[str]) -> dict[str, str]:
    """What each name from JSON is called as a column; a name that is taken, but for its case, gets ``_`` appended."""
    taken = {name.casefold() for name in (*own, *RESERVED)}
    found = {}
    for name in sorted(names):
        target = name.replace("\0", "") or "unnamed"
        while target.casefold() in taken:
            target += "_"
        taken.add(target.casefold())
        found[name] = target
    return found


def _differs(pieces: Sequence[Piece], own: set[str], targets: dict[str, str], before: dict[str, str]) -> bool:
    """Whether what was read now has other columns than the last scan's, or columns of other types."""
    import pyarrow as pa

    # A name met now may be taken, but for its case, by a column of the last scan.
    if len({name.casefold() for name in {*own, *targets.values(), *before}}) < len({*own, *targets.values(), *before}):
        return True
    for piece in pieces:
        for name, column in (*piece.own.items(), *piece.metadata.items()):
            target = name if name in piece.own else targets[name]
            if target in own | set(targets.values()) and not pa.types.is_null(column.type):
                if target not in before and name in piece.own:
                    return True
                if target in before and before[target] != str(column.type):
                    return True
    return False


def _column(piece: Piece, name: str, target: str) -> pa.Array[Any]:
    import pyarrow as pa

    if piece.reused:
        found = piece.rows[target].combine_chunks() if target in piece.rows.column_names else None
    else:
        found = piece.own.get(name, piece.metadata.get(name))
    if found is None or found.null_count == len(found):
        return pa.nulls(piece.rows.num_rows)
    return found


def _fixed(rows: pa.Table) -> list[str]:
    return [*ITEM_COLUMNS, *(name for name in ("event_ts",) if name in rows.column_names)]
