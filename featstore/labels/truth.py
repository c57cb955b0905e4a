"""Labels as numbers: which task they make, which classes there are, and what each item is."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featstore.errors import UsageError
from featstore.records import HeadTask

__all__ = ["Truth", "truth_of"]

# Whole numbers are classes where they are few, or number their classes without gaps.
_FEW, _MANY, _EACH = 20, 1_000, 10

_SEPARATORS = ("|", ";", ",")
_SHOWN = 60
# Squares of errors are summed, and a graph of the head computes in float32.
_LARGEST = 1e30


@dataclass(frozen=True)
class Truth:
    """What some items are.

    Attributes:
        task: What is to be predicted.
        classes: The classes in sorted order; none for regression.
        labelled: (n,) bool, whether anything is said of the item.
        values: Of the labelled items, m: (m,) int64 class numbers, (m, c) bool for multilabel, (m,) float64 for
            regression.
        notes: What was taken for granted, in words.
    """

    task: HeadTask
    classes: tuple[str, ...]
    labelled: NDArray[np.bool_]
    values: NDArray[Any]
    notes: tuple[str, ...] = ()


def truth_of(
    values: Sequence[Any], *, task: HeadTask | None = None, separator: str | None = None, where: str = "the labels"
) -> Truth:
    """Finds the task that labels make, and their numbers.

    Texts and bools are classes, floats are numbers, lists (as JSON text) are several labels. Whole numbers are classes
    where there are at most 20 of them, or where they count from 0 or 1 without gaps with ten items each on average;
    floats that are all whole are taken as whole numbers.

    Args:
        values: (n,) labels, None for none.
        task: What they shall be; by default what they look like.
        separator: What stands between several labels in one text; by default the first of ``|``, ``;`` and ``,``
            that occurs.
        where: What messages call the labels.

    Raises:
        UsageError: Nothing is labelled, or the labels cannot be what is asked.
    """
    labelled = np.array([value is not None for value in values], np.bool_)
    known = [value for value in values if value is not None]
    if not known:
        raise UsageError(
            f"{where}: none of {len(values):,} items has a label.", hint="Name the labels with --label or --labels."
        )
    notes: list[str] = []
    known = _whole(known)
    chosen = task or _task(known, notes)
    if chosen == "regression":
        return Truth("regression", (), labelled, _numbers(known, where), tuple(notes))
    if chosen == "multilabel":
        classes, several = _several(known, separator, where)
        if len(several) > 1 and several.all():
            named = ", ".join(repr(name[:_SHOWN]) for name in classes[:3]) + (", …" if len(classes) > 3 else "")
            raise UsageError(f"{where}: all {len(several):,} items have the same labels ({named}); nothing to learn.")
        return Truth("multilabel", classes, labelled, several, tuple(notes))
    classes, numbers = _classes(known, where)
    notes += _alike(classes)
    return Truth("classification", classes, labelled, numbers, tuple(notes))


def _whole(known: list[Any]) -> list[Any]:
    """Floats that are all whole as the integers that a null in their column has made floats of."""
    if any(isinstance(v, float) for v in known) and all(
        isinstance(v, int | float) and not isinstance(v, bool) and float(v).is_integer() for v in known
    ):
        return [int(value) for value in known]
    return known


def _task(known: list[Any], notes: list[str]) -> HeadTask:
    kinds = {type(value) for value in known}
    if kinds == {int}:
        distinct = set(known)
        dense = min(distinct) in (0, 1) and max(distinct) - min(distinct) == len(distinct) - 1
        if len(distinct) <= _FEW or (dense and len(distinct) <= _MANY and len(known) >= _EACH * len(distinct)):
            return "classification"
        notes.append(f"the labels are {len(distinct):,} different whole numbers: predicted as numbers (--task)")
        return "regression"
    if kinds <= {int, float}:
        return "regression"
    if all(isinstance(value, str) and value.startswith("[") and _listed(value) is not None for value in known):
        return "multilabel"
    return "classification"


def _classes(known: list[Any], where: str) -> tuple[tuple[str, ...], NDArray[np.int64]]:
    texts = [_text(value, where) for value in known]
    classes = tuple(sorted(set(texts)))
    numbers = {name: number for number, name in enumerate(classes)}
    return classes, np.array([numbers[text] for text in texts], np.int64)


def _several(known: list[Any], separator: str | None, where: str) -> tuple[tuple[str, ...], NDArray[np.bool_]]:
    lists = [_listed(value) if isinstance(value, str) else None for value in known]
    plain = [_text(value, where) for value, found in zip(known, lists, strict=True) if found is None]
    if separator is None:
        separator = next((mark for mark in _SEPARATORS if any(mark in text for text in plain)), None)
    sets = []
    for value, found in zip(known, lists, strict=True):
        text = _text(value, where)
        parts = found if found is not None else text.split(separator) if separator else [text]
        sets.append({part.strip() for part in parts if part.strip()})
    classes = tuple(sorted(set().union(*sets)))
    if not classes:
        raise UsageError(f"{where}: every list of labels is empty.")
    numbers = {name: number for number, name in enumerate(classes)}
    truth = np.zeros((len(sets), len(classes)), np.bool_)
    for row, names in enumerate(sets):
        truth[row, [numbers[name] for name in names]] = True
    return classes, truth


def _numbers(known: list[Any], where: str) -> NDArray[np.float64]:
    found = np.empty(len(known))
    for at, value in enumerate(known):
        try:
            found[at] = float(value)
            if math.isnan(found[at]):
                raise ValueError("NaN")
        except (TypeError, ValueError, OverflowError) as error:
            raise UsageError(
                f"{where}: {str(value)[:_SHOWN]!r} is no number, and the task is regression.",
                hint="Leave out --task, or name another column.",
            ) from error
    endless = np.flatnonzero(~np.isfinite(found))
    if len(endless):
        raise UsageError(f"{where}: {len(endless):,} labels are infinite; no head can predict that.")
    if np.abs(found).max() > _LARGEST:
        raise UsageError(
            f"{where}: the largest label is {found[np.abs(found).argmax()]:g}; heads take numbers up to {_LARGEST:g}.",
            hint="Give them in another unit, or as logarithms.",
        )
    if len(found) > 1 and found.min() == found.max():
        raise UsageError(f"{where}: all {len(found):,} labels are {found[0]:g}; there is nothing to learn.")
    return found


def _text(value: Any, where: str) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if not isinstance(value, str | int | float):
        raise UsageError(f"{where}: a label is a {type(value).__name__}; texts, numbers and lists can be labels.")
    return str(value)


def _listed(text: str) -> list[str] | None:
    """The texts of a JSON list; None where the text is none, or holds something else than texts and numbers."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(found, list) or not all(isinstance(part, str | int | float) for part in found):
        return None
    return [part if isinstance(part, str) else json.dumps(part) for part in found]


def _alike(classes: tuple[str, ...]) -> list[str]:
    """Classes that a person would read as one."""
    seen: dict[str, str] = {}
    pairs = []
    for name in classes:
        plain = " ".join(name.casefold().split())
        if plain in seen:
            pairs.append(f"{seen[plain][:_SHOWN]!r} and {name[:_SHOWN]!r}")
        seen.setdefault(plain, name)
    if not pairs:
        return []
    return [f"classes that differ only in case or blanks: {', '.join(pairs[:3])}{', …' if len(pairs) > 3 else ''}"]
