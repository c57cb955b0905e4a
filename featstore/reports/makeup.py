"""What the head learnt from, and the cards of head and model: all that is needed to make it again."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from featstore.records import HeadCard, ModelCard
from featstore.reports.axes import WIDTH, chart
from featstore.reports.figures import count, day
from featstore.reports.markup import Markup, element, plain
from featstore.reports.pieces import Cell, Column, facts, figure, item, key, section, table
from featstore.reports.predictions import on_test

if TYPE_CHECKING:
    import polars as pl

__all__ = ["cards", "makeup"]


def makeup(card: HeadCard, frame: pl.DataFrame) -> Markup:
    """The section on items, groups and sides."""
    test = on_test(frame)
    group = frame["group"].to_numpy()
    fold = frame["fold"].fill_null(-1).to_numpy()
    total = max(1, len(test))

    def row(name: str, mask: NDArray[np.bool_]) -> tuple[str | Cell, ...]:
        items, groups = int(mask.sum()), len(np.unique(group[mask]))
        share = Cell(f"{items / total:.1%}", items / total)
        return name, Cell(f"{items:,}", items), Cell(f"{groups:,}", groups), share

    numbers = [number for number in np.unique(fold[~test]).tolist() if number >= 0]
    folds = [row(f"· fold {number + 1}", ~test & (fold == number)) for number in numbers]
    rows = [row("training", ~test), *folds, row("test", test)]
    made = (
        "made by hashing groups" if card.split_origin == "made" else f"given by the column {plain(card.split_origin)}"
    )
    return section(
        "data",
        "What it learnt from",
        "A group is what belongs together: items of one product, patient or video, equal content, near-duplicates. "
        "A group is never split between sides, and an item keeps its side as the table grows.",
        element(
            "div.pair",
            None,
            element("div", None, _bar(card), _origin(card, made)),
            table(
                "Sides of the split",
                "",
                [Column("side"), Column("items", True), Column("groups", True), Column("share", True)],
                rows,
            ),
        ),
    )


def _origin(card: HeadCard, made: str) -> Markup:
    return facts(
        (
            ("Labels", item(card.labels_from, 120)),
            ("Without a label", count(card.n_unlabelled, "item")),
            ("Left out", f"{count(card.n_excluded, 'item')} whose group would straddle the split"),
            ("Conflicts", f"{count(card.conflicts, 'item')} with several labels, left out" if card.conflicts else ""),
            ("Split", f"{card.split_id}, {made}"),
        )
    )


def _bar(card: HeadCard) -> Markup:
    parts = [
        ("training", card.n_train, "bar", "one"),
        ("test", card.n_test, "bar2", "two"),
        ("left out", card.n_excluded + card.conflicts, "worse", "bad"),
        ("without a label", card.n_unlabelled, "track", ""),
    ]
    total = sum(part[1] for part in parts) or 1
    x, drawn = 0.0, []
    for _, items, kind, _ in parts:
        width = WIDTH * items / total
        drawn.append(element(f"rect.{kind}", {"x": x, "y": 0, "width": max(width - 1.5, 0.0), "height": 26, "rx": 3}))
        x += width
    legend = [
        element("span", None, key(colour) if colour else "", f"{name} {items:,}")
        for name, items, _, colour in parts
        if items
    ]
    title = "Items of the table"
    words = ", ".join(f"{name} {items:,}" for name, items, _, _ in parts if items)
    note = element("span.legend", None, *legend)
    return figure(title, note, chart("makeup", title, f"{words}.", *drawn, height=26))


def cards(card: HeadCard, model: ModelCard | None) -> Markup:
    """The section of the two cards, and how to go on."""
    address = plain(f"{card.head}:{card.version}", 120)
    settings = ", ".join(f"{plain(key_, 30)} {value:.6g}" for key_, value in card.settings.items())
    head = (
        ("Head", item(f"{card.head}:{card.version}", 120)),
        ("Kind", f"{card.kind}, input {card.input}"),
        ("Settings", settings),
        ("Class weights", card.class_weights or "none"),
        ("Table", item(f"{card.table}@{card.space_id}:{card.table_version}", 160)),
        ("Space", element("code", None, card.space_id)),
        ("Seed", str(card.seed)),
        ("File", element("code", None, f"{plain(card.head_file.file)} · {card.head_file.sha256[:16]}")),
        ("Made", f"{day(card.created_ts)}, in {card.seconds:,.1f} s, by featstore {card.featstore}"),
        ("Versions", ", ".join(f"{plain(key_, 30)} {plain(value, 30)}" for key_, value in card.versions.items())),
    )
    return section(
        "cards",
        "Cards",
        "",
        element(
            "div.pair",
            None,
            element("div", None, element("h3", None, "The head"), facts(head)),
            element("div", None, element("h3", None, "The backbone"), facts(_model(model)))
            if model is not None
            else Markup(),
        ),
        element("h3", None, "Use it"),
        element(
            "pre",
            {"tabindex": 0, "aria-label": "Commands"},
            element("code", None, f"featstore predict {address} NEW_ITEMS -o predictions.parquet\n"),
            element("code", None, f"featstore export {address} --format onnx -o head.onnx"),
        ),
    )


def _model(model: ModelCard) -> tuple[tuple[str, str], ...]:
    weights = model.weights
    return (
        ("Model", item(model.model, 120)),
        ("Architecture", item(f"{model.architecture}, layer {model.layer}, pooling {model.pooling}", 160)),
        ("Vectors", f"{model.dim:,} values, {model.precision}" + (", length 1" if model.normalize else "")),
        ("Parameters", f"{weights.parameters:,}"),
        ("Weights", item(weights.source, 160)),
        ("Licence", item(weights.licence, 160)),
        ("Trained on", item(weights.training_data, 200)),
        ("Space", element("code", None, f"{model.space_id} · {model.digest[:16]}")),
    )
