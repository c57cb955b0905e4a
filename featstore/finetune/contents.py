"""The contents of a table's items, read again from where they came from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from featstore.errors import ItemError, RetryableError
from featstore.extract.chunks import cutting
from featstore.extract.opening import READING, remembered, source_key
from featstore.extract.shard import open_items
from featstore.records import SourceRecord
from featstore.settings import ExtractSettings
from featstore.storage import documents, frames

if TYPE_CHECKING:
    from featstore.extract.progress import Reporter
    from featstore.layout import Layout
    from featstore.records import ModelCard
    from featstore.sources.items import Reader

__all__ = ["Contents", "Read", "find"]

Read = Callable[[int], bytes | str]


@dataclass(frozen=True, eq=False)
class Contents:
    """Where the contents of n items are.

    Attributes:
        there: (n,) bool, whether an item is still there with the content that it is known by.
    """

    there: NDArray[np.bool_]
    _ids: Sequence[str]
    _readers: Sequence[Reader]
    _reader: NDArray[np.int64]
    _row: NDArray[np.int64]

    def of(self, items: NDArray[np.int64]) -> Read:
        """Reads some of the items, by their places among these; from any thread, as often as wanted."""

        def read(at: int) -> bytes | str:
            return self._read(int(items[at]))

        return read

    def held(self, items: NDArray[np.int64]) -> Read:
        """The same, all of it read now and held in memory: for texts, whose rows are found one by one."""
        order = np.lexsort((self._row[items], self._reader[items]))  # as the files have them
        found: dict[int, bytes | str] = {at: self._read(int(items[at])) for at in order.tolist()}
        return lambda at: found[at]

    def _read(self, item: int) -> bytes | str:
        try:
            return self._readers[int(self._reader[item])].read(int(self._row[item]))
        except ItemError as error:
            raise RetryableError(
                f"{self._ids[item]} cannot be read any more: {error.message}",
                hint="Run it again: what has changed is left out then.",
            ) from error


def find(
    layout: Layout,
    table: str,
    card: ModelCard,
    extract: ExtractSettings,
    ids: Sequence[str],
    contents: Sequence[str],
    reporter: Reporter,
) -> Contents:
    """Looks items up in the sources of a table.

    Args:
        layout: The store.
        table: The table's name.
        card: Of its model, which says how texts are cut where they are.
        extract: How it is extracted from its first source.
        ids: n items.
        contents: The hashes of their contents.
        reporter: Told of progress.

    Raises:
        NotFoundError: A source is gone.
        UsageError: A source cannot be read as it was.
    """
    places = {item: at for at, item in enumerate(ids)}
    readers: list[Reader] = []
    reader, row = np.full(len(ids), -1, np.int64), np.full(len(ids), -1, np.int64)
    for settings in _sources(layout, table, extract):
        source = open_items(layout, settings.source, card, settings)
        cache = layout.scan_cache(table, source_key(source, settings, cutting(card, settings)))
        before = frames.read(layout.storage, cache) if layout.storage.exists(cache) else None
        reporter.stage("scanning")
        items = source.scan(previous=before, progress=reporter.at).items
        hashes = frames.strings(items, "content_sha256")
        found = [
            (place, at)
            for at, item in enumerate(frames.strings(items, "item_id"))
            if (place := places.get(item)) is not None and hashes[at] == contents[place] and reader[place] < 0
        ]
        for number, (place, _) in enumerate(found):
            reader[place], row[place] = len(readers), number
        readers.append(source.reader(items.take([at for _, at in found])))
    return Contents(reader >= 0, ids, readers, reader, row)


def _sources(layout: Layout, table: str, extract: ExtractSettings) -> list[ExtractSettings]:
    """How each source of the table is read: the first as it is extracted, what was added as it is remembered."""
    record = documents.find(layout.storage, layout.source(table), SourceRecord)
    plain = ExtractSettings(source=extract.source, model=extract.model)
    unsaid = replace(extract, **{name: getattr(plain, name) for name in READING})
    added = [] if record is None else [replace(unsaid, source=uri) for uri in record.added]
    return [extract, *(remembered(layout, table, one, {})[0] for one in added)]
