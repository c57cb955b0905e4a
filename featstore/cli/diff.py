"""Panel Look: ``diff``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from featstore.cli import console, heads
from featstore.cli.options import LOOK, Json, Quiet, StorePath, Verbose
from featstore.cli.stores import existing
from featstore.errors import UsageError

if TYPE_CHECKING:
    from featstore.records import Difference, DriftReport, NeighbourOverlap, TableVersion, VectorChanges

__all__ = ["register"]

_NEIGHBOURS = "Between two models"


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command(rich_help_panel=LOOK, short_help="Compare two versions of a table, two models or two heads.")(diff)


def diff(
    a: Annotated[str, typer.Argument(metavar="A", help="NAME\\[@MODEL][:VERSION] or HEAD[:VERSION], the older.")],
    b: Annotated[str, typer.Argument(metavar="B", help="NAME\\[@MODEL][:VERSION] or HEAD[:VERSION].")],
    examples: Annotated[int, typer.Option(metavar="N", help="How many items of each kind to name.")] = 10,
    k: Annotated[
        int, typer.Option("--k", metavar="N", help="Neighbours of each item.", rich_help_panel=_NEIGHBOURS)
    ] = 10,
    queries: Annotated[
        int,
        typer.Option(
            metavar="N", help="Items asked for their neighbours, always the same; 0: all.", rich_help_panel=_NEIGHBOURS
        ),
    ] = 1000,
    store: StorePath = None,
    json: Json = False,
    verbose: Verbose = False,
    quiet: Quiet = False,
) -> None:
    """$ featstore diff photos:0 photos

    Compares two versions of a table, or a table's vectors of two models.

    One model: which items came, went and changed, how far vectors have moved, and whether what came is of the kind
    that was there (drift: by its vectors, and by the classes that the table's heads see; from 200 new contents on).
    Two models: how far they agree on the nearest neighbours of each item.
    Two heads: how their figures differ on the test items that both have, with paired intervals.
    """
    opened = existing(store)
    a_head, b_head = heads.is_head(opened, a), heads.is_head(opened, b)
    if a_head != b_head:
        head, other = (a, b) if a_head else (b, a)
        raise UsageError(f"'{head}' is a head and '{other}' is none.", hint="Name two heads, or two tables.")
    if a_head:
        between = opened.diff_heads(a, b)
        console.emit(between) if json else heads.difference(between)
        return
    found = opened.diff(a, b, k=k, queries=queries, examples=examples)
    console.emit(found) if json else _report(found)


def _report(found: Difference) -> None:
    console.facts((("a", _side(found.a)), ("b", _side(found.b))))
    console.line(
        f"{found.common:,} in both, {found.added:,} added, {found.removed:,} removed, {found.changed:,} changed, "
        f"{found.updated:,} with other metadata"
    )
    if found.renamed:
        console.line(f"{found.renamed:,} of the added have the content of a removed one: renamed")
    for what, ids, count in (
        ("added", found.added_ids, found.added),
        ("removed", found.removed_ids, found.removed),
        ("changed", found.changed_ids, found.changed),
    ):
        if ids:
            console.line(f"{what}: {', '.join(map(console.plain, ids))}" + (", …" if count > len(ids) else ""))
    if found.updated_columns:
        console.line(
            "other metadata: " + ", ".join(f"{console.plain(c)} {n:,}" for c, n in found.updated_columns.items())
        )
    if found.vectors is not None:
        _vectors(found.vectors)
    if found.neighbours is not None:
        _neighbours(found.neighbours)
    if found.drift is not None:
        _drift(found.drift)
    if found.note:
        console.line(f"note: {console.plain(found.note)}")


def _vectors(moved: VectorChanges) -> None:
    if not moved.changed:
        console.line("vectors: the same in both")
        return
    console.line(
        f"vectors: {moved.changed:,} differ, {moved.same_content:,} of them with the same content; "
        f"cosine {_spread(moved.cosines)}"
    )
    if moved.worst:
        console.grid(
            ("moved most", "cosine", "content"),
            ((w.item_id, f"{w.cosine:.6f}", "changed" if w.content_changed else "the same") for w in moved.worst),
            right=("cosine",),
        )


def _drift(found: DriftReport) -> None:
    if not found.after:
        return
    if not found.enough:
        console.line(f"drift of what came: {found.note}")
        return
    least = min(measure.adjusted for measure in found.measures)
    verdict = "not of the kind" if found.drifted else "of the kind"
    console.line(
        f"drift: what came is {verdict} that was there "
        f"(p {least:.3f}, {found.before:,} contents before, {found.after:,} new)"
    )
    console.grid(
        ("measure", "effect", "without drift", "p", "what it is"),
        ((m.name, f"{m.effect:.3f}", f"{m.expected:.3f}", f"{m.p:.3f}", m.about) for m in found.measures),
        right=("effect", "without drift", "p"),
    )
    if found.drifted and found.shifted:
        console.line("most shifted: " + ", ".join(console.plain(item.item_id) for item in found.shifted))


def _neighbours(agreed: NeighbourOverlap) -> None:
    interval = "" if agreed.queries == agreed.items else f" [{agreed.low:.3f}–{agreed.high:.3f}]"
    console.line(
        f"neighbours: of the {agreed.k} nearest {agreed.mean:.3f}{interval} are the same in both, "
        f"asked for {agreed.queries:,} of {agreed.items:,} items; by chance {agreed.expected:.3f}"
    )
    console.line(f"overlap {_spread(agreed.quantiles)}")
    if agreed.changed_most:
        console.grid(
            ("changed most", "overlap", "only in a", "only in b"),
            (
                (q.item_id, f"{q.overlap:.2f}", ", ".join(q.only_a[:3]), ", ".join(q.only_b[:3]))
                for q in agreed.changed_most
            ),
            right=("overlap",),
        )


def _side(side: TableVersion) -> str:
    return f"{side.table}@{side.space_id}:{side.version}, {console.count(side.items, 'item')}"


def _spread(quantiles: dict[str, float]) -> str:
    names = {"0": "least", "0.05": "5 %", "0.5": "median", "0.95": "95 %", "1": "most"}
    return ", ".join(f"{name} {quantiles[key]:.4f}" for key, name in names.items())
