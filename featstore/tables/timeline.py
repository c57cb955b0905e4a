"""Which of an item's rows counted at a time: over the table and, where it keeps one, its companion.

A row counts from max(event_ts, created_ts) on, until a later row of its item counts or the item is removed. Later is
what was committed later, whatever the clock said, so that at the present time the answer is what the table holds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from featstore.errors import IntegrityError, UsageError
from featstore.tables import companion
from featstore.tables.past import moment

if TYPE_CHECKING:
    from featstore.layout import Layout
    from featstore.records import HistoryRecord
    from featstore.tables.table import FeatureTable

__all__ = ["Answers", "Timeline"]

# A live row comes after every one that has left.
_LIVE = np.iinfo(np.int64).max

_BLOCK_BYTES = 64 << 20

_TIMES = ["item_id", "event_ts", "created_ts"]


@dataclass(frozen=True)
class Answers:
    """For each question the row that counts.

    Attributes:
        rows: (n,) int64, row numbers: of the table below its length, of the companion from there on; -1 for none.
        reasons: For each question why there is none; None where there is one.
    """

    rows: NDArray[np.int64]
    reasons: pl.Series


@dataclass(frozen=True)
class Timeline:
    """One version of a table together with every row that has left it up to that version."""

    table: FeatureTable
    kept: FeatureTable | None
    record: HistoryRecord | None

    @classmethod
    def of(cls, layout: Layout, table: FeatureTable) -> Timeline:
        """Opens a table's timeline; one without a companion has the table's rows only.

        Raises:
            IntegrityError: The companion is damaged.
        """
        record = companion.find(layout, table.name, table.space_id)
        kept = None if record is None else companion.opened(layout, table.name, table.space_id)
        return cls(table, kept, record)

    @staticmethod
    def micros(when: datetime) -> int:
        """A time as ``at`` takes it."""
        return (when - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)

    def reaches(self, when: datetime) -> bool:
        """Whether nothing that counted at a time has been lost."""
        if self.record is None:
            return False
        return self.record.base_version is None or when >= moment(self.record.since_ts)

    def at(self, ids: Sequence[str | None], times: NDArray[np.int64] | None = None) -> Answers:
        """The rows that counted.

        Args:
            ids: The item of each question; None is answered by none.
            times: (n,) int64, the time of each in microseconds since 1970 UTC, the least int64 for none. Without them
                the table's rows as they are, also those whose event is yet to come.

        Raises:
            UsageError: Ids are not texts.
            IntegrityError: A file is damaged, or an id occurs twice in the table.
        """
        asked = _texts(ids)
        wanted = asked.drop_nulls().unique(maintain_order=True).to_list()
        rows = self._rows(wanted)
        if times is None:
            return self._present(asked, rows)
        questions = pl.DataFrame({"item_id": asked, "time": times}).with_row_index("question")
        timeless = pl.col("time") == np.iinfo(np.int64).min
        known = rows.group_by("item_id").agg(
            pl.col("certain").first(), pl.col("created_ts").first().dt.epoch("us").alias("first")
        )
        answers = (
            questions.sort("time")
            .join_asof(_states(rows), on="time", by="item_id", strategy="backward", check_sortedness=False)
            .join(known, on="item_id", how="left")
            .sort("question")
            .join(rows.select("row", "at"), on="row", how="left", maintain_order="left")
        )
        counts = pl.col("row").is_not_null() & (pl.col("killed").is_null() | (pl.col("killed") < pl.col("row")))
        counts &= pl.col("item_id").is_not_null() & ~timeless
        certain, lost = pl.col("certain"), "history is not kept"
        if self.record is not None:
            # An item that came later may have been there before, but what was removed before counts no more since.
            began = pl.lit(moment(self.record.since_ts)).cast(pl.Datetime("us", "UTC")).dt.epoch("us")
            certain |= (pl.col("first") >= began) & (pl.col("time") >= began)
            lost = f"history is not kept before {self.record.since_ts}"
        reasons = (
            pl.when(counts).then(pl.lit(None, pl.String))
            .when(pl.col("item_id").is_null()).then(pl.lit("no id given"))
            .when(timeless).then(pl.lit("no time given"))
            .when(pl.col("first").is_null()).then(pl.lit("unknown id"))
            .when(pl.col("row").is_not_null()).then(pl.lit("removed before that time"))
            .when(certain).then(pl.lit("not yet created at that time"))
            .otherwise(pl.lit(lost))
        )  # fmt: skip
        found = answers.select(at=pl.when(counts).then(pl.col("at")).otherwise(-1), reasons=reasons)
        return Answers(found["at"].to_numpy().astype(np.int64), found["reasons"])

    def vectors(self, rows: NDArray[np.int64], *, missing: float = 0.0) -> NDArray[np.float32]:
        """The vectors of some answers, some 64 MiB at a time beside the result.

        Args:
            rows: (n,) int64, as in ``Answers.rows``.
            missing: What the vectors of -1 are filled with.

        Returns:
            (n, dim) float32.

        Raises:
            IntegrityError: A file is damaged.
        """
        out = np.empty((len(rows), self.table.dim), np.float32)
        order = np.argsort(rows, kind="stable")
        first, border = np.searchsorted(rows, [0, len(self.table)], sorter=order).tolist()
        out[order[:first]] = missing
        step = max(1, _BLOCK_BYTES // (4 * self.table.dim))
        for source, start, stop, shift in (
            (self.table, first, border, 0),
            (self.kept, border, len(rows), len(self.table)),
        ):
            for at in range(start, stop, step):
                places = order[at : min(stop, at + step)]
                assert source is not None
                out[places] = source.vectors_at(rows[places] - shift)
        return out

    def metadata(self, rows: NDArray[np.int64], names: Sequence[str]) -> pa.Table:
        """Columns of some answers, as the table types them; null for -1.

        Raises:
            NotFoundError: The table has no such column.
            UsageError: What has left the table cannot be read in the type that the column has now.
            IntegrityError: A file is damaged.
        """
        live = (rows >= 0) & (rows < len(self.table))
        left = rows >= len(self.table)
        found = [self.table.rows_at(rows[live], names)]
        schema = found[0].schema
        if left.any() and self.kept is not None:
            there = [name for name in names if name in self.kept.column_names]
            old = self.kept.rows_at(rows[left] - len(self.table), there)
            found.append(_typed(old, schema))
        found.append(schema.empty_table() if not (rows < 0).any() else _nulls(schema))
        place = np.full(len(rows), sum(len(part) for part in found) - 1, np.int64)
        place[live] = np.arange(live.sum())
        place[left] = live.sum() + np.arange(left.sum())
        numbers: Any = place
        return pa.concat_tables(found).take(numbers).combine_chunks()

    # ── inside ────────────────────────────────────────────────────────────────────────────────

    def _rows(self, ids: Sequence[str]) -> pl.DataFrame:
        """All rows of some items in the order in which they took each other's place, numbered by ``row``.

        ``at`` is as in ``Answers``, ``valid`` when a row begins to count, ``removed`` when its item was removed, both
        in microseconds. ``certain`` says of an item's first row that nothing can have been before it.
        """
        live = self._live(ids)
        parts = [live]
        commits = companion.runs(self.table)
        if self.kept is not None:
            left = _frame(self.kept.locate(ids, [*_TIMES, "run_id", *companion.OWN]))
            parts.append(
                left.select(
                    *_TIMES,
                    "run_id",
                    at=pl.col("_at") + len(self.table),
                    # A run that is in no commit up to this version has taken nothing out of it.
                    order=pl.col("superseded_by").replace_strict(commits, default=None, return_dtype=pl.Int64),
                    removed=pl.when(pl.col("superseded_as") == companion.REMOVED).then(pl.col("superseded_ts")),
                ).drop_nulls("order")
            )
        first = min(commits, key=lambda run: commits[run], default="")
        whole = self.record is not None and self.record.base_version is None
        return (
            pl.concat(parts)
            .sort("item_id", "order")
            .with_row_index("row")
            .with_columns(
                pl.col("row").cast(pl.Int64),
                valid=pl.max_horizontal("event_ts", "created_ts").dt.epoch("us"),
                removed=pl.col("removed").dt.epoch("us"),
                certain=pl.lit(whole) | (pl.col("run_id") == first),
            )
        )

    def _live(self, ids: Sequence[str]) -> pl.DataFrame:
        live = _frame(self.table.locate(ids, [*_TIMES, "run_id"]))
        if live["item_id"].n_unique() != len(live):
            twice = live.filter(pl.col("item_id").is_duplicated())["item_id"][0]
            raise IntegrityError(
                f"{twice!r} occurs more than once in {self.table.path}.",
                hint="Another program has written to the table; open an earlier version and extract again.",
            )
        removed = pl.lit(None, pl.Datetime("us", "UTC"))
        return live.select(*_TIMES, "run_id", at=pl.col("_at"), order=pl.lit(_LIVE, pl.Int64), removed=removed)

    def _present(self, asked: pl.Series, rows: pl.DataFrame) -> Answers:
        state = rows.sort("row").group_by("item_id").last()
        found = pl.DataFrame({"item_id": asked}).join(state, on="item_id", how="left", maintain_order="left")
        live = pl.col("order") == _LIVE
        reasons = (
            pl.when(live).then(pl.lit(None, pl.String))
            .when(pl.col("item_id").is_null()).then(pl.lit("no id given"))
            .when(pl.col("row").is_null()).then(pl.lit("unknown id"))
            .otherwise(pl.lit("removed"))
        )  # fmt: skip
        answers = found.select(at=pl.when(live).then(pl.col("at")).otherwise(-1), reasons=reasons)
        return Answers(answers["at"].to_numpy().astype(np.int64), answers["reasons"])


def _states(rows: pl.DataFrame) -> pl.DataFrame:
    """What holds of each item from each time on: its latest row that counts by then, and the latest removed."""
    begins = rows.select("item_id", time="valid", row="row", killed=pl.lit(None, pl.Int64))
    ends = rows.drop_nulls("removed").select("item_id", time="removed", row=pl.lit(None, pl.Int64), killed="row")
    return (
        pl.concat([begins, ends])
        .sort("item_id", "time")
        .with_columns(pl.col("row", "killed").cum_max().forward_fill().over("item_id"))
        .group_by("item_id", "time", maintain_order=True)
        .last()
        .sort("time")
    )


def _texts(ids: Sequence[str | None]) -> pl.Series:
    try:
        return pl.Series("item_id", ids, pl.String, strict=True)
    except (TypeError, UnicodeError, pl.exceptions.PolarsError) as error:
        raise UsageError(f"ids are texts, as the item_id column holds them: {error}.") from error


def _frame(rows: pa.Table) -> pl.DataFrame:
    return cast("pl.DataFrame", pl.from_arrow(rows))


def _nulls(schema: pa.Schema) -> pa.Table:
    return pa.table([pa.nulls(1, field.type) for field in schema], schema=schema)


def _typed(old: pa.Table, schema: pa.Schema) -> pa.Table:
    """Rows that have left the table in the types that it has now; columns that came later are null."""
    found = []
    for field in schema:
        if field.name not in old.column_names:
            found.append(pa.chunked_array([pa.nulls(len(old), field.type)]))
            continue
        try:
            found.append(pc.cast(old[field.name], field.type))
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
            raise UsageError(
                f"the column '{field.name}' was {old[field.name].type} in rows that have left the table, and is "
                f"{field.type} now: {error}.",
                hint="Ask for other columns, or without a time.",
            ) from error
    return pa.table(found, schema=schema)
