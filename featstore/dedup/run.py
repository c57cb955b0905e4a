"""One dedup: group, name the representatives, write what was asked for."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from featstore.dedup import sheets
from featstore.dedup.grouping import Grouped, check, group
from featstore.dedup.members import members
from featstore.errors import NotFoundError, SettingsError, UsageError
from featstore.extract import previews
from featstore.extract.progress import Reporter
from featstore.layout import Layout
from featstore.records import DuplicateGroup, DuplicateItem, DuplicateReport, ModelCard, TableVersion
from featstore.storage import durable
from featstore.tables import FeatureTable, past

if TYPE_CHECKING:
    import polars as pl

__all__ = ["dedup", "duplicates"]

_TEXT = 80


def duplicates(layout: Layout, features: FeatureTable, *, threshold: float | None = None) -> pl.DataFrame:
    """Every item that has a twin, with its group; what ``dedup`` writes into a file.

    Args:
        layout: The store.
        features: The table.
        threshold: The cosine from which two items are near; by default from the data.

    Returns:
        ``group`` (int64, from 0, the largest first), ``items`` (int64, how many it has), ``item_id``,
        ``content_sha256``, ``representative`` (an item_id), ``score`` (float64, the cosine to it) and ``exact``
        (whether the content is the representative's).

    Raises:
        SettingsError: The threshold is no cosine above 0.
        NotFoundError: The version's files are no longer kept.
        IntegrityError: A file is missing or damaged.
    """
    past.check_kept(layout, features)
    return _complete(features, members(group(features, threshold)))


def dedup(
    layout: Layout,
    features: FeatureTable,
    card: ModelCard,
    *,
    threshold: float | None = None,
    output: str | os.PathLike[str] | None = None,
    png: str | os.PathLike[str] | None = None,
    examples: int = 10,
    reporter: Reporter | None = None,
) -> DuplicateReport:
    """Finds the groups of equal and nearly equal items; changes nothing in the store.

    Args:
        layout: The store.
        features: The table.
        card: The card of its model.
        threshold: The cosine from which two items are near; by default from the data.
        output: A Parquet or CSV file for all items that have a twin.
        png: A contact sheet of the largest groups, for images.
        examples: How many groups are named and drawn.
        reporter: Told of progress.

    Raises:
        SettingsError: The threshold is no cosine above 0, or ``examples`` is negative.
        UsageError: A file cannot be written so, or there.
        NotFoundError: The version's files are no longer kept.
        IntegrityError: A file is missing or damaged.
        StorageError: The disk refused.
    """
    started = time.monotonic()
    if examples < 0:
        raise SettingsError(f"examples is {examples}; it must be at least 0.")
    check(threshold)
    if features.version is None:
        raise NotFoundError(f"table '{features.name}' has no version yet.")
    table = None if output is None else _place(layout, output, (".parquet", ".csv"), "--output")
    sheet = None if png is None else _place(layout, png, (".png",), "--png")
    if sheet is not None and card.modality != "image":
        raise UsageError(f"{features.name} holds texts, so there is nothing to draw.", hint="Use --output FILE.csv.")
    past.check_kept(layout, features)
    reporter = reporter or Reporter()
    reporter.stage("comparing", len(features))
    found = group(features, threshold, done=reporter.advance)
    frame = _complete(features, members(found))
    if table is not None:
        with durable.replacing(table) as file:
            frame.write_parquet(file) if table.suffix.lower() == ".parquet" else frame.write_csv(file)
    largest, contents = _largest(layout, features, frame, examples, texts=card.modality == "text")
    if sheet is not None:
        sheets.draw(sheet, largest, contents, previews.find(layout, features.name, contents.values()))
    groups = int(frame["group"].n_unique())
    return DuplicateReport(
        table=TableVersion(
            table=features.name,
            space_id=features.space_id,
            version=features.version,
            items=len(features),
            dim=features.dim,
        ),
        threshold=None if found.threshold is None else found.threshold.cosine,
        rule=None if found.threshold is None else found.threshold.rule,
        contents=int(found.content.max(initial=-1)) + 1,
        groups=groups,
        items=len(frame),
        surplus=len(frame) - groups,
        exact_surplus=len(found.ids) - (int(found.content.max(initial=-1)) + 1),
        chained=_chained(found, frame),
        largest=largest,
        path=None if table is None else str(table),
        png=None if sheet is None else str(sheet),
        seconds=time.monotonic() - started,
    )


def _complete(features: FeatureTable, frame: pl.DataFrame) -> pl.DataFrame:
    """The frame with each item's content hash instead of its row."""
    import polars as pl

    hashes = features.rows(["content_sha256"])["content_sha256"].take(frame["row"].to_numpy())
    content = pl.Series("content_sha256", hashes.to_pylist(), dtype=pl.String)
    return frame.with_columns(content).select(
        "group", "items", "item_id", "content_sha256", "representative", "score", "exact"
    )


def _largest(
    layout: Layout, features: FeatureTable, frame: pl.DataFrame, examples: int, *, texts: bool
) -> tuple[tuple[DuplicateGroup, ...], dict[str, str]]:
    """The first groups and the content hashes of the items that are named in them."""
    import polars as pl

    named = frame.filter(pl.col("group") < examples)
    first = named.group_by("group", maintain_order=True).head(sheets.SHOWN)
    contents = dict(zip(first["item_id"].to_list(), first["content_sha256"].to_list(), strict=True))
    beginnings = previews.find(layout, features.name, contents.values()) if texts else {}
    found = []
    for (_,), part in named.group_by(["group"], maintain_order=True):
        shown = part.head(sheets.SHOWN)
        found.append(
            DuplicateGroup(
                items=len(part),
                contents=part["content_sha256"].n_unique(),
                lowest=float(part["score"].to_numpy().min()),
                first=tuple(
                    DuplicateItem(item_id=item, score=score, exact=exact, text=_beginning(beginnings.get(content)))
                    for item, score, exact, content in shown.select(
                        "item_id", "score", "exact", "content_sha256"
                    ).iter_rows()
                ),
            )
        )
    return tuple(found), contents


def _beginning(preview: bytes | None) -> str | None:
    return None if preview is None else preview.decode("utf-8", "replace")[:_TEXT]


def _chained(found: Grouped, frame: pl.DataFrame) -> int:
    """How many groups hold an item that is not near the representative itself, only through others."""
    if found.threshold is None:
        return 0
    far = frame["score"].to_numpy() < found.threshold.cosine - 1e-6
    return len(np.unique(frame["group"].to_numpy()[far & ~frame["exact"].to_numpy()]))


def _place(layout: Layout, path: str | os.PathLike[str], suffixes: tuple[str, ...], flag: str) -> Path:
    target = Path(os.path.abspath(os.path.expanduser(path)))
    if target.suffix.lower() not in suffixes:
        raise UsageError(f"{flag} {target}: the name must end in {' or '.join(suffixes)}.")
    if target.is_dir():
        raise UsageError(f"{flag} {target} is a folder; name a file.")
    if Path(os.path.realpath(target)).is_relative_to(os.path.realpath(layout.storage.root)):
        raise UsageError(f"{flag} {target} lies within the store; write the file somewhere else.")
    return target
