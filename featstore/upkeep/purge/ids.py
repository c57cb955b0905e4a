"""The ids to remove, and what counts as one of them: whole values where items are named, whole words in texts."""

from __future__ import annotations

import html
import json
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import numpy as np

from featstore.storage import hashing

if TYPE_CHECKING:
    import pyarrow as pa
    from numpy.typing import NDArray

__all__ = ["GONE", "ID_FIELDS", "Wanted"]

GONE = "(removed)"
"""What stands in a sentence in the place of an id that was removed."""

ID_FIELDS = frozenset(
    {
        *("item_id", "query", "query_id", "only_a", "only_b", "first_a", "first_b"),
        *("ids", "added_ids", "removed_ids", "changed_ids", "missing_ids"),
    }
)
"""The fields of documents that hold ids and nothing else."""

# An id such as "7", "cat" or "v1" is a word like others: it is looked for where items are named, not in sentences.
_LEAST, _LONG = 5, 20

# Bytes looked through at once.
_BLOCK = 1 << 24


@dataclass(frozen=True)
class Wanted:
    """Some ids.

    Attributes:
        ids: All of them.
        words: Those that no other word can be mistaken for; they are looked for in texts too.
        roots: Folders of sources: an id behind one of them is that item's path.
    """

    ids: frozenset[str]
    words: frozenset[str]
    roots: tuple[str, ...] = ()
    _patterns: dict[str, str] = field(default_factory=dict, repr=False)

    @classmethod
    def of(cls, ids: Iterable[str], *, vocabulary: Collection[str] = (), roots: Iterable[str] = ()) -> Wanted:
        """Sorts ids by how they can be looked for.

        Args:
            ids: The ids.
            vocabulary: What is a word of the store's own: the names of tables, labels, classes, columns.
            roots: Folders of sources.
        """
        every = frozenset(ids)
        words = frozenset(item for item in every if _distinct(item) and item not in vocabulary)
        patterns = {form: item for item in every for form in _forms(item, word=item in words)}
        return cls(every, words, tuple(root.rstrip("/") for root in roots if root.rstrip("/")), patterns)

    def among(self, column: pa.ChunkedArray[Any]) -> NDArray[np.bool_]:
        """Which values of a column of texts are ids; nulls are not.

        Returns:
            (n,) bool.
        """
        import pyarrow as pa
        import pyarrow.compute as pc

        known = pa.array(sorted(item for item in self.ids if _plain(item)), pa.string())
        return np.asarray(pc.is_in(column, value_set=known), np.bool_)

    def column_words(self) -> pa.Array[Any]:
        """The words as values of a column of texts: an id of bytes that are no UTF-8 cannot be in one."""
        import pyarrow as pa

        return pa.array(sorted(item for item in self.words if _plain(item)), pa.string())

    @property
    def longest(self) -> int:
        """Bytes of the longest spelling of an id."""
        return max((len(form) for form in self._patterns), default=0)

    def candidates(self, data: bytes) -> set[str]:
        """The ids that may be in some bytes, in any spelling; the rest surely are not.

        Args:
            data: Any bytes.
        """
        import polars as pl

        found: set[str] = set()
        overlap = self.longest
        patterns = list(self._patterns)
        for start in range(0, max(1, len(data)), _BLOCK):
            text = data[start : start + _BLOCK + overlap].decode("latin-1")
            hits = pl.Series([text]).str.extract_many(patterns, overlapping=True).to_list()[0]
            found |= {self._patterns[form] for form in hits or ()}
        return found

    def words_in(self, text: str, among: Collection[str]) -> set[str]:
        """The ids that stand in a text as words of their own."""
        return {
            word
            for word in among
            if word in self.words and any(True for form in _spellings(word) for _ in self._places(text, form))
        }

    def words_in_bytes(self, data: bytes, among: Collection[str]) -> set[str]:
        """The ids that stand in bytes of any kind as words of their own, as UTF-8 or escaped."""
        text = data.decode("latin-1")
        return {
            word
            for word in among
            if word in self.words and any(True for form in _forms(word, word=True) for _ in self._places(text, form))
        }

    def without(self, text: str, among: Collection[str]) -> str:
        """A text with each id that is a word of its own replaced."""
        for word in among:
            if word in self.words:
                for form in _spellings(word):
                    for start in sorted(self._places(text, form), reverse=True):
                        text = text[:start] + GONE + text[start + len(form) :]
        return text

    def _places(self, text: str, form: str) -> Iterator[int]:
        at = text.find(form)
        while at >= 0:
            if self._alone(text, at, at + len(form)):
                yield at
            at = text.find(form, at + 1)

    def _alone(self, text: str, start: int, end: int) -> bool:
        before, after = text[start - 1 : start] if start else "", text[end : end + 2]
        if before == "/":
            rooted = any(text.endswith(root, 0, start - 1) for root in self.roots)
            if not rooted:
                return False
        elif before and (_inner(before) or (before == "." and _inner(text[start - 2 : start - 1] or " "))):
            return False
        if after[:1] == ".":
            return not _inner(after[1:2] or " ")
        return not (after and (_inner(after[0]) or after[0] in "/#"))


def _distinct(item: str) -> bool:
    kinds = {"letter" if c.isalpha() else "digit" if c.isdigit() else "other" for c in item}
    return len(item) >= _LONG or (len(item) >= _LEAST and len(kinds) > 1)


def _inner(character: str) -> bool:
    return character.isalnum() or character in "_-\\"


def _plain(item: str) -> bool:
    try:
        item.encode()
    except UnicodeEncodeError:
        return False
    return True


def _spellings(item: str) -> set[str]:
    """How an id is written in texts: as it is, or as a part of an address or a page."""
    raw = hashing.as_bytes(item)
    return {item, html.escape(item), html.escape(item, quote=False), quote(raw), quote(raw, safe="")}


def _forms(item: str, *, word: bool) -> set[str]:
    """How an id stands in bytes, each byte a character; one that is no word of its own only between quotes."""
    spelled = _spellings(item) if word else {item}
    found = {json.dumps(form, ensure_ascii=ascii_only)[1:-1] for form in spelled for ascii_only in (True, False)}
    found |= spelled if word else set()
    marks = ("", "") if word else ('"', '"')
    return {hashing.as_bytes(f"{marks[0]}{form}{marks[1]}").decode("latin-1") for form in found}
