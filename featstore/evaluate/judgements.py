"""Relevance judgements: which item answers which query, as TREC and BEIR write them down."""

from __future__ import annotations

import math
from pathlib import Path

from featstore.errors import NotFoundError, StorageError, UsageError

__all__ = ["Judgements", "read"]

Judgements = dict[str, dict[str, int]]
"""By query and item the relevance: 0 or less for irrelevant, the higher the better."""

_SHAPE = "A line is QUERY<tab>ITEM<tab>RELEVANCE (BEIR, a header may stand above), or QUERY 0 ITEM RELEVANCE (TREC)."


def read(path: Path) -> Judgements:
    """Reads judgements.

    Fields are parted by tabs where a line has any, so that ids may hold blanks; else by white space.

    Args:
        path: A file of lines ``query item relevance``, with or without a header, or ``query iteration item relevance``.

    Raises:
        NotFoundError: There is no such file.
        UsageError: It holds no judgement, a line that is none, or two that contradict each other; the line is named.
        StorageError: It cannot be read.
    """
    found: Judgements = {}
    for number, line in enumerate(_text(path).split("\n"), 1):
        if not line.strip():
            continue
        fields = [field.strip() for field in (line.split("\t") if "\t" in line else line.split())]
        if len(fields) not in (3, 4):
            raise UsageError(f"{path}, line {number}: {len(fields)} fields; 3 or 4 were expected.", hint=_SHAPE)
        query, item, grade = fields[0], fields[-2], fields[-1]
        relevance = _relevance(grade)
        if relevance is None:
            if number == 1 and not any(character.isdigit() for character in grade):
                continue  # a header
            raise UsageError(f"{path}, line {number}: the relevance is '{grade}', not a whole number.", hint=_SHAPE)
        if found.setdefault(query, {}).setdefault(item, relevance) != relevance:
            raise UsageError(
                f"{path}, line {number}: '{item}' is of relevance {relevance} to the query '{query}', "
                f"and of {found[query][item]} on another line."
            )
    if not found:
        raise UsageError(f"{path} holds no judgement.", hint=_SHAPE)
    return found


def _relevance(grade: str) -> int | None:
    try:
        value = float(grade)
    except ValueError:
        return None
    return int(value) if math.isfinite(value) and value == int(value) else None


def _text(path: Path) -> str:
    try:
        return path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError as error:
        raise NotFoundError(f"there is no file {path} to read judgements from.") from error
    except OSError as error:
        raise StorageError(f"cannot read {path}: {error.strerror or error}.") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"{path} is not UTF-8: byte {error.start:,}.") from error
