"""How a head is shown to people: what it reaches, how sure that is, and what to do next."""

from __future__ import annotations

from typing import TYPE_CHECKING

from featstore.cli import console
from featstore.cli.console import count, line, plain

if TYPE_CHECKING:
    from featstore.records import Estimate, HeadCard, HeadComparison, HeadDifference
    from featstore.store import Store

__all__ = ["comparison", "difference", "is_head", "listing", "report", "short"]

_NAMES = {
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "macro_f1": "macro F1",
    "micro_f1": "micro F1",
    "mAP": "mAP",
    "log_loss": "log-loss",
    "ece": "calibration error",
    "mae": "mean absolute error",
    "rmse": "root mean squared error",
    "r2": "R²",
    "spearman": "Spearman's rho",
}
_SHARES = {"accuracy", "balanced_accuracy", "macro_f1", "micro_f1", "mAP", "ece"}
_FREE = {"log_loss", "r2", "spearman"}
_MAIN = {"classification": "accuracy", "multilabel": "mAP", "regression": "r2"}
_CLASSES_SHOWN = 5


def is_head(opened: Store, address: str) -> bool:
    """Whether an address means a head: there is one, and no table of that name."""
    from featstore.heads.opening import has_head

    name = address.partition("@")[0].partition(":")[0]
    return name not in opened.layout.storage.folders("features") and has_head(opened.layout, address)


def report(card: HeadCard) -> None:
    """Prints one head."""
    what = f"{len(card.classes):,} classes" if card.task == "classification" else f"{len(card.classes):,} labels"
    unlabelled = f"; {card.n_unlabelled:,} without a label" if card.n_unlabelled else ""
    excluded = f"; {card.n_excluded:,} left out, on both sides" if card.n_excluded else ""
    console.facts(
        (
            ("head", f"{card.head}:{card.version}: {_kind(card)}"),
            ("on", f"{card.table}@{card.space_id}:{card.table_version}, label {card.labels_from}"),
            (
                "items",
                f"{card.n_train:,} to learn from, {card.n_test:,} to test on"
                + ("" if card.task == "regression" else f", {what}")
                + unlabelled
                + excluded,
            ),
            ("split", _split(card)),
        )
    )
    line()
    _figures(card)
    if card.conformal is not None and card.conformal.coverage is not None:
        covered = card.conformal.coverage
        numbers = card.task == "regression"
        what = "intervals that shall hold the true number" if numbers else "sets that shall hold the true class"
        size = card.conformal.set_size
        line(
            f"{what} in 90 % of cases do in {covered.value:.1%} [{covered.low:.1%}, {covered.high:.1%}]"
            + ("" if size is None else f", with {size:.2f} classes on average")
        )
    line(f"fit: {card.fit}")
    _beside(card)
    _curve(card)
    _worst(card)
    _before(card)
    if card.advice:
        line()
    for advice in card.advice:
        line(f"→ {plain(advice)}")
    for warning in card.warnings:
        line(f"warning: {plain(warning)}")


def comparison(found: HeadComparison) -> None:
    """Prints several heads on one split."""
    first = found.heads[0]
    line(
        f"{first.n_train:,} items to learn from, {first.n_test:,} to test on, the same for all; split {found.split_id}"
    )
    names = tuple(first.metrics)
    main = _MAIN[first.task]
    behind = {one.b: one.metrics[main] for one in found.differences if main in one.metrics}
    heading = f"{_NAMES[main]} to the first, 95 %"
    console.grid(
        ("head", "table", "kind", *(_NAMES[name] for name in names), heading),
        (
            (
                f"{card.head}:{card.version}",
                f"{card.table}@{card.space_id}",
                card.kind,
                *(_value(name, card.metrics[name].value) for name in names),
                _signed(main, behind[f"{card.head}:{card.version}"]) if f"{card.head}:{card.version}" in behind else "",
            )
            for card in found.heads
        ),
        right=(*(_NAMES[name] for name in names), heading),
    )
    for one in found.differences:
        better, other = (one.a, one.b) if one.better == "a" else (one.b, one.a)
        unsure = one.better == "neither"
        line(plain(f"{one.b} and {one.a}: no clear difference" if unsure else f"{better} is better than {other}"))
    for warning in dict.fromkeys(warning for card in found.heads for warning in card.warnings):
        line(f"warning: {plain(warning)}")


def difference(found: HeadDifference) -> None:
    """Prints two heads on the same test items."""
    console.facts((("a", found.a), ("b", found.b)))
    console.grid(
        ("figure", "b - a, 95 %"),
        ((_NAMES.get(name, name), _signed(name, value)) for name, value in found.metrics.items()),
    )
    line("no clear difference" if found.better == "neither" else f"{found.better} is better")


