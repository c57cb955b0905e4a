"""The whole page, in one file: no request leaves it, and nothing of strangers can run in it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from featstore.errors import UsageError
from featstore.records import HeadCard, Modality, ModelCard
from featstore.reports.compared import compared
from featstore.reports.document import document
from featstore.reports.figures import day
from featstore.reports.learning import learning
from featstore.reports.looking import looking
from featstore.reports.makeup import cards, makeup
from featstore.reports.markup import Markup, element, join, plain
from featstore.reports.numeric import numeric
from featstore.reports.script import SCRIPT
from featstore.reports.several import several
from featstore.reports.single import single
from featstore.reports.style import STYLE
from featstore.reports.summary import heading, summary

if TYPE_CHECKING:
    import polars as pl

__all__ = ["render"]

_NAMES = {
    "summary": "Summary",
    "compared": "Worth it?",
    "classes": "Classes",
    "trust": "Trust",
    "numbers": "How far off",
    "learning": "More labels?",
    "look": "Look",
    "data": "Data",
    "cards": "Cards",
}


def render(
    card: HeadCard,
    predictions: pl.DataFrame,
    *,
    previews: Callable[[list[str]], Mapping[str, bytes]],
    modality: Modality,
    model_card: ModelCard | None = None,
) -> str:
    """Makes a head's report: one HTML page that needs nothing beside it.

    The same arguments give the same page. It grows neither with the items nor with the classes beyond a bound:
    thumbnails are at most 48, rows of a table at most 60.

    Args:
        card: The head's.
        predictions: ``predictions.parquet`` of the head: ``item_id``, ``content_sha256``, ``group``, ``fold``,
            ``side`` (``train``, ``test``), ``truth``, ``predicted``, ``probabilities`` (lists, in the order of the
            classes; not for regression).
        previews: Gives, for content hashes, JPEG thumbnails or UTF-8 beginnings of texts, as far as they are kept.
        modality: Which of the two.
        model_card: The backbone's; without it the page says nothing of the model but its name.

    Returns:
        The page.

    Raises:
        IntegrityError: The predictions do not fit the card.
        UsageError: There are no predictions.
    """
    if not len(predictions):
        raise UsageError(
            f"head '{card.head}:{card.version}' has no predictions to report on.",
            hint="Train it again: featstore train-head",
        )
    task = {"classification": single, "multilabel": several, "regression": numeric}[card.task]
    own, finds = task(card, predictions)
    sections = [
        summary(card),
        compared(card),
        *own,
        learning(card),
        looking(finds, previews(finds.contents), modality),
        makeup(card, predictions),
        cards(card, model_card),
    ]
    there = [part for part in sections if part]
    made = f"Made by featstore {plain(card.featstore)}. The head was trained {day(card.created_ts)}."
    top = element("header", None, *heading(card), _links(there))
    body = join(top, element("main", None, *there), element("footer", None, made))
    return document(f"{plain(f'{card.head}:{card.version}', 120)} · head report", body, style=STYLE, script=SCRIPT)


def _links(sections: list[Markup]) -> Markup:
    known = (
        (name, words) for name, words in _NAMES.items() if any(s.startswith(f'<section id="{name}"') for s in sections)
    )
    links = (element("li", None, element("a", {"href": f"#{name}"}, words)) for name, words in known)
    return element("nav", {"aria-label": "Sections"}, element("ul", None, *links))
