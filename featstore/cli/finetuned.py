"""What a fine-tuning did, or would do, in words."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from featstore.cli import console, heads, migrated
from featstore.records import (
    Estimate,
    FinetuneEpoch,
    FinetunePlan,
    FinetuneReport,
    FinetuneResult,
    GateOutcome,
    ParameterGroup,
    TunedBlock,
)

__all__ = ["outcome", "rehearsal", "summary"]

# Longer tables are for the report.
_BLOCKS, _EPOCHS, _CLASSES = 16, 30, 12


def summary(result: FinetuneResult) -> str:
    """How it ended, in one sentence."""
    ended = {
        "kept": f"{result.space_id} is a model now; '{result.table}' is as it was",
        "published": f"'{result.table}' now means its vectors by {result.space_id}",
        "refused": "a gate refused; everything is as it was",
        "nothing new": f"nothing is new: {_before(result)}",
        "interrupted": "stopped before its end; run it again to go on",
        "failed": "failed; everything is as it was",
    }
    return f"fine-tuning on '{result.table}' by '{result.label}': {ended[result.status]}"


def outcome(result: FinetuneResult, store: Path) -> None:
    """Prints how a fine-tuning in a store went: figures, epochs, gates, what comes next."""
    console.line(console.plain(summary(result)))
    report = result.report
    console.facts(
        (
            ("from", None if report is None else report.base),
            ("to", result.space_id),
            ("method", None if report is None else report.method),
            ("items", None if report is None else _items(report.n_train, report.n_validation, report.n_test)),
            ("run", result.key),
            ("time", f"{result.seconds:,.1f} s"),
            ("report", result.html),
        )
    )
    if report is not None:
        _report(report)
    if result.migration is not None:
        console.line()
        migrated.outcome(result.migration, store)
    elif result.error:
        console.line(console.plain(result.error))
    for warning in result.warnings:
        console.line(f"warning: {console.plain(warning)}")
    if result.migration is None:
        for command in result.next:
            console.line(f"next: {console.plain(command)}")


def rehearsal(plan: FinetunePlan) -> None:
    """Prints what would be trained, for how long, and what it has to beat."""
    console.line(console.plain(f"fine-tuning of {plan.model} on '{plan.table}' by '{plan.label}'; nothing was changed"))
    share = plan.trained_parameters / plan.parameters if plan.parameters else 0.0
    console.facts(
        (
            ("table", f"version {plan.version} in {plan.space_id}"),
            ("items", _items(plan.n_train, plan.n_validation, plan.n_test)),
            ("classes", _classes(plan.classes)),
            ("method", plan.method),
            ("trained", f"{plan.trained_parameters:,} of {plan.parameters:,} numbers ({share:.0%})"),
            ("steps", f"{plan.steps:,} in {console.count(plan.epochs, 'epoch')} at most"),
            ("time", _range(plan.seconds_low, plan.seconds_high)),
            ("to beat", f"{_figure(plan.frozen)}, the best frozen head ({plan.frozen_kind}), on items it has not seen"),
            ("goes on", plan.resumes),
            ("then", plan.then),
        )
    )
    _blocks(plan.blocks, plan.groups)
    if plan.advice:
        console.line(f"advice: {console.plain(plan.advice)}")
    for warning in plan.warnings:
        console.line(f"warning: {console.plain(warning)}")


def _before(result: FinetuneResult) -> str:
    if result.space_id is not None:
        return f"the same labels and settings have made {result.space_id}"
    return "the same labels and settings were refused"


def _report(report: FinetuneReport) -> None:
    sides = (
        (f"frozen, {report.frozen_kind}", report.frozen),
        (f"fine-tuned, {report.tuned_kind}", report.tuned),
        ("fine-tuned, own head", report.own),
    )
    names = list(dict.fromkeys(name for _, side in sides for name in side))[:4]
    if names:
        console.grid(
            ("on the test items", *(name.replace("_", " ") for name in names)),
            ((words, *(_figure(side.get(name)) for name in names)) for words, side in sides if side),
        )
        gain = report.gain
        console.line(f"gain: {gain.value:+.3f} [{gain.low:+.3f}, {gain.high:+.3f}], paired by item")
    _blocks(report.blocks, _largest(report.epochs))
    _epochs(report)
    if report.forgetting:
        console.grid(
            ("forgetting", "items", "old", "new", "new - old"),
            (
                (
                    one.name if one.kind == "head" else "neutral items",
                    f"{one.items:,}",
                    f"{one.before:.3f}",
                    f"{one.after:.3f}",
                    f"{one.difference.value:+.3f} [{one.difference.low:+.3f}, {one.difference.high:+.3f}]",
                )
                for one in report.forgetting
            ),
            right=("items", "old", "new"),
        )
    if report.trials:
        done = [one for one in report.trials if one.status == "complete"]
        pruned = sum(one.status == "pruned" for one in report.trials)
        console.line(f"search: {len(report.trials)} trials, {len(done)} to their end, {pruned} given up early")
    _gates(report.gates)
    for note in report.notes:
        console.line(f"note: {console.plain(note)}")


def _blocks(blocks: tuple[TunedBlock, ...], groups: tuple[ParameterGroup, ...]) -> None:
    """Blocks from the top down, when each begins, and its rate."""
    rates = {group.name.removesuffix(" (no decay)"): group.rate for group in groups}
    rows = [
        (
            block.name,
            f"{block.parameters:,}",
            "never" if block.epoch is None else f"epoch {block.epoch}",
            f"{rates[block.name]:.2g}" if block.name in rates else "",
        )
        for block in blocks
    ]
    if "head" in rates:
        rows.insert(0, ("head", "", "epoch 0", f"{rates['head']:.2g}"))
    left = len(rows) - _BLOCKS
    shown = rows[:_BLOCKS] + ([(f"and {left} more below", "", "", "")] if left > 0 else [])
    console.grid(("block", "numbers", "trained from", "rate"), shown, right=("numbers", "rate"))


def _largest(epochs: tuple[FinetuneEpoch, ...]) -> tuple[ParameterGroup, ...]:
    """The groups of the epoch in which most of the network was trained; of several the first."""
    return max((one.groups for one in epochs), key=len, default=())


def _epochs(report: FinetuneReport) -> None:
    def written(value: float | None) -> str:
        return "" if value is None else f"{value:.3f}"

    shown = report.epochs[-_EPOCHS:]
    console.grid(
        ("epoch", "train loss", "validation loss", "train accuracy", "validation accuracy", "seconds", ""),
        (
            (
                "before" if one.epoch < 0 else one.epoch,
                written(one.train_loss),
                written(one.validation_loss),
                written(one.train_accuracy),
                written(one.validation_accuracy),
                f"{one.seconds:,.1f}",
                "best" if one.epoch == report.best_epoch else "",
            )
            for one in shown
        ),
        right=("epoch", "train loss", "validation loss", "train accuracy", "validation accuracy", "seconds"),
    )


def _gates(gates: tuple[GateOutcome, ...]) -> None:
    if not gates:
        return
    console.grid(
        ("gate", "verdict", "value", "limit", "note"),
        (
            (g.gate, g.status, "" if g.value is None else f"{g.value:.4g}", f"{g.relation} {g.limit:g}", g.note or "")
            for g in gates
        ),
        right=("value",),
    )
    for text in _behind(gates):
        console.line(text)


def _behind(gates: tuple[GateOutcome, ...]) -> Iterator[str]:
    for gate in gates:
        if gate.status == "refused" and gate.items:
            yield console.plain(f"behind {gate.gate}:")
            yield from (console.plain(f"  {one.item_id}: {one.about}") for one in gate.items[:10])


def _items(trained: int, validated: int, tested: int) -> str:
    return f"{trained:,} to learn from, {validated:,} to stop by, {tested:,} to test on"


def _classes(classes: dict[str, int]) -> str:
    often = sorted(classes.items(), key=lambda pair: (-pair[1], pair[0]))
    shown = ", ".join(f"{heads.short(name)} {items:,}" for name, items in often[:_CLASSES])
    left = len(often) - _CLASSES
    return f"{len(often):,}: {shown}" + (f" and {left:,} more" if left > 0 else "")


def _figure(found: Estimate | None) -> str:
    return "" if found is None else f"{found.value:.3f} [{found.low:.3f}, {found.high:.3f}]"


def _range(low: float, high: float) -> str:
    return _long(low) if _long(low) == _long(high) else f"{_long(low)} to {_long(high)}"


def _long(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:,.0f} s"
    return f"{seconds / 60:,.0f} min" if seconds < 7200 else f"{seconds / 3600:,.1f} h"
