"""One gate: a value against its limit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from featstore.records import GateOutcome

__all__ = ["Gate", "told"]


@dataclass(frozen=True, slots=True)
class Gate:
    """A check's name, its limit, and which way it goes; ``strict`` refuses a value at the limit itself."""

    name: str
    limit: float
    relation: Literal["at most", "at least"]
    strict: bool = False

    def judged(self, value: float, note: str | None = None) -> GateOutcome:
        """By the value alone; what is no number is refused."""
        good = value <= self.limit if self.relation == "at most" else value >= self.limit
        if self.strict and value == self.limit:
            good = False
        return self.said("passed" if good else "refused", value, note)

    def said(
        self, status: Literal["passed", "refused", "not judged"], value: float | None, note: str | None = None
    ) -> GateOutcome:
        """As it is said."""
        return GateOutcome(
            gate=self.name, status=status, value=value, limit=self.limit, relation=self.relation, note=note
        )


def told(outcome: GateOutcome) -> str:
    """An outcome in one sentence."""
    if outcome.value is None:
        return f"{outcome.gate}: {(outcome.note or 'could not be judged').rstrip('.')}."
    verb = "allowed" if outcome.relation == "at most" else "needed"
    note = f" ({outcome.note})" if outcome.note else ""
    limit = "more than" if outcome.value == outcome.limit else outcome.relation
    return f"{outcome.gate} is {outcome.value:.4g}, {limit} {outcome.limit:.4g} is {verb}{note}."
