"""A split that came with the data: a column with words such as ``train``, ``val`` and ``test``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from featstore.errors import UsageError

__all__ = ["sides_of"]

_TRAIN = {"train", "training", "tr", "fit"}
_VALIDATION = {"val", "valid", "validation", "dev", "development"}
_TEST = {"test", "testing", "tst", "holdout", "hold-out", "eval", "evaluation"}


def sides_of(words: Sequence[str | None], column: str) -> list[bool | None]:
    """Whether each item is on the test side; None where nothing is said.

    Validation items count as training items: the folds validate.

    Args:
        words: (n,) what the column holds.
        column: Its name, for messages.

    Raises:
        UsageError: A word is not known, or one of the two sides has no items.
    """
    plain = [None if word is None else word.strip().casefold() for word in words]
    strange = Counter(
        str(word)
        for word, form in zip(words, plain, strict=True)
        if form is not None and form not in _TRAIN | _VALIDATION | _TEST
    )
    if strange:
        named = ", ".join(f"{word[:40]!r} ({count:,})" for word, count in strange.most_common(5))
        raise UsageError(
            f"--split {column}: {sum(strange.values()):,} items have a word that names no side: {named}.",
            hint=f"Sides are called train, val or test (or {', '.join(sorted(_TRAIN | _VALIDATION | _TEST))}).",
        )
    found = [None if form is None else form in _TEST for form in plain]
    counts = Counter(found)
    if not counts[True] or not counts[False]:
        raise UsageError(
            f"--split {column}: {counts[False]:,} labelled items are for training and {counts[True]:,} for the test.",
            hint="Name a column with both, or leave out --split and let featstore make the split.",
        )
    return found
