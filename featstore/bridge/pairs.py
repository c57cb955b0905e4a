"""Pictures and their captions: from a column of the table, or from a file beside it."""

from __future__ import annotations

import csv
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from featstore.errors import NotFoundError, UsageError
from featstore.storage import frames, hashing
from featstore.tables import FeatureTable
from featstore.tables.where import nearest_column

__all__ = ["MOST", "Pairs", "read"]

MOST = 50_000
"""Pairs that are learned from at most, drawn by their hashes; a linear map gains nothing from more."""

_HINT = "A column of the table, or a .csv file with the columns item_id and caption."


@dataclass(frozen=True)
class Pairs:
    """n pictures with captions, ordered by ``item_id`` and caption.

    ``file`` and ``at`` say where a picture's vector lies, as ``FeatureTable.vectors`` takes them. ``item``,
    ``content`` and ``wording`` number the items, their contents and the captions.
    """

    captions: list[str]
    file: list[str]
    at: NDArray[np.int64]
    item: NDArray[np.int64]
    content: NDArray[np.int64]
    wording: NDArray[np.int64]
    without_caption: int
    without_item: int
    sampled: bool

    def __len__(self) -> int:
        return len(self.captions)

    def of(self, which: NDArray[np.int64]) -> Pairs:
        """The same for some of the pairs."""
        return Pairs(
            captions=[self.captions[at] for at in which.tolist()],
            file=[self.file[at] for at in which.tolist()],
            at=self.at[which],
            item=self.item[which],
            content=self.content[which],
            wording=self.wording[which],
            without_caption=self.without_caption,
            without_item=self.without_item,
            sampled=self.sampled,
        )


def read(features: FeatureTable, pairs: str | os.PathLike[str]) -> Pairs:
    """The pairs of a table.

    Captions of white space count as none, equal captions of one item as one. An item may have several.

    Args:
        features: The pictures.
        pairs: A column with captions; or a CSV file, UTF-8, with the columns ``item_id`` and ``caption``.

    Raises:
        NotFoundError: There is neither such a column nor such a file.
        UsageError: The column does not hold texts, or the file is not such a table.
        IntegrityError: A file of the table is damaged.
    """
    rows = features.rows(["item_id", "content_sha256"])
    ids = frames.strings(rows, "item_id")
    given = _in_column(features, ids, pairs) if os.fspath(pairs) in features.column_names else _in_file(features, pairs)
    row_of = {item: row for row, item in enumerate(ids)}
    known = {(item, caption) for item, caption in given if caption and item in row_of}
    found = sorted(known, key=lambda pair: _order(*pair))[:MOST] if len(known) > MOST else sorted(known)
    found.sort()
    where = np.array([row_of[item] for item, _ in found], np.int64)
    files, contents = rows["_file"].take(where), rows["content_sha256"].take(where)
    return Pairs(
        captions=[caption for _, caption in found],
        file=[str(file) for file in files.to_pylist()],
        at=np.asarray(rows["_row"].take(where).to_numpy(), np.int64),
        item=where,
        content=_numbered(contents.to_pylist()),
        wording=_numbered([" ".join(caption.casefold().split()) for _, caption in found]),
        without_caption=len(ids) - len({item for item, _ in known}),
        without_item=len({item for item, _ in given if item not in row_of}),
        sampled=len(known) > MOST,
    )


def _in_column(features: FeatureTable, ids: list[str], column: str | os.PathLike[str]) -> list[tuple[str, str]]:
    name = os.fspath(column)
    values: pa.ChunkedArray[Any] = features.rows([name])[name]
    if not (pa.types.is_string(values.type) or pa.types.is_large_string(values.type)):
        raise UsageError(f"--pairs {name}: the column holds {values.type}, not texts.", hint=_HINT)
    return [(item, (caption or "").strip()) for item, caption in zip(ids, values.to_pylist(), strict=True)]


def _in_file(features: FeatureTable, file: str | os.PathLike[str]) -> list[tuple[str, str]]:
    path = Path(file)
    if path.suffix.lower() != ".csv" and not path.is_file():
        error = nearest_column(os.fspath(file), features.column_names, asked=f"--pairs {file}")
        raise NotFoundError(error.message, hint=f"{error.hint} Or a .csv file with the columns item_id and caption.")
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            lines = csv.DictReader(stream, strict=True)
            missing = [name for name in ("item_id", "caption") if name not in (lines.fieldnames or ())]
            if missing:
                raise UsageError(f"--pairs {path}: the column '{missing[0]}' is missing.", hint=_HINT)
            return [((line["item_id"] or ""), (line["caption"] or "").strip()) for line in lines]
    except FileNotFoundError as error:
        raise NotFoundError(f"--pairs {path}: there is no such file.", hint=_HINT) from error
    except OSError as error:
        raise UsageError(f"--pairs {path} cannot be read: {error.strerror or error}.") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"--pairs {path}: byte {error.start} is not UTF-8.") from error
    except csv.Error as error:
        raise UsageError(f"--pairs {path} is no CSV table: {error}.", hint=_HINT) from error


def _order(item: str, caption: str) -> str:
    return hashing.of_bytes(f"{item}\0{caption}".encode("utf-8", "surrogatepass"))


def _numbered(values: list[Any]) -> NDArray[np.int64]:
    numbers: dict[Any, int] = {}
    return np.array([numbers.setdefault(value, len(numbers)) for value in values], np.int64)
