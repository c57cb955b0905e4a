"""One prediction: take, predict, write, block by block."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from featstore.errors import TooManyRejectsError, UsageError
from featstore.extract import extract, opening
from featstore.extract.progress import Reporter
from featstore.heads.opening import open_head
from featstore.predicting import files, items, tables
from featstore.predicting.blocks import Block, Taken
from featstore.predicting.columns import Columns
from featstore.records import ExtractResult, HeadCard, HeadPrediction, SettingValue
from featstore.settings import ExtractSettings, resolve
from featstore.storage import Storage

if TYPE_CHECKING:
    import polars as pl

    from featstore.layout import Layout
    from featstore.records import ModelCard

__all__ = ["Predictions", "predict"]

# As for an extract: so many rejects are no reason to fail.
_REJECT_ITEMS = 10

_REFUSED = "rejected"
_NAMED = 5


@dataclass(frozen=True)
class Predictions:
    """What a head said of some items.

    Attributes:
        summary: What was done.
        rows: The predictions in the items' order; None where they went into a file.
    """

    summary: HeadPrediction
    rows: pa.Table | None = field(repr=False)

    def to_polars(self) -> pl.DataFrame:
        """The predictions as a Polars frame.

        Raises:
            UsageError: They went into a file.
        """
        import polars as pl

        if self.rows is None:
            raise UsageError(f"the predictions are in {self.summary.path}.", hint="Read that file.")
        found = pl.from_arrow(self.rows)
        assert isinstance(found, pl.DataFrame)
        return found


def predict(
    layout: Layout,
    head: str,
    source: str | os.PathLike[str] | None = None,
    *,
    table: str | None = None,
    top_k: int = 3,
    coverage: float | None = None,
    into: str | None = None,
    where: str | None = None,
    limit: int | None = None,
    output: str | os.PathLike[str] | BinaryIO | None = None,
    format: str | None = None,
    keep: int | None = None,
    reading: Mapping[str, object] | None = None,
    reporter: Reporter | None = None,
) -> Predictions:
    """Predicts on a table's items, or on new ones that go through the model of the head's space.

    Args:
        layout: The store.
        head: ``HEAD[:VERSION]``.
        source: New items; they are not stored.
        table: A table's address, instead of a source.
        top_k: How many of the likeliest classes to name.
        coverage: The share of items whose set of classes shall hold the true one; 0.9 by default.
        into: Extract the source into this table first, and predict on that.
        where: Only items for whose columns this Polars SQL expression holds.
        limit: Only the first so many.
        output: A file, or a stream; without one the predictions are in the result.
        format: ``parquet``, ``csv`` or ``jsonl``; by default the file's suffix.
        keep: Without a file: keep only the first so many predictions in the result.
        reading: Fields of ``ExtractSettings``: how the source is read, device, threads.
        reporter: Told of progress.

    Raises:
        NotFoundError: There is no such head, table, source, model or column.
        SpaceMismatchError: The table is of another space than the head.
        UsageError: An option, the expression or the place cannot be used.
        TooManyRejectsError: The others were predicted; its ``context["predictions"]`` are they.
        IntegrityError: The head, the model or a file of the table is damaged.
    """
    started = time.monotonic()
    reporter = reporter or Reporter()
    if (source is None) == (table is None):
        raise UsageError("predict takes a SOURCE or --table NAME, one of the two.")
    if limit is not None and limit < 1:
        raise UsageError(f"--limit is {limit}; it is at least 1.")
    if source is None and (into is not None or reading):
        raise UsageError(f"--{'into' if into else min(reading or ()).replace('_', '-')} needs a SOURCE, not a table.")
    card, opened = open_head(layout, head)
    columns = Columns(card, opened, top_k=top_k, coverage=coverage)
    target = output if output is None or hasattr(output, "write") else files.place(output, layout)
    if source is not None and isinstance(target, Path) and _same(source, target):
        raise UsageError(f"{target} is the source; the predictions would take its place.", hint="Name another file.")
    kind = files.format_of(target if isinstance(target, Path) else None, format)
    if target is not None and kind is None:
        raise UsageError("nothing says how to write the predictions.", hint="Add --format csv or --format jsonl.")
    if kind == "parquet" and target is not None and not isinstance(target, Path):
        raise UsageError("Parquet is written into a file.", hint="Name one: -o FILE.parquet")
    allowed = 0.01
    made: ExtractResult | None = None
    too_many: TooManyRejectsError | None = None
    if source is not None:
        model = items.open_model(layout, card)
        given = {"source": os.fspath(source), "model": model.space_id, "name": into, **(reading or {})}
        settings, origins = resolve(ExtractSettings, {**given, "limit": limit if into else None})
        allowed = settings.max_reject_share
        if into is None:
            taken = items.from_source(layout, card, model, settings, expression=where, limit=limit, reporter=reporter)
        else:
            made, too_many = _stored(layout, card, model, settings, origins.origins, reporter)
            table = f"{made.table}@{made.space_id}"
    if table is not None:
        taken = tables.from_table(layout, tables.open_table(layout, card, table), where=where, limit=limit)
    run = _Run(card, columns, taken, reporter, new=source is not None and into is None)
    kept = run.go(target, kind, keep)  # type: ignore[arg-type]
    summary = HeadPrediction(
        head=card.head,
        version=card.version,
        space_id=card.space_id,
        task=card.task,
        source=taken.name,
        items=run.items,
        stored=max(0, run.stored - (made.stored if made else 0)),
        embedded=run.embedded + (made.stored if made else 0),
        rejected=made.rejected if made else sum(run.refused.values()),
        reject_codes=made.reject_codes if made else dict(run.refused.most_common()),
        abstained=run.abstained,
        empty_sets=run.empty,
        coverage=columns.coverage,
        path=str(target) if isinstance(target, Path) else None,
        seconds=round(time.monotonic() - started, 3),
        warnings=tuple(taken.warnings),
    )
    found = Predictions(summary, kept)
    if too_many is not None:
        too_many.context["predictions"] = found
        raise too_many
    if made is None:
        _judge(found, allowed)
    return found


def _same(source: str | os.PathLike[str], target: Path) -> bool:
    try:
        return os.path.samefile(Storage.at(source).root, target)
    except (UsageError, OSError):  # no path, or nothing is there
        return False


def _stored(
    layout: Layout,
    card: HeadCard,
    model: ModelCard,
    settings: ExtractSettings,
    origins: dict[str, SettingValue],
    reporter: Reporter,
) -> tuple[ExtractResult, TooManyRejectsError | None]:
    """Extracts a source, read as its table or the head's was; an error that leaves good items is for afterwards."""
    if opening.known_source(layout, opening.table_name(settings), settings) is None:
        filled = items.alike(layout, card, model, settings)
        settings = replace(settings, **filled)  # type: ignore[arg-type]
        for name, value in filled.items():
            plain = list(value) if isinstance(value, tuple) else value
            origins = {**origins, name: SettingValue(value=plain, origin=f"as {card.table} was read")}
    try:
        return extract(layout, settings, origins, reporter=reporter), None
    except TooManyRejectsError as error:
        found = error.context.get("result")
        if not isinstance(found, ExtractResult) or found.version is None:
            raise
        return found, error


