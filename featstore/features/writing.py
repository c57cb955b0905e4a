"""Features of several tables in one file: a row for each id, the columns of each address beside the others."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast, get_args

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from featstore.errors import NotFoundError, UsageError
from featstore.features import asking, files
from featstore.features.reading import columns_of
from featstore.models import load_card
from featstore.records import FeatureExport, FeatureOrigin
from featstore.storage import durable, frames, hashing
from featstore.tables.past import moment
from featstore.tables.timeline import Answers, Timeline

if TYPE_CHECKING:
    from featstore.extract.progress import Reporter
    from featstore.layout import Layout

__all__ = ["export"]

_Format = Literal["parquet", "csv", "npz"]

_BLOCK_BYTES = 32 << 20


@dataclass(frozen=True)
class _Side:
    """One address: what is wanted of it, and where each id's row lies."""

    asked: asking.Asked
    timeline: Timeline
    answers: Answers

    def columns(self, start: int, stop: int) -> dict[str, pa.Array[Any]]:
        rows, reasons = self.answers.rows[start:stop], self.answers.reasons[start:stop]
        return columns_of(self.asked, self.timeline, Answers(rows, reasons))


def export(
    layout: Layout,
    features: Sequence[str],
    output: str | os.PathLike[str],
    *,
    ids: Sequence[str] | None = None,
    as_of: str | datetime | None = None,
    format: str | None = None,
    reporter: Reporter | None = None,
) -> FeatureExport:
    """Writes the features of some items into one file, a block at a time.

    Args:
        layout: The store.
        features: As in ``get_features``.
        output: The file; replaced if it is there.
        ids: The items, in the file's order; by default those of the first address's table, in its order.
        as_of: Take what counted then, as ``get_features`` does for that time.
        format: ``parquet``, ``csv`` or ``npz``; by default the file's suffix.
        reporter: Told of progress.

    Raises:
        UsageError: A feature, the format, the place or the time cannot be used.
        NotFoundError: There is no such table, version or column.
        IntegrityError: A file of a table or its history is damaged; nothing is written then.
        StorageError: The disk refused.
    """
    started = time.monotonic()
    target = Path(os.path.abspath(os.path.expanduser(output)))
    kind = _format(target, format)
    _check_place(target, layout)
    when = None if as_of is None else moment(as_of)
    wanted = asking.asked(layout, features, taken=["item_id"])
    lines = [Timeline.of(layout, one.table) for one in wanted]
    named = list(dict.fromkeys(ids)) if ids is not None else _everything(lines[0], when)
    if not named:
        raise NotFoundError("there is no item to write.", hint="Name some with --ids.")
    asked_at = None if when is None else np.full(len(named), Timeline.micros(when), np.int64)
    sides = [_Side(one, line, line.at(named, asked_at)) for one, line in zip(wanted, lines, strict=True)]
    origins = tuple(_origin(layout, side) for side in sides)
    told = None if when is None else when.isoformat().replace("+00:00", "Z")
    step = max(1, _BLOCK_BYTES // (4 * sum(line.table.dim for line in lines)))
    if reporter is not None:
        reporter.stage("writing", len(named))

    def block(start: int) -> pa.Table:
        stop = min(len(named), start + step)
        columns: dict[str, Any] = {"item_id": pa.array(named[start:stop], pa.string())}
        for side in sides:
            columns |= side.columns(start, stop)
        if reporter is not None:
            reporter.advance(stop - start)
        return pa.table(columns)

    blocks = (block(start) for start in range(0, len(named), step))
    with durable.replacing(target) as file:
        try:
            _WRITERS[kind](file, blocks, len(named), {"as_of": told, "tables": origins})
        except (pa.ArrowException, ValueError) as error:
            raise UsageError(f"the features cannot be written as {kind}: {error}.", hint="Try Parquet.") from error
    return FeatureExport(
        path=str(target),
        format=kind,
        rows=len(named),
        bytes=target.stat().st_size,
        sha256=hashing.of_file(target),
        as_of=told,
        tables=origins,
        seconds=time.monotonic() - started,
    )


_WRITERS: dict[_Format, Callable[..., None]] = {"parquet": files.parquet, "csv": files.delimited, "npz": files.arrays}


def _format(target: Path, given: str | None) -> _Format:
    known = get_args(_Format)
    wanted = target.suffix.removeprefix(".").lower() if given is None else given
    if wanted not in known:
        raise UsageError(
            f"features of several tables cannot be written as '{wanted}'.", hint=f"There are {', '.join(known)}."
        )
    return cast("_Format", wanted)


def _check_place(target: Path, layout: Layout) -> None:
    if target.is_dir():
        raise UsageError(f"{target} is a folder; name a file.")
    if Path(os.path.realpath(target)).is_relative_to(os.path.realpath(layout.storage.root)):
        raise UsageError(f"{target} lies within the store; write the file somewhere else.")


def _everything(line: Timeline, when: datetime | None) -> list[str]:
    """The items of a table, at a time if one is given."""
    found = frames.strings(line.table.rows(["item_id"]), "item_id")
    if when is None:
        return found
    if line.kept is not None:
        found += frames.strings(line.kept.rows(["item_id"]), "item_id")
    found = list(dict.fromkeys(found))
    there: NDArray[np.bool_] = line.at(found, np.full(len(found), Timeline.micros(when), np.int64)).rows >= 0
    return [item for item, counted in zip(found, there.tolist(), strict=True) if counted]


def _origin(layout: Layout, side: _Side) -> FeatureOrigin:
    table, record = side.asked.table, side.timeline.record
    card = load_card(layout, table.space_id)
    reasons = side.answers.reasons.drop_nulls().value_counts(sort=True)
    return FeatureOrigin(
        address=side.asked.address,
        table=table.name,
        space_id=table.space_id,
        version=table.version or 0,
        digest=card.digest,
        model=card.model,
        licence=card.weights.licence,
        dim=table.dim,
        columns=side.asked.names,
        history_ts=None if record is None else record.since_ts,
        missing=int((side.answers.rows < 0).sum()),
        reasons={str(reason): int(count) for reason, count in reasons.iter_rows()},
    )
