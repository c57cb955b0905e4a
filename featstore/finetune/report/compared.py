"""Frozen against fine-tuned, and what other tasks lose."""

from __future__ import annotations

import math

from featstore.finetune.report.verdict import points
from featstore.migrate.report.forest import Row as Difference
from featstore.migrate.report.forest import forest
from featstore.records import Estimate, FinetuneReport
from featstore.reports.charts import Row, intervals
from featstore.reports.figures import between, metric, written
from featstore.reports.markup import Markup, element, plain
from featstore.reports.pieces import Column, figure, item, section, table

__all__ = ["compared", "forgetting"]


def compared(found: FinetuneReport) -> Markup:
    """What a head reaches on the old vectors, on the new ones, and the network's own head."""
    sides = (
        (f"frozen, {found.frozen_kind}", found.frozen),
        (f"fine-tuned, {found.tuned_kind}", found.tuned),
        ("fine-tuned, own head", found.own),
    )
    intro = (
        "The best head of the same choosing on the old vectors and on the new ones, the new ones as the exported model "
        "gives them. The network's own head is the one that was trained along; it is not kept."
    )
    shown = [Row(name, side["accuracy"], own=at == 1) for at, (name, side) in enumerate(sides) if _there(side)]
    picture = intervals("accuracies", "Accuracy on the same test items", shown, share=True) if shown else Markup()
    names = list(dict.fromkeys(name for _, side in sides for name in side))
    rows = [
        [metric(name).name, *(_estimate(side.get(name), share=metric(name).share) for _, side in sides)]
        for name in names
    ]
    columns = [Column("figure"), *(Column(plain(name, 40), True) for name, _ in sides)]
    note = "The dot is the figure, the line its 95 % interval."
    gain = element("p", None, f"Fine-tuned minus frozen, paired by item: {points(found.gain)}.")
    return section(
        "compared",
        "Is it worth it?",
        intro,
        element(
            "div.pair",
            None,
            figure("Accuracy", note, picture) if picture else "",
            figure("Gain", "The paired difference and its 95 % interval.", _gain(found)) if _gain(found) else "",
        ),
        gain,
        table("All figures, with their 95 % intervals", "", columns, rows),
    )


def forgetting(found: FinetuneReport) -> Markup:
    """What other heads and the neutral items lose; empty where nothing was asked."""
    if not found.forgetting:
        return Markup()
    allowed = found.settings.get("max_forgetting")
    least = -float(allowed) if isinstance(allowed, int | float) and not isinstance(allowed, bool) else None
    names = {one.name: one.name if one.kind == "head" else "neutral items" for one in found.forgetting}
    drawn = forest(
        "forgotten",
        "New minus old, other tasks",
        [Difference(names[one.name], one.difference) for one in found.forgetting],
        least=least,
    )
    rows = [
        [
            item(names[one.name], 60),
            f"{one.items:,}",
            written(one.before, share=True),
            written(one.after, share=True),
            element("span.whole", None, points(one.difference).replace(" points", "")),
        ]
        for one in found.forgetting
    ]
    columns = [
        Column("task"),
        Column("items", True),
        Column("old", True),
        Column("new", True),
        Column("points, new − old"),
    ]
    intro = (
        "A backbone that learns one task may forget others. Every other head of the table was fitted anew on the new "
        "vectors by its own settings; the neutral items have nothing to do with this table."
    )
    words = "The dotted line is the most that may be lost." if least is not None else ""
    return section(
        "forgetting",
        "Forgetting",
        intro,
        element(
            "div.pair",
            None,
            figure("New minus old", f"Accuracy, paired, with 95 % intervals. {words}", drawn) if drawn else "",
            table("Before and after", "On the same items, in both spaces.", columns, rows),
        ),
    )


def _gain(found: FinetuneReport) -> Markup:
    least = found.settings.get("min_gain")
    limit = float(least) if isinstance(least, float) and least else None
    return forest("gain", "Fine-tuned minus frozen", [Difference("accuracy", found.gain)], least=limit)


def _there(side: dict[str, Estimate]) -> bool:
    found = side.get("accuracy")
    return found is not None and all(map(math.isfinite, (found.value, found.low, found.high)))


def _estimate(found: Estimate | None, *, share: bool) -> str:
    return "–" if found is None else f"{written(found.value, share=share)} ({between(found, share=share)})"
