"""The section of items to look at: what the head is sure of and wrong about, and labels that are likely wrong."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from featstore.records import Modality
from featstore.reports.figures import count
from featstore.reports.gallery import Look, gallery
from featstore.reports.markup import Markup, element
from featstore.reports.pieces import section

__all__ = ["Finds", "looking"]

_UNSURE = (
    "Of so many items and classes probabilities are not kept: how sure the head was, and which labels are likely "
    "wrong, cannot be told."
)


@dataclass(frozen=True)
class Finds:
    """What a task's items have to show.

    Attributes:
        errors: The worst errors on test items.
        wrong: How many errors there are.
        tested: How many test items (multilabel: decisions on a label of one).
        mistakes: Labels that are likely wrong, of training and test items.
        mistaken: How many there are; None where all are ranked and none singled out.
        errors_title: What the first are called.
        mistakes_title: What the second are called.
        unsure: Whether no probabilities are kept, by which to order the first and find the second.
        mistakes_note: How they were found.
    """

    errors: Sequence[Look]
    wrong: int | None
    tested: int
    mistakes: Sequence[Look]
    mistaken: int | None
    errors_title: str = "Sure, and wrong"
    mistakes_title: str = "Labels that are likely wrong"
    unsure: bool = False
    mistakes_note: str = (
        "Heads that had not seen the item say something else than its label, and are as sure of it as they usually are "
        "of items of that class. Look before you change one."
    )

    @property
    def contents(self) -> list[str]:
        """The content hashes that previews are wanted of, each once."""
        return sorted({look.content for look in (*self.errors, *self.mistakes)})


def looking(finds: Finds, previews: Mapping[str, bytes], modality: Modality) -> Markup:
    """Draws both galleries."""
    errors = f"{count(finds.tested, 'test item')}, the largest misses first."
    if finds.unsure:
        wrong = f"{finds.wrong or 0:,} of {finds.tested:,} on the test side are wrong; the first {len(finds.errors)}."
        errors = f"{wrong} {_UNSURE}"
    elif finds.wrong is not None:
        errors = f"{finds.wrong:,} of {finds.tested:,} on the test side are wrong" + (
            f"; the {len(finds.errors)} that it was surest of." if finds.errors else "."
        )
    found = ""
    if finds.mistaken is not None:
        found = f"{finds.mistaken:,} found" + (
            f", the {len(finds.mistakes)} least believable are shown. "
            if finds.mistaken > len(finds.mistakes)
            else ". "
        )
    return section(
        "look",
        "Look at them",
        "",
        element("h3", None, finds.errors_title),
        element("p.note", None, errors),
        gallery(finds.errors, previews, modality) if finds.errors else "",
        *([] if finds.unsure else _mistakes(finds, found, previews, modality)),
    )


def _mistakes(finds: Finds, found: str, previews: Mapping[str, bytes], modality: Modality) -> list[Markup]:
    drawn = [gallery(finds.mistakes, previews, modality)] if finds.mistakes else []
    return [element("h3", None, finds.mistakes_title), element("p.note", None, found + finds.mistakes_note), *drawn]
