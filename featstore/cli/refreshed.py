"""What a refresh did, or would do, and what publishing moved, in words."""

from __future__ import annotations

from collections.abc import Iterator

from featstore.cli import console
from featstore.records import GateOutcome, HeadOutcome, PublishedState, PublishResult, RefreshPlan, RefreshResult

__all__ = ["behind", "moved", "outcome", "rehearsal", "summary"]

_SHOWN_FIGURES = 3


def summary(result: RefreshResult) -> str:
    """How it ended, in one sentence."""
    name, version = result.table, result.version
    ended = {
        "published": f"published version {version} of '{name}'",
        "nothing new": f"nothing new; version {result.published_version} of '{name}' is published",
        "refused": f"a gate refused version {version} of '{name}'; nothing was published",
        "held": f"version {version} of '{name}' passed; publishing is held",
        "interrupted": "stopped before its end; run it again to go on",
        "failed": "failed; nothing was published",
    }
    return f"job '{result.job}': {ended[result.status]}"


def outcome(result: RefreshResult) -> None:
    """Prints how a refresh went: its items, index, heads, drift and gates, and what comes next."""
    console.line(console.plain(summary(result)))
    console.facts(
        (
            ("run", result.run_id),
            ("published", result.published_version),
            ("as of", result.as_of),
            ("items", _items(result)),
            ("index", _index(result)),
            ("drift", _drift(result)),
            ("beside", _beside(result)),
            ("time", _time(result)),
        )
    )
    if result.heads:
        console.grid(
            ("head", "what", "version", "before", "figures", "why"),
            ((h.head, h.action, _or(h.version), _or(h.before), _figures(h), h.reason) for h in result.heads),
            right=("version", "before"),
        )
    if result.gates:
        console.grid(
            ("gate", "verdict", "value", "limit", "note"),
            ((g.gate, g.status, _value(g), f"{g.relation} {g.limit:g}", g.note or "") for g in result.gates),
            right=("value",),
        )
    for text in behind(result):
        console.line(text)
    for warning in result.warnings:
        console.line(f"warning: {console.plain(warning)}")
    for command in result.next:
        console.line(f"next: {console.plain(command)}")


def behind(result: RefreshResult) -> Iterator[str]:
    """For each gate that refused: what it found against what it allows, then up to ten items behind it."""
    for gate in result.gates:
        if gate.status == "refused":
            note = f" ({gate.note})" if gate.note else ""
            yield console.plain(f"gate {gate.gate}: {_value(gate)}, {gate.relation} {gate.limit:g} is allowed{note}")
            yield from (console.plain(f"  {item.item_id}: {item.about}") for item in gate.items[:10])


def rehearsal(plan: RefreshPlan) -> None:
    """Prints what a refresh would do."""
    console.line(console.plain(f"job '{plan.job}', table '{plan.table}'; nothing was changed"))
    found = plan.extract
    items = None
    if found is not None:
        items = (
            f"{found.seen:,} seen: {found.new:,} new, {found.changed:,} changed, {found.removed:,} removed, "
            f"{found.reused:,} reused, {found.rejected:,} rejected"
        )
    console.facts(
        (
            ("published", plan.published_version),
            ("items", items),
            ("work", f"{console.count(plan.shards, 'shard')}, {console.size(plan.bytes)} to write"),
            ("time", _range(plan.seconds_low, plan.seconds_high)),
            ("index", plan.index),
            *((f"head {head}", what) for head, what in plan.heads.items()),
            ("gates", "; ".join(plan.gates)),
        )
    )
    for warning in plan.warnings:
        console.line(f"warning: {console.plain(warning)}")


def moved(result: PublishResult) -> None:
    """Prints what a table's name means now, and meant before."""
    console.line(console.plain(f"'{result.name}' now means version {result.now.table_version}"))
    console.facts(
        (
            ("now", _state(result.now)),
            ("before", None if result.before is None else _state(result.before)),
            ("reason", result.now.reason),
            ("held", "nothing is published from now on but with: featstore publish" if result.held else None),
        )
    )
    for command in result.next:
        console.line(f"next: {console.plain(command)}")


def _state(state: PublishedState) -> str:
    parts = [f"{state.space_id}:{state.table_version}"]
    if state.index_version is not None:
        parts.append(f"index of version {state.index_version}")
    parts += [f"head {head}:{version}" for head, version in state.heads.items()]
    return ", ".join(parts)


def _items(result: RefreshResult) -> str | None:
    done = result.extract
    if done is None:
        return None
    return (
        f"{done.seen:,} seen = {done.stored:,} stored + {done.reused:,} reused + {done.rejected:,} rejected"
        f"{f' + {done.left:,} left to later runs' if done.left else ''}; "
        f"{done.removed:,} removed"
    )


def _beside(result: RefreshResult) -> str | None:
    """The table of the model that this one is on its way to."""
    if result.beside_error is not None:
        return "not in step; the next run goes on"
    done = result.beside
    if done is None:
        return None
    left = f"; {done.left:,} are left to featstore migrate" if done.left else ""
    return f"{done.space_id}: {done.stored:,} embedded, {done.removed:,} removed{left}"


def _index(result: RefreshResult) -> str | None:
    card = result.index
    if card is None:
        return None
    found = card.measured
    recall = "recall not measured" if found is None else f"recall {found.recall:.3f} of the {found.k} nearest"
    return f"{card.kind}, {card.action}, {recall}"


def _drift(result: RefreshResult) -> str | None:
    found = result.drift
    if found is None:
        return None
    if found.drifted is None:
        return found.note or "not measured"
    least = min((measure.adjusted for measure in found.measures), default=1.0)
    what = "what came is not of the kind that was there" if found.drifted else "none seen"
    return f"{what} (p {least:.3f}, {found.after:,} new contents)"


def _time(result: RefreshResult) -> str:
    stages = ", ".join(f"{stage} {seconds:,.1f}" for stage, seconds in result.stage_seconds.items())
    return f"{result.seconds:,.1f} s" + (f" ({stages})" if stages else "")


def _figures(head: HeadOutcome) -> str:
    shown = list(head.figures.items())[:_SHOWN_FIGURES]
    return ", ".join(f"{name} {found.value:.3f} [{found.low:.3f}–{found.high:.3f}]" for name, found in shown)


def _value(gate: GateOutcome) -> str:
    return "" if gate.value is None else f"{gate.value:.4g}"


def _range(low: float | None, high: float | None) -> str:
    if low is None or high is None:
        return "unknown: nothing like it has been measured yet"
    return f"{low:,.0f} s" if round(low) == round(high) else f"{low:,.0f} to {high:,.0f} s"


def _or(value: int | None) -> str:
    return "" if value is None else str(value)
