"""Ids in JSON values: found, and taken out."""

from __future__ import annotations

import json
from collections.abc import Collection
from typing import Any
from urllib.parse import unquote

from featstore.upkeep.purge.ids import GONE, ID_FIELDS, Wanted

__all__ = ["found", "without"]

_DROP = object()


def found(wanted: Wanted, value: Any, among: Collection[str], field: str = "") -> int:
    """How many values and keys name one of some ids: as a whole where ids stand, as a word in what is said.

    Args:
        wanted: The ids.
        value: Any JSON value; a text that is JSON itself, such as the statistics of a Delta log, is looked into.
        among: The ids that may be there.
        field: The field that the value is of.
    """
    if isinstance(value, dict):
        own = sum(key in wanted.words for key in value)
        return own + sum(found(wanted, inner, among, str(key)) for key, inner in value.items())
    if isinstance(value, list | tuple):
        return sum(found(wanted, inner, among, field) for inner in value)
    if not isinstance(value, str):
        return 0
    if field in ID_FIELDS and value in wanted.ids:
        return 1
    if field == "stats":
        inner = _parsed(value)
        if inner is not None:
            return found(wanted, inner, among)
    if field == "path":
        value = unquote(value)
    return int(bool(wanted.words_in(value, among)))


def without(wanted: Wanted, value: Any, among: Collection[str], field: str = "") -> Any:
    """A JSON value without some ids: entries of lists that are of one go, and words in texts are replaced."""
    made = _without(wanted, value, among, field)
    return GONE if made is _DROP else made


def _without(wanted: Wanted, value: Any, among: Collection[str], field: str) -> Any:
    if isinstance(value, dict):
        if any(key in ID_FIELDS and isinstance(inner, str) and inner in wanted.ids for key, inner in value.items()):
            return _DROP
        return {key: without(wanted, inner, among, key) for key, inner in value.items() if key not in wanted.words}
    if isinstance(value, list):
        made = (_without(wanted, inner, among, field) for inner in value)
        return [inner for inner in made if inner is not _DROP]
    if not isinstance(value, str):
        return value
    if value in wanted.ids and (field in ID_FIELDS or value in wanted.words):
        return _DROP
    return wanted.without(value, among)


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return None
