"""The queries of an evaluation, and which of them are asked."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from featstore.errors import NotFoundError, StorageError, UsageError
from featstore.evaluate.judgements import Judgements
from featstore.records import Modality
from featstore.search import Query
from featstore.search import files as query_files

__all__ = ["Asked", "ask", "read"]


@dataclass(frozen=True)
class Asked:
    """The queries that are asked.

    Attributes:
        queries: In the order of their file.
        unjudged: How many others are there, which no judgement calls an item relevant to.
        without_text: How many queries have a relevant item, but are not in the file.
    """

    queries: tuple[Query, ...]
    unjudged: int
    without_text: int


def read(path: Path, modality: Modality) -> list[Query]:
    """Reads queries.

    Args:
        path: What ``search --queries`` takes, or a ``.tsv`` file of lines ``ID<tab>TEXT``, as MS MARCO and TREC
            have them.
        modality: What the table holds.

    Raises:
        NotFoundError: There is no such file.
        UsageError: It holds no query, or a line that is none, or two of one id.
        StorageError: It cannot be read.
    """
    if path.suffix.lower() != ".tsv":
        found = query_files.read(path, modality)
    else:
        found = []
        for number, line in enumerate(_text(path).split("\n"), 1):
            if line.strip():
                name, tab, text = line.removesuffix("\r").partition("\t")
                if not tab or not name.strip() or not text.strip():
                    raise UsageError(
                        f"{path}, line {number} is no query.", hint="A line of a .tsv file is ID<tab>TEXT."
                    )
                found.append(Query(name.strip(), "text", text.strip()))
        if not found:
            raise UsageError(f"{path} holds no query.", hint="A line of a .tsv file is ID<tab>TEXT.")
    name, count = Counter(query.name for query in found).most_common(1)[0]
    if count > 1:
        raise UsageError(f"{path}: the query '{name}' stands there {count} times.", hint="An id names one query.")
    return found


def ask(queries: Sequence[Query], judgements: Judgements | None) -> Asked:
    """Which queries are asked: those with a relevant item, or all where nothing is judged.

    Raises:
        UsageError: No query is judged.
    """
    if judgements is None:
        return Asked(tuple(queries), 0, 0)
    judged = {query for query, items in judgements.items() if any(grade > 0 for grade in items.values())}
    asked = tuple(query for query in queries if query.name in judged)
    if not asked:
        raise UsageError(
            f"none of the {len(queries):,} queries has a relevant item among the judgements of {len(judgements):,}.",
            hint=f"The ids must be the same: a query is called '{queries[0].name}', "
            f"a judgement is of '{next(iter(judgements))}'.",
        )
    return Asked(asked, len(queries) - len(asked), len(judged - {query.name for query in asked}))


def _text(path: Path) -> str:
    try:
        return path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError as error:
        raise NotFoundError(f"there is no file {path} to read queries from.") from error
    except OSError as error:
        raise StorageError(f"cannot read {path}: {error.strerror or error}.") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"{path} is not UTF-8: byte {error.start:,}.") from error
