"""Which of the items that lack a vector a run embeds, and which first; the others are left to later runs."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from featstore.errors import SettingsError, UsageError
from featstore.extract import chunk_rows
from featstore.storage import frames

if TYPE_CHECKING:
    from featstore.settings import ExtractSettings

__all__ = ["Portion"]

# What a source calls a column and what the table calls it.
_RENAMED = {
    "time_column": "event_ts",
    "label_column": "label",
    "group_column": "group",
    "split_column": "split",
}


@dataclass(frozen=True)
class Portion:
    """A part of what a run could embed.

    It is a part of the *contents* that neither the table nor an unfinished run has a vector of. Items whose vector
    exists are carried whatever is said here, what has gone leaves, and an item of the table whose content has changed
    is always embedded: its old vector is no longer its own.

    Attributes:
        only: Ids that may be embedded, None for all. Where texts are cut, a chunk counts as its text, so that the
            chunks of another model's tokenizer are the same texts.
        order: A metadata column. What has most of it is embedded first, and items without a value last, else in the
            source's order; within a shard the source's order stays. An item comes when the first of its twins does.
        most: So many contents of new items at most.
    """

    only: Collection[str] | None = None
    order: str | None = None
    most: int | None = None

    def __post_init__(self) -> None:
        if self.most is not None and self.most < 0:
            raise UsageError(f"at most {self.most} items cannot be embedded.", hint="0 or more can.")

    @property
    def whole(self) -> bool:
        """Whether it is all there is, in the source's order."""
        return self.only is None and self.order is None and self.most is None

    def chosen(
        self, lacking: pl.DataFrame, items: pa.Table, metadata: pa.Table, settings: ExtractSettings
    ) -> pl.DataFrame:
        """One item of each content that is embedded, in the order in which that is done.

        Args:
            lacking: The items without a vector, in the source's order: ``at`` (row of ``items``), ``sha`` (a number for
                the content), ``changed`` (whether the table has the id), and whatever else, which is handed through.
            items: ``Scan.items``.
            metadata: The scan's metadata, same rows.
            settings: Of the run: how its columns are called, and whether its texts are cut.

        Raises:
            SettingsError: The items have no such column to be ordered by.
        """
        if self.whole:
            return lacking.filter(pl.col("sha").is_first_distinct())
        ranked = lacking.with_columns(due=pl.col("changed").any().over("sha"))
        if self.only is not None:
            ranked = ranked.filter(pl.col("due") | self._allowed(items, ranked["at"], settings))
        if self.order is not None:
            rank = _ranks(metadata, self._column(items, metadata, settings), ranked["at"])
            ranked = ranked.with_columns(rank=rank).sort("rank", descending=True, nulls_last=True, maintain_order=True)
        ranked = ranked.filter(pl.col("sha").is_first_distinct())
        if self.most is not None:
            ranked = ranked.filter(pl.col("due") | ((~pl.col("due")).cum_sum() <= self.most))
        return ranked.select(lacking.columns)

    def _allowed(self, items: pa.Table, at: pl.Series, settings: ExtractSettings) -> pl.Series:
        wanted = set(self.only or ())
        ids = items["item_id"].take(pa.array(at.to_numpy()))
        if settings.chunk_tokens is not None:
            wanted = {chunk_rows.parent_of(item) for item in wanted}
            parents = [chunk_rows.parent_of(item) for item in frames.strings(pa.table({"id": ids}), "id")]
            ids = pa.chunked_array([pa.array(parents, pa.string())])
        found: Any = pc.is_in(ids, value_set=pa.array(sorted(wanted), pa.string()))
        return pl.Series(values=found, dtype=pl.Boolean)

    def _column(self, items: pa.Table, metadata: pa.Table, settings: ExtractSettings) -> str | None:
        """The table's name of the column; None where no item has a value in it."""
        assert self.order is not None
        named = {getattr(settings, key): column for key, column in _RENAMED.items()}
        for column in (self.order, named.get(self.order)):
            if column is not None and column in metadata.column_names:
                return column
            if column is not None and column in items.column_names and items[column].null_count == items.num_rows:
                return None
        if not items.num_rows:
            return None
        there = [name for name in metadata.column_names if metadata[name].null_count < items.num_rows]
        near = get_close_matches(self.order, there, 1)
        raise SettingsError(
            f"the items cannot be ordered by '{self.order}': they have no such column"
            + (f" (did you mean '{near[0]}'?)" if near else "")
            + ".",
            hint=f"Their columns: {', '.join(there) or 'none'}.",
            context={"order": self.order},
        )


def _ranks(metadata: pa.Table, column: str | None, at: pl.Series) -> pl.Series:
    """What the items are ordered by; no number is no value."""
    if column is None:
        return pl.repeat(None, len(at), dtype=pl.Int64, eager=True)
    found = pl.Series(values=metadata[column].take(pa.array(at.to_numpy())))
    return found.fill_nan(None) if found.dtype.is_float() else found
