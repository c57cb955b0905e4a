"""What it was told, what it was tried with, and what it learned from."""

from __future__ import annotations

import math

from featstore.finetune.report.rates import short
from featstore.records import FinetuneReport, FinetuneTrial
from featstore.reports.figures import count, written
from featstore.reports.lines import Line, legend, lines
from featstore.reports.markup import Markup, element, plain
from featstore.reports.pieces import Cell, Column, facts, figure, item, section, table

__all__ = ["setup", "trials"]

_CLASSES = 60


def trials(found: FinetuneReport) -> Markup:
    """The search, if there was one: each trial, and the best so far."""
    if not found.trials:
        return Markup()
    best: list[tuple[float, float]] = []
    for one in found.trials:
        if one.status == "complete" and one.accuracy is not None:
            best.append((float(one.number), max([one.accuracy, *(p[1] for p in best[-1:])])))
    drawn = [
        Line("the best so far", best, own=True),
        Line(
            "each trial",
            [(float(one.number), one.accuracy) for one in found.trials if one.accuracy is not None],
            joined=False,
        ),
    ]
    picture = lines("trials-curve", "Trials", drawn, across="trial", up="validation accuracy", share=True)
    intro = (
        "Chosen by validation accuracy alone; the test items took no part. Trial 0 is what would have been trained "
        "without a search. A pruned trial was stopped where it lay behind the others after as many epochs."
    )
    chosen = _chosen(found.trials)
    names = list(dict.fromkeys(name for one in found.trials for name in one.settings))
    rows = [_row(one, names, own=one.number == chosen) for one in found.trials]
    columns = [
        Column("trial", up=True),
        Column("validation accuracy", True),
        Column("ended"),
        *(Column(plain(name.replace("_", " ")), True) for name in names),
    ]
    return section(
        "trials",
        "Search",
        intro,
        figure("Validation accuracy by trial", legend(drawn), picture) if picture else "",
        table("Trials", "✓ is the one that was taken.", columns, rows),
    )


def setup(found: FinetuneReport) -> Markup:
    """The settings, the split and the classes."""
    often = sorted(found.classes.items(), key=lambda pair: (-pair[1], pair[0]))
    left = len(often) - _CLASSES
    note = f"{count(left, 'class')} more are not listed." if left > 0 else ""
    settings = [
        [plain(name.replace("_", " ")), plain(_told(value), 200)]
        for name, value in sorted(found.settings.items())
        if value is not None
    ]
    return section(
        "setup",
        "Setup",
        "",
        facts(
            (
                ("table", plain(f"{found.table}, version {found.version}", 120)),
                ("label", plain(found.label, 80)),
                ("backbone", plain(f"{found.model} ({found.base})", 160)),
                (
                    "items",
                    f"{found.n_train:,} to learn from, {found.n_validation:,} to stop by, {found.n_test:,} to test on",
                ),
                ("split", plain(found.split_id, 60)),
                ("at once", f"{count(found.micro_batch, 'item')} in memory"),
            )
        ),
        element(
            "div.pair",
            None,
            table("Settings", "Those that were used, defaults filled in.", [Column("setting"), Column("is")], settings),
            table(
                "Classes",
                note,
                [Column("class"), Column("items", True)],
                [[item(name, 60), f"{items:,}"] for name, items in often[:_CLASSES]],
            ),
        ),
    )


def _chosen(found: tuple[FinetuneTrial, ...]) -> int | None:
    """The first of the best complete trials."""
    complete = [one for one in found if one.status == "complete" and one.accuracy is not None]
    return max(complete, key=lambda one: (one.accuracy or 0.0, -one.number)).number if complete else None


def _row(one: FinetuneTrial, names: list[str], *, own: bool) -> list[str | Cell]:
    value = None if one.accuracy is None or not math.isfinite(one.accuracy) else one.accuracy
    shown = Cell("–" if value is None else written(value, share=True), value)
    name = element("b", None, f"{one.number} ✓") if own else f"{one.number}"
    return [name, shown, one.status, *(plain(_told(one.settings.get(each)), 40) for each in names)]


def _told(value: object) -> str:
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return short(value) if value and abs(value) < 0.01 else f"{value:.4g}"
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value))
    return str(value)
