"""Files of an answer: all names are looked at before the first is written."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from featstore.errors import UsageError
from featstore.layout import Layout
from featstore.search import outputs, sheets
from featstore.search.looks import looks
from featstore.storage import durable

if TYPE_CHECKING:
    import pyarrow as pa

    from featstore.search.searcher import Answer, Searcher

__all__ = ["places", "save"]

_HTML, _PNG = (".html", ".htm"), (".png",)


def save(
    layout: Layout,
    searcher: Searcher,
    answer: Answer,
    found: pa.Table | None,
    *,
    output: str | os.PathLike[str] | None,
    html: str | os.PathLike[str] | None,
    png: str | os.PathLike[str] | None,
) -> list[Path]:
    """As ``Searcher.save``."""
    table, page, picture = places(layout, searcher, output=output, html=html, png=png)
    found = searcher.hits(answer) if found is None else found
    at = f"{searcher.table.name}@{searcher.table.space_id}:{searcher.table.version}"
    if table is not None:
        origin = {
            "table": searcher.table.name,
            "space_id": searcher.table.space_id,
            "version": searcher.table.version,
            "search": answer.how,
        }
        outputs.write(found, table, dict(origin))
    seen = looks(layout, searcher, answer, found) if page or picture else []
    if page is not None:
        with durable.replacing(page) as file:
            file.write(sheets.as_html(at, f"{len(answer.queries):,} queries, {found.num_rows:,} hits", seen))
    if picture is not None:
        with durable.replacing(picture) as file:
            file.write(sheets.as_png(seen))
    return [path for path in (table, page, picture) if path is not None]


def places(
    layout: Layout,
    searcher: Searcher,
    *,
    output: str | os.PathLike[str] | None,
    html: str | os.PathLike[str] | None,
    png: str | os.PathLike[str] | None,
) -> tuple[Path | None, Path | None, Path | None]:
    """Where the files are to be written; to be asked before any work is done for them.

    Raises:
        UsageError: One cannot be written so.
    """
    if png is not None and searcher.card.modality != "image":
        raise UsageError(
            f"a PNG shows pictures, and '{searcher.table.name}' holds texts.", hint="Write a page: --html FILE.html"
        )
    return _place(layout, output, outputs.SUFFIXES), _place(layout, html, _HTML), _place(layout, png, _PNG)


def _place(layout: Layout, path: str | os.PathLike[str] | None, suffixes: tuple[str, ...]) -> Path | None:
    if path is None:
        return None
    target = Path(os.path.abspath(os.path.expanduser(path)))
    if target.suffix.lower() not in suffixes:
        raise UsageError(f"{target}: the name of this file ends in {' or '.join(suffixes)}.")
    if target.is_dir():
        raise UsageError(f"{target} is a folder; name a file.")
    if Path(os.path.realpath(target)).is_relative_to(os.path.realpath(layout.storage.root)):
        raise UsageError(f"{target} lies within the store; write the file somewhere else.")
    return target