def listing(cards: list[HeadCard]) -> None:
    """Prints many heads, one a line."""
    console.grid(
        ("head", "kind", "task", "figure", "test, 95 %", "table", "space", "trained", "tested", "scored", "made"),
        (
            (
                f"{card.head}:{card.version}",
                card.kind,
                card.task,
                _NAMES[_MAIN[card.task]],
                _interval(_MAIN[card.task], card.metrics[_MAIN[card.task]]) if card.metrics else "",
                f"{card.table}:{card.table_version}",
                card.space_id,
                f"{card.n_train:,}",
                f"{card.n_test:,}",
                card.test_scored,
                card.created_ts[:16].replace("T", " "),
            )
            for card in cards
        ),
        right=("trained", "tested", "scored"),
    )


def _kind(card: HeadCard) -> str:
    settings = ", ".join(f"{name} {value:.3g}" for name, value in sorted(card.settings.items()))
    return f"{card.kind} on {card.input} vectors" + (f" ({settings})" if settings else "")


def _split(card: HeadCard) -> str:
    origin = "made by featstore" if card.split_origin == "made" else f"column '{card.split_origin}'"
    return (
        f"{card.split_id}, {origin}, {count(card.n_groups, 'group')}; leakage {card.leakage:,}; "
        f"test items scored {count(card.test_scored, 'time')}"
    )


def _figures(card: HeadCard) -> None:
    console.grid(
        ("", "test, 95 %", "validation", "training"),
        (
            (
                _NAMES.get(name, name),
                _interval(name, figure),
                _value(name, card.validation[name].value) if name in card.validation else "",
                _value(name, card.training[name].value) if name in card.training else "",
            )
            for name, figure in card.metrics.items()
        ),
        right=("validation", "training"),
    )


def _beside(card: HeadCard) -> None:
    """The other kinds by what the choice went by, and what something simple reaches on the test items."""
    name = _MAIN[card.task]
    if card.baselines:
        shown = (f"{base.name} {_value(name, base.metrics[name].value)}" for base in card.baselines.values())
        line(f"baselines, {_NAMES[name]}: {', '.join(shown)}")
    tried = [each for each in card.candidates if each.score is not None]
    if len(tried) > 1:
        figure = "error" if card.task == "regression" else "log-loss"
        line(f"tried, {figure} on unseen items: " + ", ".join(f"{each.kind} {each.score:.4g}" for each in tried))
    for shot in card.shots:
        line(f"{count(shot.shots, 'label')} of each class: {_interval('accuracy', shot.accuracy)}")


def _curve(card: HeadCard) -> None:
    if len(card.learning_curve) > 1:
        name = _MAIN[card.task]
        points = (f"{point.items:,} → {_value(name, point.score)}" for point in card.learning_curve)
        line(f"learning curve, {_NAMES[name]}: {', '.join(points)}")


def _worst(card: HeadCard) -> None:
    known = [each for each in card.classes_figures if each.f1 is not None]
    if len(known) > 2:
        worst = sorted(known, key=lambda each: (each.f1 or 0.0, each.label))[:_CLASSES_SHOWN]
        shown = (f"{plain(short(each.label))} {each.f1:.2f} ({each.n_test:,})" for each in worst)
        line(f"lowest F1 (test items): {', '.join(shown)}")


def _before(card: HeadCard) -> None:
    before = card.previous
    if before is None:
        return
    name = _MAIN[card.task]
    had = f"version {before.version}"
    if name in before.metrics:
        had += f" had {_value(name, before.metrics[name].value)} {_NAMES[name]}"
    now = f"; now {_signed(name, before.difference[name])}" if before.difference else ""
    line(had + now + (f" ({plain(before.note)})" if before.note else ""))


def _value(name: str, value: float) -> str:
    if name in _SHARES:
        return f"{value:.1%}"
    return f"{value:.3f}" if name in _FREE else f"{value:.4g}"


def _interval(name: str, found: Estimate) -> str:
    return f"{_value(name, found.value)} [{_value(name, found.low)}, {_value(name, found.high)}]"


def _signed(name: str, found: Estimate) -> str:
    if name in _SHARES:
        value, low, high = (100 * part + 0.0 for part in (found.value, found.low, found.high))
        return f"{value:+.1f} [{low:+.1f}, {high:+.1f}] points"
    form = "+.3f" if name in _FREE else "+.4g"
    return f"{found.value:{form}} [{found.low:{form}}, {found.high:{form}}]"


def short(text: str) -> str:
    """A label as it fits into a line."""
    return text if len(text) <= 40 else f"{text[:39]}…"
