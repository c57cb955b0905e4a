"""Panel Make: ``search``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from featstore.cli import console
from featstore.cli.options import MAKE, Json, Quiet, StorePath, Verbose, volume
from featstore.cli.stores import existing

if TYPE_CHECKING:
    import pyarrow as pa

    from featstore.layout import Layout
    from featstore.search.searcher import Answer, Searcher

__all__ = ["register"]

_ASKED = "What is asked (at least one of these; all but --vectors and --queries may be repeated)"
_WHICH = "Which hits"
_FORM = "In which form"

_SNIPPET = 80
_CELL = 40


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command(rich_help_panel=MAKE, short_help="Find the items nearest to a picture, text, item or vector.")(search)


def search(
    address: Annotated[str, typer.Argument(metavar="NAME", help="NAME\\[@MODEL][:VERSION].")],
    image: Annotated[list[Path] | None, typer.Option(metavar="FILE", help="A picture.", rich_help_panel=_ASKED)] = None,
    text: Annotated[list[str] | None, typer.Option(metavar="TEXT", help="A text.", rich_help_panel=_ASKED)] = None,
    id: Annotated[
        list[str] | None, typer.Option(metavar="ITEM_ID", help="An item of the table.", rich_help_panel=_ASKED)
    ] = None,
    vectors: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Vectors: .npy or Parquet.", rich_help_panel=_ASKED)
    ] = None,
    queries: Annotated[
        str | None,
        typer.Option(
            metavar="FILE|FOLDER|-",
            help="A folder of pictures or texts; a text a line; JSON lines with _id and text.",
            rich_help_panel=_ASKED,
        ),
    ] = None,
    k: Annotated[int, typer.Option("-k", "--k", metavar="N", help="Hits of each query.", rich_help_panel=_WHICH)] = 10,
    where: Annotated[
        str | None,
        typer.Option(metavar="SQL", help="Only items for which it holds: \"label = 'cat'\".", rich_help_panel=_WHICH),
    ] = None,
    not_id: Annotated[
        list[str] | None,
        typer.Option(metavar="ITEM_ID", help="Not this item; may be repeated.", rich_help_panel=_WHICH),
    ] = None,
    min_score: Annotated[
        float | None, typer.Option(metavar="COSINE", help="Only hits with at least this.", rich_help_panel=_WHICH)
    ] = None,
    group_by: Annotated[
        str | None,
        typer.Option(
            metavar="COLUMN",
            help="Of each of its values the best item only. Default: each text once where it is cut into chunks; "
            "item_id gives every chunk.",
            show_default=False,
            rich_help_panel=_WHICH,
        ),
    ] = None,
    exact: Annotated[
        bool, typer.Option("--exact", help="Compare with every vector, not through the index.", rich_help_panel=_WHICH)
    ] = False,
    output: Annotated[
        Path | None,
        typer.Option(
            "-o", "--output", metavar="FILE", help="Write the hits: .parquet, .csv or .json.", rich_help_panel=_FORM
        ),
    ] = None,
    html: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write a page to look at.", rich_help_panel=_FORM)
    ] = None,
    png: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write a contact sheet of pictures.", rich_help_panel=_FORM)
    ] = None,
    open_: Annotated[bool, typer.Option("--open", help="Show the page in the browser.", rich_help_panel=_FORM)] = False,
    model: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL",
            help="Ask with another model of the store, through its bridge to the table's (featstore bridge --onto).",
            show_default=False,
        ),
    ] = None,
    device: Annotated[
        str | None, typer.Option(help="auto, cpu, cuda or cuda:N, to embed the queries.", show_default=False)
    ] = None,
    store: StorePath = None,
    json: Json = False,
    verbose: Verbose = False,
    quiet: Quiet = False,
) -> None:
    """$ featstore search photos --image photos/0003.jpg -k 3

    Finds the items nearest to a picture, a text, an item or a vector, by cosine.

    Goes through the table's index where it has one (featstore index), else compares with every vector.
    A text finds pictures where the model has two towers, or through a bridge (featstore bridge).
    With --model queries are embedded by another model and go through the bridge from its space to the table's.
    A query that cannot be read is named on stderr; the others are answered.
    """
    from featstore.cli.progress import reporting
    from featstore.search import saving

    opened = existing(store)
    with reporting(quiet=volume.quiet) as reporter:
        searcher = opened.table(address).searcher(device=device, progress=reporter.message, model=model)
        page = _page(html, png) if open_ else html
        saving.places(opened.layout, searcher, output=output, html=page, png=png)
        asked = searcher.gather(text=text, image=image, id=id, vectors=vectors, queries=queries)
        answer = searcher.answer(
            asked,
            k=k,
            where=where,
            not_id=not_id or (),
            min_score=min_score,
            group_by=group_by,
            exact=exact,
        )
    for query, error in answer.refused:
        console.complain(f"refused: {console.plain(query.name)}: {console.plain(error.message)}")
    for note in answer.notes:
        console.complain(f"note: {console.plain(note)}")
    found = searcher.hits(answer)
    written = searcher.save(answer, found, output=output, html=page, png=png) if output or page or png else []
    if json:
        _emit(found)
    elif not written or open_:
        _show(opened.layout, searcher, answer, found)
    if not volume.quiet:
        _close(searcher, answer, found, written)
    if open_:
        _open(page or png)


def _page(html: Path | None, png: Path | None) -> Path | None:
    """What to show where only ``--open`` was said."""
    import tempfile

    if html is not None or png is not None:
        return html
    return Path(tempfile.mkdtemp(prefix="featstore-search-")) / "hits.html"


def _open(path: Path | None) -> None:
    import webbrowser

    assert path is not None
    if not webbrowser.open(path.absolute().as_uri()):
        console.complain(f"no browser could be started; open {console.plain(str(path))}")


def _emit(found: pa.Table) -> None:
    import json

    from featstore.search.result import plain_rows

    console.line(json.dumps(list(plain_rows(found)), indent=2, allow_nan=False))


def _show(layout: Layout, searcher: Searcher, answer: Answer, found: pa.Table) -> None:
    from featstore.search.looks import one_line, shown_columns, snippets

    columns = shown_columns(found)
    texts = snippets(layout, searcher, found)
    cells = [
        [_short(one_line("" if value is None else str(value)), _CELL) for value in found[name].to_pylist()]
        for name in columns
    ]
    ranks, scores, ids = (found[name].to_pylist() for name in ("rank", "score", "item_id"))
    begin = 0
    for query, (rows, _) in zip(answer.queries, answer.hits, strict=True):
        end = begin + len(rows)
        if len(answer.queries) > 1:
            console.line(("\n" if begin else "") + console.plain(_short(one_line(query.name), _SNIPPET)))
        if not len(rows):
            console.line("no hits")
        else:
            headings = ["rank", "score", "item_id", *columns, *(["text"] if any(texts) else [])]
            table = zip(
                ranks[begin:end],
                (f"{score:.4f}" for score in scores[begin:end]),
                ids[begin:end],
                *(cell[begin:end] for cell in cells),
                *([[_short(text, _SNIPPET) for text in texts[begin:end]]] if any(texts) else []),
                strict=True,
            )
            console.grid(headings, table, right=("rank", "score"))
        begin = end


def _close(searcher: Searcher, answer: Answer, found: pa.Table, written: list[Path]) -> None:
    table = searcher.table
    at = console.plain(f"{table.name}@{table.space_id}:{table.version}")
    how = "exactly" if answer.how == "exact" else f"by the index ({answer.how})"
    for path in written:
        console.complain(f"wrote {console.plain(str(path))}")
    console.complain(f"{at}, {console.count(len(table), 'item')}: searched {how} in {answer.seconds:,.2f} s")


def _short(text: str, length: int) -> str:
    return text if len(text) <= length else f"{text[: length - 1]}…"
