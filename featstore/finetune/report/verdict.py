"""What came of it: the figures that count, each gate with its verdict."""

from __future__ import annotations

import math

from featstore.records import Estimate, FinetuneReport, GateOutcome
from featstore.reports.figures import between, count, written
from featstore.reports.markup import Markup, element, plain
from featstore.reports.pieces import Column, item, section, table, words

__all__ = ["points", "verdict"]

_ABOUT = {
    "gain": "the new vectors against the old ones, on the same test items",
    "forgetting": "what another task loses on the new vectors",
    "parity": "whether the exported model gives what the trained one gave",
    "geometry": "whether the vectors still use the room that they have",
    "latency": "how many times as long an item takes",
}


def verdict(found: FinetuneReport) -> Markup:
    """The section."""
    refused = [gate for gate in found.gates if gate.status == "refused"]
    if refused:
        lead = (
            f"{count(len(refused), 'gate')} of {len(found.gates)} refused: no model came of it, and everything is as "
            "it was."
        )
    else:
        lead = f"Every gate passed: {plain(found.space_id, 120)} is a model of the store."
    return section(
        "verdict",
        "Verdict",
        f"On {count(found.n_test, 'test item')} that took no part in training or choosing, and were looked at once, "
        "at the end.",
        element("p.lead", None, lead),
        element("ul.tiles", None, *_tiles(found)),
        _gates(found.gates),
        *(_behind(gate) for gate in refused if gate.items),
        words(_said(found)),
    )


def points(estimate: Estimate) -> str:
    """A difference of shares in percentage points, with its interval."""
    shown = (f"{100 * end:+.1f}".replace("-", "−") for end in (estimate.value, estimate.low, estimate.high))
    value, low, high = (one if one.strip("+−0.") else "0.0" for one in shown)
    return f"{value} points ({low} to {high})"


def _tiles(found: FinetuneReport) -> list[Markup]:
    made = []
    for name, side in (("frozen backbone", found.frozen), ("fine-tuned", found.tuned)):
        figure = side.get("accuracy")
        if figure is not None:
            made.append(_tile(f"Accuracy, {name}", written(figure.value, share=True), between(figure, share=True)))
    shown = points(found.gain)
    made.append(_tile("Gain, paired by item", shown.partition(" points")[0], shown.partition(" (")[2].rstrip(")")))
    trained = [one for one in found.epochs if one.epoch >= 0]
    ended = "stopped early" if found.stopped_early else "went to the end"
    best = "the start" if found.best_epoch < 0 else f"{found.best_epoch}"
    made.append(_tile("Best epoch", best, f"of {len(trained)}, counted from 0; {ended}"))
    made.append(_tile("Time", _time(found.seconds), f"{_time(sum(one.seconds for one in trained))} of it training"))
    return made


def _tile(name: str, big: str, small: str) -> Markup:
    return element(
        "li.tile",
        None,
        element("span.name", None, name),
        element("span.big", None, big),
        element("span.small", None, small),
    )


def _time(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:,.0f} s"
    return f"{seconds / 60:,.0f} min" if seconds < 7200 else f"{seconds / 3600:,.1f} h"


def _gates(gates: tuple[GateOutcome, ...]) -> Markup:
    rows = [
        [
            element("span.whole", None, item(gate.gate, 60)),
            _status(gate),
            "–" if gate.value is None or not math.isfinite(gate.value) else written(gate.value, share=False),
            element("span.whole", None, f"{gate.relation} {gate.limit:g}"),
            plain(gate.note or _ABOUT.get(gate.gate.partition(".")[0], ""), 300),
        ]
        for gate in gates
    ]
    columns = [Column("gate"), Column("verdict"), Column("value", True), Column("allowed"), Column("why")]
    return table("Gates", "All of them must hold before the new backbone is a model.", columns, rows)


def _status(gate: GateOutcome) -> Markup:
    kind = {"refused": "worst", "passed": "fine", "not judged": "muted"}[gate.status]
    mark = {"refused": "▲ refused", "passed": "✓ passed", "not judged": "not judged"}[gate.status]
    return element(f"span.whole.{kind}", None, mark)


def _behind(gate: GateOutcome) -> Markup:
    rows = [[item(one.item_id, 120), item(one.about, 200)] for one in gate.items]
    return table(f"Behind {plain(gate.gate, 60)}", "", [Column("item"), Column("what is to be said of it")], rows)


def _said(found: FinetuneReport) -> list[tuple[str, str]]:
    """The sentences below the gates, each with its kind."""
    said = []
    if found.gain.high < 0:
        said.append(("It is clearly worse than the frozen backbone: fine-tuning hurt here.", "warn"))
    elif found.gain.low <= 0:
        said.append(("Whether it is better than the frozen backbone cannot be told from these items.", "warn"))
    if found.best_epoch < 0:
        said.append(("No epoch was better on the validation items than the start.", "warn"))
    return said + [(plain(note, 400), "") for note in found.notes]
