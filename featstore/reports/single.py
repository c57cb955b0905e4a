"""What a report on a classification adds: classes, calibration, errors, likely label mistakes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from featstore.records import HeadCard
from featstore.reports.classes import classes
from featstore.reports.gallery import SHOWN, Look
from featstore.reports.looking import Finds
from featstore.reports.markup import Markup
from featstore.reports.outcomes import Outcomes
from featstore.reports.trust import trust

if TYPE_CHECKING:
    import polars as pl

__all__ = ["single"]


def single(card: HeadCard, frame: pl.DataFrame) -> tuple[list[Markup], Finds]:
    """Sections of figures, and the items to look at.

    Raises:
        IntegrityError: The predictions do not fit the card.
    """
    found = Outcomes.of(card, frame)
    wrong = np.flatnonzero(found.test & ~found.right)
    surest = wrong[np.argsort(-found.confidence[wrong], kind="stable")][:SHOWN]
    mistaken = found.mistaken
    ids, contents, labels = frame["item_id"], frame["content_sha256"], frame["truth"]

    def look(row: int, said: int, note: str) -> Look:
        # A label that is none of the head's classes is shown as it stands in the table.
        own = int(found.truth[row])
        given = card.classes[own] if own >= 0 else str(labels[row])
        name = card.classes[said] if said >= 0 else "?"
        return Look(str(ids[row]), str(contents[row]), given, f"head: {name}", note)

    if not found.sure:
        errors = [look(row, int(found.predicted[row]), "") for row in surest.tolist()]
        return [classes(card, found)], Finds(errors, len(wrong), int(found.test.sum()), [], 0, "Wrong", unsure=True)
    errors = [look(row, int(found.predicted[row]), f"{found.confidence[row]:.1%} sure") for row in surest.tolist()]
    sides = np.where(found.test, "test", "training")
    mistakes = [look(row, int(found.suggested[row]), f"a {sides[row]} item") for row in mistaken[:SHOWN].tolist()]
    finds = Finds(errors, len(wrong), int(found.test.sum()), mistakes, len(mistaken))
    return [classes(card, found), trust(card, found)], finds
