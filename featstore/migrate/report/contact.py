"""The contact sheet of the queries that changed most, as a part of the page."""

from __future__ import annotations

from featstore.migrate.report.sheet import Sheet, Shown
from featstore.reports.figures import written
from featstore.reports.gallery import preview
from featstore.reports.markup import Markup, element, join, plain
from featstore.reports.pieces import item

__all__ = ["STYLE", "contact"]

STYLE = """
.worst { color: var(--bad); font-weight: 600; }
.line { border-top: 1px solid var(--line); padding: .9rem 0 .3rem; display: grid; gap: .2rem 1.2rem;
  grid-template-columns: minmax(0, 132px) minmax(0, 1fr); }
.line.texts { grid-template-columns: minmax(0, 1fr); }
.line .row { display: flex; flex-wrap: wrap; gap: .5rem; align-items: flex-start; }
.line h4 { margin: .2rem 0; font-size: .88rem; font-weight: 600; color: var(--muted); width: 100%; }
.cell { margin: 0; width: 104px; font-size: .8rem; overflow-wrap: anywhere; border-radius: 8px; overflow: hidden;
  border: 1px solid var(--line); break-inside: avoid; }
.texts .cell { width: 232px; }
.cell.other { border-color: var(--bad); box-shadow: 0 0 0 1px var(--bad); }
.cell img, .cell .none { display: block; width: 100%; height: 84px; object-fit: contain; background: var(--soft); }
.cell .none { display: grid; place-items: center; color: var(--muted); text-align: center; }
.cell blockquote { margin: 0; padding: .4rem .5rem; background: var(--soft); max-height: 7.5em; overflow: hidden; }
.cell figcaption { padding: .25rem .4rem .35rem; font-weight: 400; font-size: .78rem; }
@media (max-width: 600px) { .line { grid-template-columns: minmax(0, 1fr); } .texts .cell { width: 100%; } }
"""


def contact(sheet: Sheet) -> Markup:
    """Draws each query with its neighbours in both spaces; without a preview an item is shown by its id alone."""
    title = element("h3", None, "The items whose neighbours changed most")
    note = element("p.note", None, "A coloured frame: among the nearest of this model alone. The figure is the cosine.")
    kind = "div.line.texts" if sheet.modality == "text" else "div.line"
    lines = []
    for line in sheet.lines:
        rows = [
            element("div.row", None, element("h4", None, words), *(_cell(one, sheet) for one in found))
            for words, found in (("old neighbours", line.before), ("new neighbours", line.after))
        ]
        query = element("div", None, element("h4", None, f"{line.share:.0%} kept"), _cell(line.query, sheet))
        lines.append(element(kind, None, query, element("div", None, *rows)))
    return join(title, note, *lines)


def _cell(shown: Shown, sheet: Sheet) -> Markup:
    picture = preview(sheet.previews.get(shown.content, b""), sheet.modality, shown.item_id)
    name = item(shown.item_id.rpartition("/")[2] or shown.item_id, 60)
    score = "" if shown.score is None else f"{written(shown.score, share=False)} "
    kind = "figure.cell.other" if shown.new else "figure.cell"
    return element(kind, {"title": plain(shown.item_id, 200)}, picture, element("figcaption", None, score, name))
