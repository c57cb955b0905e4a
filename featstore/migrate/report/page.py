"""The report as one HTML page that needs nothing beside it."""

from __future__ import annotations

from collections.abc import Sequence

from featstore.migrate.report import contact, showing
from featstore.migrate.report.sheet import Sheet
from featstore.records import GateOutcome, MigrationReport, ModelCard, RecallAt, SpaceBridgeCard
from featstore.reports.document import document
from featstore.reports.figures import count, day, written
from featstore.reports.markup import Markup, element, join, plain
from featstore.reports.pieces import Column, facts, item, section, table
from featstore.reports.style import STYLE

__all__ = ["render"]

_NAMES = {
    "verdict": "Verdict",
    "heads": "Heads",
    "retrieval": "Retrieval",
    "neighbours": "Neighbours",
    "scores": "Thresholds",
    "costs": "Costs",
    "bridge": "Bridge",
}


def render(
    report: MigrationReport,
    cards: tuple[ModelCard, ModelCard],
    *,
    shares: Sequence[float] = (),
    sheet: Sheet | None = None,
    run_id: str = "",
    before: Sequence[GateOutcome] = (),
) -> str:
    """Makes the page; the same arguments give the same one.

    Args:
        report: What was found.
        cards: The old model's and the new one's.
        shares: For each query the share of neighbours that both spaces have.
        sheet: The queries that changed most.
        run_id: The run that made what is judged.
        before: The verdicts of the gates that the run has besides those of the report.
    """
    sections = [
        _verdict(report, run_id, before),
        showing.heads(report.heads),
        showing.retrieval(report.evaluation),
        showing.neighbours(report.overlap, shares, sheet),
        showing.scores(report.scores),
        _costs(report, cards),
        _bridge(report.bridge),
    ]
    there = [part for part in sections if part]
    made = f"Made {day(report.created_ts)} in {report.seconds:,.0f} s."
    body = join(
        element("header", None, *_heading(report, cards), _links(there)),
        element("main", None, *there),
        element("footer", None, made),
    )
    return document(f"{plain(report.name, 120)} · move to another model", body, style=STYLE + contact.STYLE)


def _heading(report: MigrationReport, cards: tuple[ModelCard, ModelCard]) -> list[Markup]:
    old, new = cards
    sides = [
        f"{plain(card.model, 60)} ({card.space_id}), version {side.version}, {count(side.items, 'item')}"
        for card, side in zip((old, new), (report.before, report.after), strict=True)
    ]
    return [
        element("p.over", None, "Move to another model"),
        element("h1", None, item(report.name, 120)),
        facts((("old", sides[0]), ("new", sides[1]))),
    ]


def _links(sections: Sequence[Markup]) -> Markup:
    there = [name for name in _NAMES if any(one.startswith(f'<section id="{name}"') for one in sections)]
    links = (element("li", None, element("a", {"href": f"#{name}"}, _NAMES[name])) for name in there)
    return element("nav", {"aria-label": "Sections"}, element("ul", None, *links))


def _verdict(report: MigrationReport, run_id: str, before: Sequence[GateOutcome]) -> Markup:
    gates = (*before, *report.gates)
    refused = [gate for gate in gates if gate.status == "refused"]
    judged = [gate for gate in report.gates if gate.status != "not judged"]
    if refused:
        lead = f"{count(len(refused), 'gate')} of {len(gates)} refused: the old model stays."
    elif judged:
        lead = "Nothing that was judged speaks against the new model."
    else:
        lead = "Nothing judges the new model: there are no heads to compare and no judgements."
    rows = [
        [
            element("span.whole", None, item(gate.gate, 60)),
            _status(gate),
            _value(gate),
            element("span.whole", None, f"{gate.relation} {gate.limit:g}"),
            plain(gate.note or "", 300),
        ]
        for gate in gates
    ]
    columns = [Column("gate"), Column("verdict"), Column("value", True), Column("allowed"), Column("why")]
    listed = table("Gates", "What must hold before the new model is published.", columns, rows)
    behind = [_behind(gate) for gate in refused if gate.items]
    notes = element("ul.words", None, *(element("li", None, plain(note, 400)) for note in report.notes))
    words = element("p.lead", None, lead)
    return section(
        "verdict",
        "Verdict",
        f"Run {run_id}" if run_id else "",
        words,
        listed if rows else "",
        element("div.pair", None, *behind) if behind else "",
        notes if report.notes else "",
    )


def _status(gate: GateOutcome) -> Markup:
    colour = {"refused": "worst", "passed": "", "not judged": "muted"}[gate.status]
    words = {"refused": "▲ refused", "passed": "✓ passed", "not judged": "not judged"}[gate.status]
    return element(f"span.whole.{colour}" if colour else "span.whole", None, words)


def _value(gate: GateOutcome) -> str:
    return "–" if gate.value is None else written(gate.value, share=False)


def _behind(gate: GateOutcome) -> Markup:
    rows = [[item(one.item_id, 120), item(one.about, 200)] for one in gate.items]
    return table(f"Behind {plain(gate.gate, 60)}", "", [Column("item"), Column("what is to be said of it")], rows)


def _costs(report: MigrationReport, cards: tuple[ModelCard, ModelCard]) -> Markup:
    old, new = report.costs

    def row(name: str, a: float | None, b: float | None, *, bytes_: bool = True) -> list[str]:
        shown = ["–" if one is None else _size(one) if bytes_ else f"{one:,.1f}" for one in (a, b)]
        return [name, *shown, f"{b / a:.2f} ×" if a and b is not None else "–"]

    rows = [
        row("items a second", old.items_per_s, new.items_per_s, bytes_=False),
        ["values of a vector", f"{old.dim:,}", f"{new.dim:,}", f"{new.dim / old.dim:.2f} ×"],
        row("bytes of the table", old.vector_bytes, new.vector_bytes),
        row("bytes of the index", old.index_bytes, new.index_bytes),
        row("bytes of the model", old.model_bytes, new.model_bytes),
        ["licence", *(plain(card.weights.licence or "–", 40) for card in cards), ""],
    ]
    columns = [Column("what"), Column("old", True), Column("new", True), Column("new to old", True)]
    intro = "Both models were timed in turn, here, on the same items, from reading an item to its vector."
    return section("costs", "Costs", intro if old.items_per_s else "", table("What each side costs", "", columns, rows))


def _size(number: float) -> str:
    value = float(number)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000:
            return f"{value:,.0f} B" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} TB"


def _bridge(card: SpaceBridgeCard | None) -> Markup:
    if card is None:
        return Markup()

    def at(found: Sequence[RecallAt]) -> str:
        return ", ".join(f"{one.value:.3f} among {one.k}" for one in found)

    return section(
        "bridge",
        "Bridge",
        f"A map by which the models' vectors meet while the move is open, judged on {count(card.queries, 'item')} held "
        f"out among {card.gallery:,.0f}.",
        facts(
            (
                ("from", card.from_space),
                ("into", card.to_space),
                ("how", f"{card.method}, learned from {count(card.items, 'item')}"),
                ("finds the item itself", at(card.itself)),
                ("finds its old neighbours", at(card.neighbours)),
                ("finds its new neighbours", at(card.reembedded)),
            )
        ),
    )
