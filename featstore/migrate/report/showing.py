"""The page's sections on what was compared: heads, retrieval, neighbours, scores."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from featstore.migrate.report.contact import contact
from featstore.migrate.report.forest import Row, forest
from featstore.migrate.report.gates import NDCG
from featstore.migrate.report.sheet import Sheet
from featstore.records import Estimate, Evaluation, HeadMove, NeighbourOverlap, Score, ScoreMap, ScoreQuantile
from featstore.reports.charts import curve, histogram
from featstore.reports.figures import between, count, metric, written
from featstore.reports.markup import Markup, element, plain
from featstore.reports.pieces import Cell, Column, figure, item, section, table

__all__ = ["heads", "neighbours", "retrieval", "scores"]


def heads(moves: Sequence[HeadMove]) -> Markup:
    """Each head before and after."""
    intro = (
        "Fitted anew on the new vectors, on the same split. Both are asked about the same test items, each with the "
        "vectors of its own space; none of the items is one that either has learned from. Intervals are of 95 %, the "
        "difference is paired by item."
    )
    if not moves:
        return section("heads", "Heads", "No head is published with the table.")
    rows, notes = [], []
    for move in moves:
        rows += [_head_row(move, name) for name in move.difference or (move.main,)]
        if move.note:
            notes.append(f"{plain(move.head, 60)}: {plain(move.note, 400)}")
    columns = [
        Column("head"),
        Column("figure"),
        Column("items", True),
        Column("old", True),
        Column("new", True),
        Column("new − old", True),
    ]
    drawn = [Row(f"{one.head} {one.main}", one.difference[one.main]) for one in moves if one.main in one.difference]
    picture = forest("forest", "New minus old, the main figure of each head", drawn)
    shown = figure("New minus old", "The main figure of each head, and its paired 95 % interval.", picture)
    listed = element("ul.words", None, *(element("li", None, note) for note in notes))
    return section(
        "heads",
        "Heads",
        intro,
        shown if picture else "",
        table("Figures on the same test items", "", columns, rows),
        listed if notes else "",
    )


def _head_row(move: HeadMove, name: str) -> list[str | Cell]:
    share = metric(name).share
    apart = move.difference.get(name)
    main = element("b", None, metric(name).name) if name == move.main else metric(name).name
    return [
        item(move.head, 60),
        main if name else "–",
        f"{move.items:,}",
        _estimate(move.figures_before.get(name), share=share),
        _estimate(move.figures_after.get(name), share=share),
        "–" if apart is None else f"{_signed(apart.value)} ({between(apart, share=False)})",
    ]


def _estimate(found: Estimate | None, *, share: bool) -> str:
    return "–" if found is None else f"{written(found.value, share=share)} ({between(found, share=share)})"


def retrieval(found: Evaluation | None) -> Markup:
    """How well both answer the same queries."""
    if found is None or found.b is None or not found.difference:
        return Markup()
    rows = []
    for way in ("exact", "index"):
        a, b = found.a.metrics.get(way, {}), found.b.metrics.get(way, {})
        for name in dict.fromkeys([*a, *b]):
            apart = found.difference.get(name) if way == "exact" else None
            rows.append([f"{name}, {way}", _score(a.get(name)), _score(b.get(name)), _apart(apart)])
    columns = [Column("figure"), Column("old", True), Column("new", True), Column("new − old", True)]
    drawn = [Row(name, Estimate(value=s.mean, low=s.low, high=s.high)) for name, s in found.difference.items()]
    picture = forest("retrieval-forest", "New minus old, exact search", drawn)
    worst = [
        [
            item(one.query, 60),
            item(one.text, 120),
            f"{one.a:.3f}",
            f"{one.b:.3f}",
            _names(one.first_a),
            _names(one.first_b),
        ]
        for one in found.worst[:10]
    ]
    lost = table(
        "Queries that lost most",
        f"By {found.worst_by or NDCG}, with what each model finds first.",
        [Column("query"), Column("text"), Column("old", True), Column("new", True), Column("old"), Column("new")],
        worst,
    )
    judged = f"{count(found.queries, 'query')}, {count(found.judgements, 'judgement')}, paired by query."
    return section(
        "retrieval",
        "Retrieval",
        judged,
        figure("New minus old", "By exact search, with the paired 95 % interval.", picture),
        table("Figures", "", columns, rows),
        lost if worst else "",
    )


def _score(found: Score | None) -> str:
    return "–" if found is None else f"{found.mean:.3f} ({found.low:.3f} to {found.high:.3f})"


def _apart(found: Score | None) -> str:
    if found is None:
        return "–"
    return f"{_signed(found.mean)} ({written(found.low, share=False)} to {written(found.high, share=False)})"


def _signed(value: float) -> str:
    shown = written(value, share=False)
    return f"+{shown}" if value > 0 and shown.strip("0.") else shown


def _names(names: Sequence[str]) -> str:
    return plain(", ".join(names), 120) if names else "–"


def neighbours(found: NeighbourOverlap | None, shares: Sequence[float], sheet: Sheet | None) -> Markup:
    """How far both agree on what is near what, and where they agree least."""
    if found is None:
        return Markup()
    interval = "" if found.queries == found.items else f" ({found.low:.3f} to {found.high:.3f})"
    intro = (
        f"Of an item's {found.k} nearest, {found.mean:.3f}{interval} are the same in both spaces on average; by chance "
        f"it would be {found.expected:.3f}. Asked for {count(found.queries, 'item')} among {found.items:,}, exactly. A "
        "low overlap says that the two differ, not which of them is right."
    )
    k = found.k
    counts = np.bincount(np.rint(np.array(shares) * k).astype(np.int64), minlength=k + 1)
    edges = [(at - 0.5) / k for at in range(k + 2)]
    bars = histogram(
        "overlap", "Overlap of the nearest", edges, [(int(one), 0) for one in counts], "share of the nearest in both"
    )
    rows = [[f"{float(share):.0%}", f"{value:.2f}"] for share, value in found.quantiles.items()]
    listed = table("Its quantiles", "", [Column("of the items"), Column("at most", True)], rows)
    parts = [element("div.pair", None, figure("Overlap of the nearest", "A bar: so many items.", bars), listed)]
    if sheet is not None and sheet.lines:
        parts.append(contact(sheet))
    return section("neighbours", "Neighbours", intro, *parts)


def scores(found: ScoreMap | None) -> Markup:
    """What a threshold on the score becomes."""
    if found is None:
        return Markup()
    intro = (
        f"Cosines of {count(found.queries, 'item')} as queries, and of {count(found.pairs, 'pair')} drawn by chance, "
        "each by its own space's ranking. A threshold that an application holds against scores becomes the one in the "
        "same row: it lets through as many."
    )
    kinds = (
        ("best", "the nearest", found.best),
        ("tenth", "the tenth nearest", found.tenth),
        ("random", "any two items", found.random),
    )
    pictures, columns = [], [Column("scores up to")]
    for name, words, quantiles in kinds:
        if not quantiles:
            continue
        columns += [Column(f"{words}, old", True), Column("new", True)]
        points = [(one.before, one.after) for one in quantiles]
        drawn = curve(f"scores-{name}", words, points, across="old score", up="new score", share=False)
        pictures.append(figure(words[0].upper() + words[1:], "Each point is a quantile.", drawn))
    rows = [_quantile_row([quantiles[at] for _, _, quantiles in kinds if quantiles]) for at in range(len(found.best))]
    return section(
        "scores",
        "Thresholds",
        intro,
        element("div.pair", None, *pictures),
        table("Scores, old and new", "Quantiles: so large a share of the scores is at most this.", columns, rows),
    )


def _quantile_row(found: Sequence[ScoreQuantile]) -> list[str]:
    figures = [written(value, share=False) for one in found for value in (one.before, one.after)]
    return [f"{found[0].share:.0%}", *figures]
