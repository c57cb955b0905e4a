"""The head beside simpler ones, and the kinds of head that were tried."""

from __future__ import annotations

import math

from featstore.records import BaselineFigures, Estimate, HeadCard
from featstore.reports.charts import Row, intervals
from featstore.reports.figures import between, metric, primary, simple, written
from featstore.reports.markup import Markup, element, plain
from featstore.reports.pieces import Cell, Column, figure, section, table

__all__ = ["compared"]


def compared(card: HeadCard) -> Markup:
    """Baselines on the test items; candidates on the training folds."""
    return section(
        "compared",
        "Is it worth it?",
        "A head is worth keeping where it beats what is simpler. Baselines are scored on the same test items.",
        element("div.pair", None, _chart(card), _baselines(card)),
        _candidates(card),
    )


def _chart(card: HeadCard) -> Markup:
    name = primary(card.task, card.metrics)
    if name is None:
        return Markup()
    known = metric(name)
    rows = [Row("this head", card.metrics[name], True)]
    others = [(key, found[name]) for key, found in _others(card, name) if name in found]
    rows += [Row(key, estimate) for key, estimate in others]
    rows = [row for row in rows if all(map(math.isfinite, (row.estimate.value, row.estimate.low, row.estimate.high)))]
    if not rows:
        return Markup()
    title = f"{known.name} beside baselines"
    note = "The dot is the figure, the line its 95% interval." + ("" if known.more_is_better else " Less is better.")
    return figure(title, note, intervals("baselines", title, rows, share=known.share))


def _baselines(card: HeadCard) -> Markup:
    names = list(card.metrics)[:3]
    columns = [Column("what"), *(Column(metric(name).name, True) for name in names)]
    rows = [("this head", card.metrics), *_others(card, primary(card.task, card.metrics))]

    body = []
    for what, found in rows:
        cells: list[str | Cell] = [plain(what, 40)]
        for name in names:
            estimate, share = found.get(name), metric(name).share
            cells.append(
                Cell("–")
                if estimate is None
                else Cell(
                    element(
                        "span",
                        {"title": f"95%: {between(estimate, share=share)}"},
                        written(estimate.value, share=share),
                    ),
                    estimate.value if math.isfinite(estimate.value) else None,
                )
            )
        body.append(cells)
    return table("The same in figures", "", columns, body)


def _others(card: HeadCard, by: str | None) -> list[tuple[str, dict[str, Estimate]]]:
    """The baselines in words, the best by a metric first, those without it last."""
    sign = -1 if by is not None and metric(by).more_is_better else 1

    def rank(found: BaselineFigures) -> float:
        return sign * found.metrics[by].value if by in found.metrics else math.inf

    ranked = sorted(card.baselines.items(), key=lambda pair: rank(pair[1]))
    return [(simple(name, card.task), found.metrics) for name, found in ranked]


def _candidates(card: HeadCard) -> Markup:
    if not card.candidates:
        return Markup()
    body = []
    for tried in card.candidates:
        settings = ", ".join(f"{plain(key, 30)} {value:.4g}" for key, value in tried.settings.items())
        if tried.left_out is not None or tried.score is None:
            shown, why = Cell("–"), tried.left_out or "not scored"
        else:
            error = f" ± {tried.error:.4f}" if tried.error is not None else ""
            shown, why = Cell(f"{tried.score:.4f}{error}", tried.score), settings
        chosen = tried.kind == card.kind and tried.left_out is None
        name = element("b", None, f"{tried.kind} ✓") if chosen else tried.kind
        seconds = Cell("–") if tried.score is None else Cell(f"{tried.seconds:,.1f} s", tried.seconds)
        body.append((name, tried.input, shown, seconds, plain(why, 120)))
    score = "root mean square error" if card.task == "regression" else "log loss"
    return table(
        "Kinds of head that were tried",
        f"Each at its best setting, by the {score} on training items outside its fit, less being better; ± is one "
        "standard error. ✓ is the one kept.",
        [Column("kind"), Column("input"), Column(score, True, True), Column("time", True), Column("settings")],
        body,
        sortable=True,
    )
