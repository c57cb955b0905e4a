"""Whether the new model is good enough to be published: each head and retrieval, held against the old one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from featstore.evaluate.metrics import CUT
from featstore.records import Evaluation, GateItem, GateOutcome

if TYPE_CHECKING:
    from featstore.jobs import Gates
    from featstore.migrate.report.heads import Moved

__all__ = ["NDCG", "judge"]

NDCG = f"ndcg@{CUT}"
"""The figure that retrieval is judged by."""

_NAMED = 10


def judge(
    gates: Gates, heads: Sequence[Moved], evaluation: Evaluation | None, untold: str | None = None
) -> tuple[GateOutcome, ...]:
    """Judges what the move would change.

    ``max_drop`` is the most that a head's main figure or the nDCG may fall. Where it is not given, a drop refuses that
    is significant: one whose paired 95 % interval lies wholly below 0. ``min_ndcg`` is the least nDCG by exact search.

    Args:
        gates: Of the job.
        heads: The heads, compared.
        evaluation: Retrieval in both spaces; None where it could not be measured.
        untold: Why judgements that were given could not be used; that refuses, as what was asked for was not judged.
    """
    found = [_head(gates.max_drop, head) for head in heads]
    found += _retrieval(gates, evaluation, untold)
    return tuple(found)


def _head(most: float | None, head: Moved) -> GateOutcome:
    move = head.move
    gate = f"max_drop.{move.head}"
    if head.status != "compared":
        status = "refused" if head.status == "impossible" else "not judged"
        return _said(gate, status, None, most or 0.0, move.note)
    old, new = move.figures_before.get(move.main), move.figures_after.get(move.main)
    apart = move.difference.get(move.main)
    if old is None or new is None or apart is None:
        return _said(gate, "refused", None, most or 0.0, f"its {move.main} is not a number", head.items)
    told = f"{move.main} {old.value:.3f} → {new.value:.3f} on {move.items:,} test items"
    return _drop(gate, most, apart.value, apart.low, apart.high, told, head.items)


def _retrieval(gates: Gates, evaluation: Evaluation | None, untold: str | None) -> list[GateOutcome]:
    drop, least = f"max_drop.{NDCG}", gates.min_ndcg
    if evaluation is None or evaluation.b is None or NDCG not in evaluation.difference:
        status = "refused" if untold else "not judged"
        note = untold or "there are no judgements"
        found = (
            []
            if gates.max_drop is None and untold is None
            else [_said(drop, status, None, gates.max_drop or 0.0, note)]
        )
        return found + ([] if least is None else [_said("min_ndcg", status, None, least, note, relation="at least")])
    old, new = (side.metrics["exact"][NDCG] for side in (evaluation.a, evaluation.b))
    apart = evaluation.difference[NDCG]
    items = tuple(
        GateItem(item_id=one.query, about=f"{evaluation.worst_by} {one.a:.3f} → {one.b:.3f}: {one.text}")
        for one in evaluation.worst[:_NAMED]
    )
    told = f"{NDCG} {old.mean:.3f} → {new.mean:.3f} on {evaluation.queries:,} queries"
    found = [_drop(drop, gates.max_drop, apart.mean, apart.low, apart.high, told, items)]
    if least is not None:
        good = new.mean >= least  # false of what is not a number
        value = new.mean if math.isfinite(new.mean) else None
        found.append(_said("min_ndcg", "passed" if good else "refused", value, least, told, items, "at least"))
    return found


def _drop(
    gate: str, most: float | None, apart: float, low: float, high: float, told: str, items: Sequence[GateItem]
) -> GateOutcome:
    """By new minus old and its interval."""
    if not all(map(math.isfinite, (apart, low, high))):
        return _said(gate, "refused", None, most or 0.0, f"{told}: not a number", items)
    interval = f"{told}: {apart:+.3f}, 95 % {low:+.3f} to {high:+.3f}".replace("-", "−")
    # What is left of a difference of two equal figures is a rounding.
    drop = round(-apart if most is not None else -high, 12)
    note = interval if most is not None else f"the drop is at least the value; {interval}"
    if most is None and drop <= 0:
        note = f"no significant drop; {interval}"
    limit = most or 0.0
    return _said(gate, "passed" if drop <= limit else "refused", drop + 0.0, limit, note, items)


def _said(
    gate: str,
    status: str,
    value: float | None,
    limit: float,
    note: str | None,
    items: Sequence[GateItem] = (),
    relation: str = "at most",
) -> GateOutcome:
    return GateOutcome(
        gate=gate,
        status=status,  # type: ignore[arg-type]
        value=value,
        limit=limit,
        relation=relation,  # type: ignore[arg-type]
        note=note,
        items=tuple(items),
    )
