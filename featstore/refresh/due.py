"""When a head is to be fitted anew.

With ``always`` as soon as the items to learn from are others. With ``on-drift`` if they are, and moreover one of these
holds: what came is not of the kind that was there; the head's main figure is significantly below that on its card;
labelled items came, or were labelled anew, that are more than a fifth of what it has learned from; a label that it does
not know is on three items or more. Where there is nothing else to learn from, the same head would come of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from featstore.training.measuring import PRIMARY

if TYPE_CHECKING:
    from featstore.records import DriftReport, Estimate
    from featstore.training.rescoring import Rescored

__all__ = ["GROWN", "below", "due"]

GROWN = 0.2
"""The share of a head's training items that may come before it is fitted on them too."""

# Items of a label that a head does not know, from which a training could learn and test it.
_STRANGE = 3


def due(refit: str, found: Rescored, drift: DriftReport | None) -> str | None:
    """Why a head is to be fitted anew; None where it is not."""
    if refit == "never" or not found.changes:
        return None
    changed = f"of the items to learn from, {found.changes}"
    if refit == "always":
        return changed
    if drift is not None and drift.drifted:
        return "what came is not of the kind that was there"
    unknown = [f"'{label}' ({count:,})" for label, count in found.strange.items() if count >= _STRANGE]
    if unknown:
        return f"it does not know the label {', '.join(unknown[:3])}"
    name = PRIMARY[found.card.task]
    then, now = found.card.metrics.get(name), found.figures[name]
    if then is not None and below(now, then):
        return f"{name} fell to {now.value:.3f} from {then.value:.3f} on its card"
    if found.changes.new + found.changes.relabelled > GROWN * found.card.n_train:
        return f"{changed}: more than {GROWN:.0%} of the {found.card.n_train:,} that it has learned from"
    return None


def below(now: Estimate, then: Estimate) -> bool:
    """Whether the interval of the difference lies below 0, as if the two were of different items.

    Most test items are the same in both, which makes this careful: it says less often than 1 time in 40 that a head
    fell where it did not.

    Source: Zou and Donner, Construction of confidence limits about effect measures (2008), equation 2.
    """
    gap = now.value - then.value
    return bool(gap + ((now.high - now.value) ** 2 + (then.value - then.low) ** 2) ** 0.5 < 0)
