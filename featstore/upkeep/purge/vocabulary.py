"""The words that a store uses itself: an id that is called like one of them is looked for only where items are named.

Otherwise an item ``float32`` or ``item_id`` would take the type of a model's weights or the name of a column with it.
"""

from __future__ import annotations

import dataclasses
import typing
from functools import cache
from typing import TYPE_CHECKING, Any

from featstore import records
from featstore.heads import opening
from featstore.records import SourceRecord
from featstore.storage import documents
from featstore.upkeep.purge import places
from featstore.upkeep.purge.ids import GONE

if TYPE_CHECKING:
    from featstore.layout import Layout

__all__ = ["of_store"]


def of_store(layout: Layout) -> set[str]:
    """Every such word: of the records, of the files' paths, of the heads' labels, of the sources' settings."""
    words = {GONE, *_of_records()}
    known = (path for path in layout.storage.files() if places.of(path) is not None)
    words |= {part for path in known for part in path.split("/")}
    for card in opening.cards(layout, all_versions=True, broken=lambda _: None):
        words |= {card.label, card.labels_from, *card.classes}
    for path in layout.storage.files("sources"):
        source = documents.read(layout.storage, path, SourceRecord)
        words |= {source.uri.rpartition("/")[2], source.kind, *_texts(source.options)}
    return words


@cache
def _of_records() -> frozenset[str]:
    """The fields of all documents, and the words that stand in them for a choice."""
    words: set[str] = {"item_id", "float16", "float32", "float64"}
    for name in records.__all__:
        kind = getattr(records, name)
        if dataclasses.is_dataclass(kind):
            words |= {one.name for one in dataclasses.fields(kind)}
            for hint in typing.get_type_hints(kind).values():
                words |= _choices(hint)
    return frozenset(words)


def _choices(hint: Any) -> set[str]:
    if typing.get_origin(hint) is typing.Literal:
        return {value for value in typing.get_args(hint) if isinstance(value, str)}
    return {word for inner in typing.get_args(hint) for word in _choices(inner)}


def _texts(value: Any) -> set[str]:
    if isinstance(value, str):
        return {value}
    if isinstance(value, dict):
        value = value.values()
    return {text for inner in value for text in _texts(inner)} if hasattr(value, "__iter__") else set()
