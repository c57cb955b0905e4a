"""The report as one HTML page that needs nothing beside it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from featstore.finetune.report import compared, rates, setup, sheet, training, verdict
from featstore.finetune.report.nearest import Neighbours
from featstore.records import FinetuneReport, Modality
from featstore.reports.document import document
from featstore.reports.figures import count, day
from featstore.reports.markup import Markup, element, join, plain
from featstore.reports.pieces import facts, item
from featstore.reports.style import STYLE

__all__ = ["render"]

_NAMES = {
    "verdict": "Verdict",
    "compared": "Worth it?",
    "forgetting": "Forgetting",
    "training": "Training",
    "rates": "Rates",
    "neighbours": "Neighbours",
    "trials": "Search",
    "setup": "Setup",
}


def render(
    found: FinetuneReport,
    *,
    neighbours: Sequence[Neighbours] = (),
    labels: Mapping[str, str] | None = None,
    contents: Mapping[str, str] | None = None,
    previews: Mapping[str, bytes] | None = None,
    modality: Modality = "image",
) -> str:
    """Makes the page; the same arguments give the same one.

    Args:
        found: How the fine-tuning went.
        neighbours: Items with what is near them, before and after.
        labels: The labels of the items that ``neighbours`` names, by id.
        contents: The hashes of their contents, by id.
        previews: Thumbnails or beginnings of texts, by content hash.
        modality: Which of the two.
    """
    sections = [
        verdict.verdict(found),
        compared.compared(found),
        compared.forgetting(found),
        training.training(found),
        rates.rates(found),
        sheet.neighbours(found, neighbours, labels or {}, contents or {}, previews or {}, modality),
        setup.trials(found),
        setup.setup(found),
    ]
    there = [part for part in sections if part]
    made = f"Made {day(found.created_ts)} in {found.seconds:,.0f} s."
    body = join(
        element("header", None, *_heading(found), _links(there)),
        element("main", None, *there),
        element("footer", None, made),
    )
    title = f"{plain(found.table, 120)} · fine-tuning on {plain(found.label, 60)}"
    return document(title, body, style=STYLE + sheet.STYLE + rates.STYLE)


def _heading(found: FinetuneReport) -> list[Markup]:
    return [
        element("p.over", None, "featstore · fine-tuning"),
        element("h1", None, item(f"{found.table} · {found.label}", 120)),
        element(
            "p.lead",
            None,
            "The backbone ",
            element("b", None, item(found.model, 60)),
            " trained further on ",
            count(found.n_train, "labelled item"),
            f" of {count(len(found.classes), 'class')}: {plain(found.method, 120)}.",
        ),
        facts((("from", plain(found.base, 120)), ("to", plain(found.space_id, 120)))),
    ]


def _links(sections: Sequence[Markup]) -> Markup:
    there = [name for name in _NAMES if any(one.startswith(f'<section id="{name}"') for one in sections)]
    links = (element("li", None, element("a", {"href": f"#{name}"}, _NAMES[name])) for name in there)
    return element("nav", {"aria-label": "Sections"}, element("ul", None, *links))
