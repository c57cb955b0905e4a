"""Long texts cut into pieces of so many tokens.

A piece is a stretch of the text as it stands, so that its first and last character are enough to find it
again. It ends before white space where there is any in its last quarter, else between two tokens.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from featstore.inputs.texts import beginning

__all__ = ["Measure", "cut"]

Place = tuple[int, int]

# Characters whose tokens are looked at together: much longer than most pieces, much shorter than a book.
_WINDOW = 20_000

# Where no token ends (a megabyte of one letter is one word to most models), a piece ends here; far below
# the length at which the tokenizer would cut it.
_LONGEST = 400_000

_BLACK = re.compile(r"\S")


class Measure(Protocol):
    """What cutting must know of a tokenizer."""

    def places(self, text: str) -> list[Place]:
        """The first character of each token and the one after its last."""

    def length(self, text: str) -> int:
        """How many tokens the text has alone, with all that is added to it."""


def cut(text: str, measure: Measure, *, most: int, overlap: int) -> list[Place]:
    """Finds the pieces of a text.

    Args:
        text: A text that is not blank.
        measure: The model's tokenizer.
        most: Tokens that a piece may have, special tokens and prompt not counted. Each piece is measured
            alone, as the model will see it.
        overlap: Tokens at most that a piece shares with the one before; less than ``most``.

    Returns:
        The first character of each piece and the one after its last, in order. Every character but white
        space is in a piece.

    Raises:
        ItemError: stage ``tokenise``; the tokenizer failed on the text.
    """
    found: list[Place] = []
    limit = most + measure.length("")
    start, size = _black(text, 0), max(_WINDOW, 8 * most)
    while start < len(text):
        window = beginning(text[start : start + size + 1], size)
        end = start + len(window)
        places = [(start + first, start + after) for first, after in measure.places(window)]
        if places:
            places[0] = (start, places[0][1])  # also what no token stands for
        stretch = _Stretch(text, places, end == len(text), measure, most, overlap, limit)
        reached = found[-1][1] if found else 0
        known = len(found)
        for piece, following in stretch.pieces(reached):
            found.append(piece)
            start = following
        if len(found) > known:
            size = max(_WINDOW, 8 * most)
        elif end < len(text) and size < _LONGEST:
            size = min(4 * size, _LONGEST)
        else:
            if (trimmed := _trimmed(text, start, end)) > reached:
                found.append((start, trimmed))
            start = end
        start = _black(text, start)
    return found


@dataclass(frozen=True, slots=True)
class _Stretch:
    """The tokens of a part of the text: all that is left of it (``last``), or as many as one looks at together."""

    text: str
    places: list[Place]
    last: bool
    measure: Measure
    most: int
    overlap: int
    limit: int

    def pieces(self, reached: int) -> Iterator[tuple[Place, int]]:
        """Pieces and the character at which the next one begins, as far as the tokens are beyond doubt.

        Args:
            reached: The end of the piece before; each piece goes further.
        """
        first = 0
        done = next((at for at, place in enumerate(self.places) if place[0] >= reached), len(self.places))
        while first < len(self.places) and (self.last or first + self.most < len(self.places)):
            first, after = self._fitting(first, done)
            piece = self._piece(first, after)
            if after == len(self.places):
                if self.last and max(piece[0], reached) < piece[1]:
                    yield piece, len(self.text)
                return
            first, done = self._next(first, after, piece[0]), after
            if max(piece[0], reached) < piece[1]:  # else only white space, which some tokenizers have tokens for
                reached = piece[1]
                yield piece, self.places[first][0]

    def _fitting(self, first: int, done: int) -> tuple[int, int]:
        """The first token of a piece and the one after its last, so that the piece alone has few enough.

        Tokens shared with the piece before are given up where else it could not go further.
        """
        most = self.most
        while True:
            after = self._after(first, max(first, done), most)
            start, end = self._piece(first, after)
            excess = self.measure.length(self.text[start:end]) - self.limit
            if excess <= 0 or (most <= 1 and first >= done):
                return first, after
            most = min(most, after - first) - excess
            if most <= max(0, done - first):
                first, most = (done, self.most) if first < done else (first, 1)

    def _after(self, first: int, least: int, most: int) -> int:
        """Where a piece from ``first`` ends: behind token ``least``, and ``most`` tokens on at the latest."""
        high = first + most
        if high >= len(self.places):
            return len(self.places)
        good = range(high, max(least, first + most * 3 // 4), -1)
        found = next((at for at in good if self._blank(at)), None)
        if found is None:
            found = next((at for at in range(high, least, -1) if self._between(at)), None)
        if found is None:
            found = next((at for at in range(high, len(self.places)) if self._between(at)), len(self.places))
        return found

    def _next(self, first: int, after: int, start: int) -> int:
        """The first token of the piece after the one of these tokens, which begins with character ``start``."""
        shared = [at for at in range(max(after - self.overlap, first + 1), after) if self.places[at][0] > start]
        found = next((at for at in shared if self._blank(at)), None)
        if found is None:
            found = next((at for at in shared if self._between(at)), after)
        return found

    def _between(self, at: int) -> bool:
        """Whether token ``at`` begins behind the one before: of a character of several tokens only the first does."""
        return self.places[at][0] >= self.places[at - 1][1]

    def _blank(self, at: int) -> bool:
        """Whether white space is before token ``at``, or is what it begins with."""
        start = self.places[at][0]
        return self._between(at) and (self.text[start].isspace() or self.text[start - 1].isspace())

    def _piece(self, first: int, after: int) -> Place:
        """The characters of a piece; those between two tokens, which no token stands for, belong to the first."""
        start = self.places[first][0]
        end = len(self.text) if after == len(self.places) else self.places[after][0]
        return _black(self.text, start), _trimmed(self.text, start, end)


def _black(text: str, start: int) -> int:
    """The first character from ``start`` on that is not white space; the text's length where there is none."""
    found = _BLACK.search(text, start)
    return found.start() if found else len(text)


def _trimmed(text: str, start: int, end: int) -> int:
    """``end`` without the white space before it."""
    while end > start and text[end - 1].isspace():
        end -= 1
    return end
