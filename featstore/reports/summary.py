"""The page's first answer: what the head reaches, on which items, and what to make of it."""

from __future__ import annotations

import math

from featstore.records import Estimate, HeadCard
from featstore.reports.charts import Row, intervals
from featstore.reports.figures import between, count, metric, primary, simple, written
from featstore.reports.markup import Markup, element, plain
from featstore.reports.pieces import Column, figure, item, section, table, words

__all__ = ["heading", "summary"]

_KINDS = {
    "majority": "always the most frequent class",
    "logistic": "logistic regression",
    "knn": "nearest neighbours",
    "prototypes": "nearest class mean",
    "ridge": "ridge regression",
    "torch-linear": "a linear layer trained by gradient descent",
    "torch-mlp": "a network with one hidden layer",
}
_INPUTS = {
    "raw": "",
    "unit": ", scaled to length 1",
    "standard": ", standardised",
    "centred": ", scaled to length 1 and centred",
}


def heading(card: HeadCard) -> tuple[Markup, ...]:
    """What the head is, in a title and a sentence."""
    what = {
        "classification": f"one of {count(len(card.classes), 'class')}",
        "multilabel": f"any of {count(len(card.classes), 'label')}",
        "regression": "a number",
    }[card.task]
    return (
        element("p.over", None, "featstore · head report"),
        element("h1", None, item(f"{card.head}:{card.version}", 120)),
        element(
            "p.lead",
            None,
            "Predicts ",
            element("b", None, item(card.label)),
            f" ({what}) for items of the table ",
            element("b", None, item(card.table)),
            f", by {_KINDS.get(card.kind, card.kind)} on vectors of ",
            item(card.model),
            f"{_INPUTS.get(card.input, '')}.",
        ),
    )


def summary(card: HeadCard) -> Markup:
    """Figures on the test items, what they mean, and the same figures on the other sides."""
    return section(
        "summary",
        "Summary",
        f"Measured on {count(card.n_test, 'test item')} that took no part in training or choosing. "
        "The ranges are 95% intervals: with other items of the same kind, the figure would mostly lie in them.",
        element("ul.tiles", None, *(_tile(name, estimate) for name, estimate in card.metrics.items())),
        words(_meaning(card)),
        element("div.pair", None, _sides_chart(card), _sides(card)),
    )


def _tile(name: str, estimate: Estimate) -> Markup:
    known = metric(name)
    return element(
        "li.tile",
        {"title": known.meaning or None},
        element("span.name", None, known.name),
        element("span.big", None, written(estimate.value, share=known.share)),
        element("span.small", None, between(estimate, share=known.share)),
    )


def _meaning(card: HeadCard) -> list[tuple[str, str]]:
    lines = [_against_simplest(card)]
    if card.fit:
        said = plain(card.fit, 400).rstrip(".")
        lines.append((f"{said[:1].upper()}{said[1:]}.", "warn" if "overfit" in said else ""))
    lines.append(
        ("Leakage: no group has items on both sides of the split.", "good")
        if not card.leakage
        else (f"Leakage: {count(card.leakage, 'group')} with items on both sides, so figures are too high.", "warn")
    )
    times = "once" if card.test_scored == 1 else f"{card.test_scored:,} times"
    more = "" if card.test_scored <= 1 else " The more often one looks and chooses, the more its figures flatter."
    lines.append((f"These test items have been scored {times}.{more}", "" if card.test_scored <= 10 else "warn"))
    if card.previous is not None:
        lines.append(_against_previous(card))
    lines += [(plain(warning, 400), "warn") for warning in card.warnings]
    return [line for line in lines if line[0]]


def _against_simplest(card: HeadCard) -> tuple[str, str]:
    key_ = primary(card.task, card.metrics)
    simplest = card.baselines.get("majority")
    if key_ is None or simplest is None or key_ not in simplest.metrics:
        return "", ""
    known, own, other = metric(key_), card.metrics[key_], simplest.metrics[key_]
    ahead = (own.value - other.value) * (1 if known.more_is_better else -1)
    # Intervals may overlap where the difference is beyond doubt: what counts is the root of both widths' squares.
    # Source: Schenker and Gentleman, On judging the significance of differences (2001).
    better = ahead > math.hypot((own.high - own.low) / 2, (other.high - other.low) / 2)
    said = "clearly better than" if better else "not clearly better than"
    return (
        f"{known.name} {written(own.value, share=known.share)}: {said} {written(other.value, share=known.share)}, "
        f"which the simplest baseline reaches ({simple(simplest.name, card.task)}).",
        "good" if better else "warn",
    )


def _against_previous(card: HeadCard) -> tuple[str, str]:
    before = card.previous
    key_ = primary(card.task, card.metrics)
    if before is None:
        return "", ""
    if key_ is None or key_ not in before.difference:
        return f"Version {before.version} cannot be compared: {before.note or 'it has no figures on this split'}.", ""
    known, moved = metric(key_), before.difference[key_]
    sign = 1 if known.more_is_better else -1
    verdict = "better" if min(sign * moved.low, sign * moved.high) > 0 else "no clear difference"
    verdict = "worse" if max(sign * moved.low, sign * moved.high) < 0 else verdict
    unit = 100 if known.share else 1
    points = " points" if known.share else ""
    return (
        f"Against version {before.version} on the same items: {known.name.lower()} {unit * moved.value:+.2f}{points} "
        f"({unit * moved.low:+.2f} to {unit * moved.high:+.2f}): {verdict}.".replace("-", "−"),
        {"better": "good", "worse": "warn"}.get(verdict, ""),
    )


def _sides_chart(card: HeadCard) -> Markup:
    name = primary(card.task, card.metrics)
    if name is None:
        return Markup()
    known = metric(name)
    sides = (("training", card.training), ("validation", card.validation), ("test", card.metrics))
    rows = [Row(side, found[name], side == "test") for side, found in sides if _finite(found.get(name))]
    title = f"{known.name}, three sides"
    note = "Training far better than the others means that it learnt items by heart."
    return figure(title, note, intervals("sides", title, rows, share=known.share)) if rows else Markup()


def _sides(card: HeadCard) -> Markup:
    def shown(found: dict[str, Estimate], name: str) -> str:
        return written(found[name].value, share=metric(name).share) if name in found else "–"

    return table(
        "All figures, three sides",
        "Validation: the training items, each scored by a head that had not seen it.",
        [Column("figure"), *(Column(side, True) for side in ("training", "validation", "test"))],
        [
            (metric(name).name, *(shown(side, name) for side in (card.training, card.validation, card.metrics)))
            for name in card.metrics
        ],
    )


def _finite(estimate: Estimate | None) -> bool:
    return estimate is not None and all(map(math.isfinite, (estimate.value, estimate.low, estimate.high)))
