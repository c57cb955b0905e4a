"""What a move to another model did, or would do, in words."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from featstore.cli import console
from featstore.records import (
    Evaluation,
    GateOutcome,
    HeadMove,
    MigrationPlan,
    MigrationReport,
    MigrationResult,
    ScoreMap,
    SpaceCost,
)

__all__ = ["outcome", "rehearsal", "summary"]

_SHARES = (0.05, 0.5, 0.95)


def summary(result: MigrationResult) -> str:
    """How it ended, in one sentence."""
    name, version = result.name, f"version {result.version} in the new space"
    ended = {
        "published": f"'{name}' now means {version}",
        "ready": f"{version} passed; publishing it is left to you",
        "refused": f"a gate refused {version}; '{name}' means what it meant",
        "held": f"{version} passed; publishing of '{name}' is held",
        "nothing new": f"nothing is new; '{name}' means what it meant",
        "abandoned": f"given up; '{name}' means what it meant",
        "interrupted": "stopped before its end; run it again to go on",
        "failed": f"failed; '{name}' means what it meant",
    }
    return f"move of '{name}' to {result.to_space}: {ended[result.status]}"


def outcome(result: MigrationResult, store: Path) -> None:
    """Prints how a move in a store went: what was embedded, what its report found, the gates, what comes next."""
    console.line(console.plain(summary(result)))
    report = result.report
    console.facts(
        (
            ("from", result.from_space),
            ("to", result.to_space),
            (
                "embedded",
                f"{result.embedded:,} of {console.count(result.items, 'item')}, {result.stored:,} in this run",
            ),
            ("run", result.run_id),
            ("time", _time(result)),
            ("report", None if report is None or report.html is None else str(store / report.html)),
        )
    )
    if report is not None:
        _report(report)
    _gates(result.gates)
    if result.error:
        console.line(console.plain(result.error))
    for warning in result.warnings:
        console.line(f"warning: {console.plain(warning)}")
    for command in result.next:
        console.line(f"next: {console.plain(command)}")


def rehearsal(plan: MigrationPlan) -> None:
    """Prints what a move would take."""
    console.line(console.plain(f"move of '{plan.name}' from {plan.from_space} to {plan.model}; nothing was changed"))
    console.facts(
        (
            ("new space", plan.to_space or "known once the model is in the store"),
            ("items", f"{plan.items:,}, of which {plan.there:,} have a vector: {plan.to_embed:,} to embed"),
            ("time", _range(plan.seconds_low, plan.seconds_high)),
            ("disk", _disk(plan)),
            ("index", plan.index),
            *((f"head {head}", what) for head, what in plan.heads.items()),
            ("gates", "; ".join(plan.gates)),
        )
    )
    for warning in plan.warnings:
        console.line(f"warning: {console.plain(warning)}")


def _report(report: MigrationReport) -> None:
    if report.heads:
        console.grid(
            ("head", "figure", "items", "old", "new", "new - old", "note"),
            (_head(move) for move in report.heads),
            right=("items", "old", "new"),
        )
    if report.evaluation is not None:
        _retrieval(report.evaluation)
    if report.overlap is not None:
        found = report.overlap
        console.line(
            f"neighbours: of the {found.k} nearest {found.mean:.3f} are the same, asked for {found.queries:,} of "
            f"{found.items:,} items; by chance {found.expected:.3f}"
        )
        most = [f"{one.item_id} ({one.overlap:.2f})" for one in found.changed_most[:5]]
        console.line(f"changed most: {console.plain(', '.join(most))}")
    if report.scores is not None:
        _scores(report.scores)
    if report.costs:
        _costs(report.costs)
    for note in report.notes:
        console.line(f"note: {console.plain(note)}")


def _head(move: HeadMove) -> tuple[object, ...]:
    old, new, apart = (found.get(move.main) for found in (move.figures_before, move.figures_after, move.difference))
    between = "" if apart is None else f"{apart.value:+.3f} [{apart.low:+.3f}, {apart.high:+.3f}]"
    figures = ("" if one is None else f"{one.value:.3f}" for one in (old, new))
    return (move.head, move.main, f"{move.items:,}", *figures, between, move.note or "")


def _retrieval(found: Evaluation) -> None:
    if not found.difference or found.b is None:
        return
    old, new = found.a.metrics["exact"], found.b.metrics["exact"]
    console.grid(
        ("retrieval", "old", "new", "new - old"),
        (
            (name, f"{old[name].mean:.3f}", f"{new[name].mean:.3f}", f"{s.mean:+.3f} [{s.low:+.3f}, {s.high:+.3f}]")
            for name, s in found.difference.items()
        ),
        right=("old", "new"),
    )


def _scores(found: ScoreMap) -> None:
    kinds = (("nearest", found.best), ("tenth nearest", found.tenth), ("any two", found.random))
    console.grid(
        ("scores, old → new", *(f"{share:.0%}" for share in _SHARES)),
        (
            (name, *(f"{one.before:.3f} → {one.after:.3f}" for one in quantiles if one.share in _SHARES))
            for name, quantiles in kinds
            if quantiles
        ),
    )


def _costs(costs: tuple[SpaceCost, ...]) -> None:
    console.grid(
        ("space", "items/s", "values", "table", "index", "model"),
        (
            (
                cost.space_id,
                "" if cost.items_per_s is None else f"{cost.items_per_s:,.1f}",
                f"{cost.dim:,}",
                console.size(cost.vector_bytes),
                "" if cost.index_bytes is None else console.size(cost.index_bytes),
                console.size(cost.model_bytes),
            )
            for cost in costs
        ),
        right=("items/s", "values", "table", "index", "model"),
    )


def _gates(gates: tuple[GateOutcome, ...]) -> None:
    if not gates:
        return
    console.grid(
        ("gate", "verdict", "value", "limit", "note"),
        ((g.gate, g.status, _value(g), f"{g.relation} {g.limit:g}", g.note or "") for g in gates),
        right=("value",),
    )
    for text in _behind(gates):
        console.line(text)


def _behind(gates: tuple[GateOutcome, ...]) -> Iterator[str]:
    for gate in gates:
        if gate.status == "refused" and gate.items:
            yield console.plain(f"behind {gate.gate}:")
            yield from (console.plain(f"  {one.item_id}: {one.about}") for one in gate.items[:10])


def _value(gate: GateOutcome) -> str:
    return "" if gate.value is None else f"{gate.value:.4g}"


def _time(result: MigrationResult) -> str:
    stages = ", ".join(f"{stage} {seconds:,.1f}" for stage, seconds in result.stage_seconds.items())
    return f"{result.seconds:,.1f} s" + (f" ({stages})" if stages else "")


def _disk(plan: MigrationPlan) -> str:
    index = f", {console.size(plan.index_bytes)} of index" if plan.index_bytes else ""
    return f"{console.size(plan.bytes)} of vectors{index}; {console.size(plan.disk_free)} are free"


def _range(low: float | None, high: float | None) -> str:
    if low is None or high is None:
        return "unknown: the new model has not been timed here yet"
    return _long(low) if _long(low) == _long(high) else f"{_long(low)} to {_long(high)}"


def _long(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:,.0f} s"
    return f"{seconds / 60:,.0f} min" if seconds < 7200 else f"{seconds / 3600:,.1f} h"