class _Run:
    """Goes through the blocks once and counts."""

    def __init__(self, card: HeadCard, columns: Columns, taken: Taken, reporter: Reporter, *, new: bool) -> None:
        self._card, self._columns, self._taken, self._reporter, self._new = card, columns, taken, reporter, new
        self.items = self.stored = self.embedded = self.abstained = self.empty = self._named = 0
        self.refused: Counter[str] = Counter()

    def go(self, target: Path | BinaryIO | None, kind: files.Format | None, keep: int | None) -> pa.Table | None:
        """Writes the predictions, or returns them (the first ``keep``)."""
        for warning in self._taken.warnings:
            self._reporter.warning(warning)
        schema = self._schema()
        kept: list[pa.Table] = []
        origin = {
            "head": self._card.head,
            "version": self._card.version,
            "space_id": self._card.space_id,
            "source": self._taken.name,
            "coverage": self._columns.coverage,
        }
        if target is not None:
            assert kind is not None
            opened = files.writing(target, kind, schema, origin)
        else:
            opened = nullcontext(kept.append)  # type: ignore[assignment]
        self._reporter.stage("predicting", self._taken.total)
        held = 0
        with opened as write:
            for block in self._taken.blocks:
                rows = self._rows(block, schema)
                self._reporter.advance(rows.num_rows - block.told[0], len(block.errors) - block.told[1])
                if target is None and keep is not None:
                    rows = rows.slice(0, max(0, keep - held))
                    held += rows.num_rows
                write(rows)
            if self._taken.rejects:
                write(self._never_read(schema))
        if target is not None:
            return None
        return pa.concat_tables([schema.empty_table(), *kept]).slice(0, keep)

    def _schema(self) -> pa.Schema:
        """The id, what is predicted, why it is not, and the item's own columns, those of equal names told apart."""
        own = self._columns.schema()
        first = [pa.field("item_id", pa.string()), *own]
        if self._new:
            first.append(pa.field(_REFUSED, pa.string()))
        taken = {field.name for field in first}
        others = [field for field in self._taken.columns.schema if field.name != "item_id"]
        taken |= {field.name for field in others if field.name not in taken}
        renamed = []
        for field_ in others:
            name = field_.name
            if name in {field.name for field in first}:
                while name in taken:
                    name += "_"
                taken.add(name)
            renamed.append(field_.with_name(name))
        return pa.schema([*first, *renamed])

    def _rows(self, block: Block, schema: pa.Schema) -> pa.Table:
        count = block.rows.num_rows
        good = np.array([row for row in range(count) if row not in block.errors], np.int64)
        found = self._columns.of(block.vectors if len(good) == count else block.vectors[good])
        if "abstain" in found.column_names:
            self.abstained += int(pc.sum(found["abstain"].cast(pa.int64())).as_py() or 0)
            self.empty += int((pc.list_value_length(found["set"]).to_numpy() == 0).sum())
        self.items += len(good)
        self.stored += block.stored
        self.embedded += block.embedded
        if len(good) < count:
            at = np.full(count, -1, np.int64)
            at[good] = np.arange(len(good))
            found = found.take(pa.array(at, pa.int64(), mask=at < 0))
        self.refused.update(error.code for error in block.errors.values())
        ids = block.rows["item_id"]
        why: list[pa.ChunkedArray[Any]] = []
        if self._new:
            said = [None if row not in block.errors else str(block.errors[row]) for row in range(count)]
            why = [pa.chunked_array([pa.array(said, pa.string())])]
            self._name_refused([(ids[row].as_py(), str(block.errors[row])) for row in sorted(block.errors)[:_NAMED]])
        others = [block.rows[name] for name in block.rows.column_names if name != "item_id"]
        return pa.table([ids, *found.columns, *why, *others], names=schema.names).cast(schema)

    def _never_read(self, schema: pa.Schema) -> pa.Table:
        """Rows for what was refused while the source was listed."""
        rejects = self._taken.rejects
        self.refused.update(reject.code for reject in rejects)
        self._name_refused([(reject.item_id, reject.message) for reject in rejects[:_NAMED]])
        columns = {
            "item_id": pa.array([reject.item_id for reject in rejects], pa.string()),
            _REFUSED: pa.array([reject.message for reject in rejects], pa.string()),
        }
        nulls = {field.name: pa.nulls(len(rejects), field.type) for field in schema}
        return pa.table({**nulls, **columns}, schema=schema)

    def _name_refused(self, refused: Sequence[tuple[str, str]]) -> None:
        """Names the first of all that are refused."""
        for item_id, message in refused[: _NAMED - self._named]:
            self._reporter.message(f"refused: {item_id}: {message}")
        self._named = min(_NAMED, self._named + len(refused))


def _judge(found: Predictions, allowed: float) -> None:
    done = found.summary
    seen = done.items + done.rejected
    if done.rejected > _REJECT_ITEMS and done.rejected > allowed * seen:
        codes = ", ".join(f"{code} {count}" for code, count in list(done.reject_codes.items())[:3])
        raise TooManyRejectsError(
            f"{done.rejected:,} of {seen:,} items were rejected ({done.rejected / seen:.1%}; allowed {allowed:.1%}): "
            f"{codes}. The others are predicted.",
            hint="The column 'rejected' says why. Allow them: --max-reject-share.",
            context={"predictions": found},
        )
