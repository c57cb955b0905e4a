"""Items to look at: thumbnails or the beginnings of texts, with what was said of them."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from featstore.records import Modality
from featstore.reports.markup import Markup, element, join, plain
from featstore.reports.pieces import item

__all__ = ["SHOWN", "Look", "gallery", "preview"]

SHOWN = 24
"""Items of one gallery; a page has two at most."""

_TEXT = 240
# A thumbnail has 128 pixels a side: one that is larger than this is none of ours.
_BYTES = 40_000


@dataclass(frozen=True)
class Look:
    """An item and what there is to say of it.

    Attributes:
        item_id: Its id.
        content: Its content's hash, by which previews are kept.
        given: What its label is.
        said: What the head says instead.
        note: A figure beside that.
    """

    item_id: str
    content: str
    given: str
    said: str
    note: str


def gallery(looks: Sequence[Look], previews: Mapping[str, bytes], modality: Modality) -> Markup:
    """Draws them; one without a preview is shown by its id alone."""
    kind = "ul.gallery.texts" if modality == "text" else "ul.gallery"
    cells = (_cell(look, previews.get(look.content, b""), modality) for look in looks)
    summary = element("summary", None, f"The ids of these {len(looks)} items, to copy")
    names = element("pre", {"tabindex": 0, "aria-label": "Ids"}, "\n".join(plain(look.item_id, 1000) for look in looks))
    return join(element(kind, None, *cells), element("details", None, summary, names))


def _cell(look: Look, kept: bytes, modality: Modality) -> Markup:
    about = element(
        "div.about",
        None,
        element("p", None, "labelled ", element("b", None, item(look.given, 60))),
        element("p", None, element("span.said", None, item(look.said, 60))),
        element("p", None, look.note) if look.note else "",
        element("p.muted.name", None, item(look.item_id.rpartition("/")[2] or look.item_id, 60)),
    )
    shown = preview(kept, modality, look.item_id)
    return element("li", {"title": plain(look.item_id, 200)}, join(shown, about))


def preview(kept: bytes, modality: Modality, name: str) -> Markup:
    """A thumbnail, or the beginning of a text; ``kept`` is what the store holds, nothing where that is empty."""
    return _text(kept) if modality == "text" else _picture(kept, plain(name))


def _picture(kept: bytes, name: str) -> Markup:
    if not kept.startswith(b"\xff\xd8\xff") or len(kept) > _BYTES:
        return element("div.none", None, "no preview kept")
    data = base64.b64encode(kept).decode("ascii")
    return element("img", {"src": f"data:image/jpeg;base64,{data}", "alt": f"Thumbnail of {name}"})


def _text(kept: bytes) -> Markup:
    if not kept:
        return element("div.none", None, "no preview kept")
    words = plain(kept.decode("utf-8", "replace"), _TEXT)
    return element("blockquote", {"dir": "auto"}, words)
