"""Which parts of the network were trained, when, and at which rates: as the optimizer had them."""

from __future__ import annotations

import math

from featstore.records import FinetuneEpoch, FinetuneReport, ParameterGroup
from featstore.reports.figures import count
from featstore.reports.markup import Markup, element, plain
from featstore.reports.pieces import Column, captioned, item, section, table
from featstore.reports.style import SHADES

__all__ = ["STYLE", "rates", "short"]

STYLE = """
table.matrix.rates td { white-space: nowrap; font-size: .82rem; padding: .3rem .4rem; }
table.matrix.rates tbody th { font-weight: 600; }
table.matrix.rates td.size { background: none; text-align: right; color: var(--muted); }
.fine { color: var(--good); font-weight: 600; }
"""

_WITHOUT = " (no decay)"
# More columns would not be read, and more rows neither.
_COLUMNS, _ROWS = 24, 40


def rates(found: FinetuneReport) -> Markup:
    """The section."""
    trained = [one for one in found.epochs if one.epoch >= 0]
    last = trained[-1].groups if trained else ()
    sizes = {block.name: block.parameters for block in found.blocks}
    used = sum(group.parameters for group in last)
    schedule = found.settings.get("schedule")
    bent = " From there the cosine lets it fall to nothing by the last step." if schedule == "cosine" else ""
    intro = (
        f"{count(len([b for b in found.blocks if b.epoch is not None]), 'block')} of {len(found.blocks)} were to be "
        f"trained, {used:,} numbers in the last epoch. A rate is what the optimizer goes by at the end of the "
        f"warm-up.{bent} Tensors marked 'no decay' are biases and norms."
    )
    return section("rates", "What was trained, at which rates", intro, _matrix(trained, sizes), _groups(last, trained))


def short(rate: float) -> str:
    """A rate as people write it: ``2e-5``, and 0.01 or more as it is."""
    if rate == 0 or abs(rate) >= 0.01:
        return f"{rate:.3g}"
    mantissa, _, power = f"{rate:.1e}".partition("e")
    return f"{mantissa.removesuffix('.0')}e{int(power)}"


def _matrix(trained: list[FinetuneEpoch], sizes: dict[str, int]) -> Markup:
    """Blocks by epochs; epochs with the same rates stand in one column."""
    columns: list[tuple[int, int, dict[str, float]]] = []
    for one in trained:
        by_name = {_plain(group): group.rate for group in one.groups}
        if columns and columns[-1][2] == by_name:
            columns[-1] = (columns[-1][0], one.epoch, by_name)
        else:
            columns.append((one.epoch, one.epoch, by_name))
    if not columns:
        return Markup()
    names = list(dict.fromkeys([*(name for _, _, found in columns for name in found if name not in sizes), *sizes]))
    left = len(names) - _ROWS, len(columns) - _COLUMNS
    every = [rate for _, _, found in columns for rate in found.values() if rate > 0]
    low, high = (math.log(min(every)), math.log(max(every))) if every else (0.0, 0.0)
    head = [
        element("td.corner", None),
        element("th.n", {"scope": "col"}, "numbers"),
        *(element("th", {"scope": "col"}, f"{a}" if a == b else f"{a}–{b}") for a, b, _ in columns[:_COLUMNS]),
    ]
    body = [
        element(
            "tr",
            None,
            element("th", {"scope": "row"}, item(name, 60)),
            element("td.size", None, f"{sizes[name]:,}" if name in sizes else ""),
            *(_cell(found.get(name), low, high) for _, _, found in columns[:_COLUMNS]),
        )
        for name in names[:_ROWS]
    ]
    more = "".join(
        f" {count(number, what)} more are not shown."
        for number, what in zip(left, ("block", "column"), strict=True)
        if number > 0
    )
    title = "Learning rates by block and epoch"
    note = f"The top of the network first, its lowest part last. · is not trained.{more}"
    made = element(
        "table.matrix.rates",
        None,
        captioned(title, note),
        element("thead", None, element("tr", None, *head)),
        element("tbody", None, *body),
    )
    return element("div.scroll", {"tabindex": 0, "role": "region", "aria-label": title}, made)


def _cell(rate: float | None, low: float, high: float) -> Markup:
    if rate is None:
        return element("td.muted", {"title": "not trained"}, "·")
    if rate <= 0:
        return element("td", None, "0")
    # The darkest shade has another ink: it is left to matrices that mark what is special.
    share = (math.log(rate) - low) / (high - low) if high > low else 1.0
    return element(f"td.right{1 + round(share * (SHADES - 2))}", None, short(rate))


def _groups(last: tuple[ParameterGroup, ...], trained: list[FinetuneEpoch]) -> Markup:
    if not last:
        return Markup()
    rows = [
        [item(group.name, 80), f"{group.parameters:,}", short(group.rate), short(group.decay)]
        for group in last[: 2 * _ROWS]
    ]
    left = len(last) - len(rows)
    more = f" {count(left, 'group')} more are not listed." if left else ""
    note = f"Those of epoch {trained[-1].epoch}, the last that was trained.{more}"
    columns = [Column("group"), Column("numbers", True), Column("rate", True), Column("decay", True)]
    return element(
        "details",
        None,
        element("summary", None, f"The optimizer's {len(last)} groups in the last epoch"),
        table("The optimizer's groups", note, columns, rows),
    )


def _plain(group: ParameterGroup) -> str:
    return plain(group.name.removesuffix(_WITHOUT), 80)
