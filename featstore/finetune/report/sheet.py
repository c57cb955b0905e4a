"""Neighbours before and after, as a contact sheet: pictures or texts, each with its label."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from featstore.finetune.report.nearest import Neighbours
from featstore.migrate.report import contact
from featstore.records import FinetuneReport, Modality
from featstore.reports.gallery import preview
from featstore.reports.markup import Markup, element, join, plain
from featstore.reports.pieces import item, section

__all__ = ["STYLE", "neighbours"]

STYLE = (
    contact.STYLE
    + """
.cell.same { border-color: var(--good); box-shadow: 0 0 0 1px var(--good); }
.cell figcaption b { display: block; font-weight: 600; }
.cell.other figcaption b { color: var(--bad); }
.cell.same figcaption b { color: var(--good); }
"""
)


@dataclass(frozen=True)
class _Shown:
    """What is known of the items."""

    labels: Mapping[str, str]
    contents: Mapping[str, str]
    previews: Mapping[str, bytes]
    modality: Modality

    def cell(self, name: str, query: str | None = None) -> Markup:
        """An item; of a neighbour it is said whether it has the query's label."""
        label, wanted = self.labels.get(name), None if query is None else self.labels.get(query)
        kind = "figure.cell"
        mark = ""
        if label is not None and wanted is not None:
            kind, mark = ("figure.cell.same", "✓ ") if label == wanted else ("figure.cell.other", "✗ ")
        picture = preview(self.previews.get(self.contents.get(name, ""), b""), self.modality, name)
        said = "" if label is None else element("b", None, mark, item(label, 40))
        short = item(name.rpartition("/")[2] or name, 60)
        return element(kind, {"title": plain(name, 200)}, picture, element("figcaption", None, join(said, short)))

    def told(self, query: str, found: Sequence[str]) -> str:
        """How many neighbours have the query's label."""
        if query not in self.labels or not any(name in self.labels for name in found):
            return ""
        right = sum(self.labels.get(name) == self.labels[query] for name in found)
        return f": {right} of {len(found)} of its class"


def neighbours(
    found: FinetuneReport,
    lines: Sequence[Neighbours],
    labels: Mapping[str, str],
    contents: Mapping[str, str],
    previews: Mapping[str, bytes],
    modality: Modality,
) -> Markup:
    """The section: how far the vectors went, and the items whose neighbours changed most."""
    shown = _Shown(labels, contents, previews, modality)
    intro = (
        f"Of an item's ten nearest, {found.overlap:.0%} are still among the ten. The mean cosine between an item's old "
        f"and new vector is {found.cosine:.3f}; the two spaces are not the same, so it only says how far the vectors "
        "went, and a far way is no fault."
    )
    parts = [_line(one, shown) for one in lines]
    if parts:
        note = "A green frame and ✓: of the item's own class. A red one and ✗: of another. The nearest come first."
        parts = [
            element("h3", None, "The items whose neighbours changed most"),
            *([element("p.note", None, note)] if labels else []),
            *parts,
        ]
    return section("neighbours", "Neighbours before and after", intro, *parts)


def _line(one: Neighbours, shown: _Shown) -> Markup:
    rows = []
    for words, names in (("before", one.before), ("after", one.after)):
        title = element("h4", None, f"{words}{shown.told(one.item_id, names)}")
        rows.append(element("div.row", None, title, *(shown.cell(name, one.item_id) for name in names)))
    query = element("div", None, element("h4", None, "the item"), shown.cell(one.item_id))
    kind = "div.line.texts" if shown.modality == "text" else "div.line"
    return element(kind, None, query, element("div", None, *rows))
