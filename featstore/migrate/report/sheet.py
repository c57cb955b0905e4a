"""The queries whose neighbours changed most, with what was near them before and what is now."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from featstore.extract import previews

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from featstore.diff.agreement import Neighbourhoods
    from featstore.layout import Layout
    from featstore.records import Modality

__all__ = ["Line", "Sheet", "Shown", "sheet"]

_QUERIES, _NEIGHBOURS = 8, 6


@dataclass(frozen=True)
class Shown:
    """An item on the sheet: ``new`` to its row says that the other row of the ``k`` nearest does not have it."""

    item_id: str
    content: str
    score: float | None = None
    new: bool = False


@dataclass(frozen=True)
class Line:
    """A query and its neighbours in both spaces, best first."""

    query: Shown
    share: float
    before: tuple[Shown, ...]
    after: tuple[Shown, ...]


@dataclass(frozen=True)
class Sheet:
    """The lines, and by content hash what is kept to look at: thumbnails or beginnings of texts."""

    modality: Modality
    lines: tuple[Line, ...]
    previews: Mapping[str, bytes]


def sheet(layout: Layout, name: str, near: Neighbourhoods, *, modality: Modality) -> Sheet:
    """Gathers the sheet.

    Args:
        layout: The store.
        name: The table's.
        near: Neighbours in both spaces.
        modality: Of the items.

    Raises:
        IntegrityError: Previews are damaged.
    """
    shares = near.shares
    order = [at for at in np.argsort(shares, kind="stable")[:_QUERIES].tolist() if shares[at] < 1]

    def shown(at: int, score: float | None = None, *, new: bool = False) -> Shown:
        return Shown(str(near.ids[at]), str(near.contents[at]), score, new)

    def line(these: NDArray[np.int64], scores: NDArray[np.float32], those: NDArray[np.int64]) -> tuple[Shown, ...]:
        others = set(those.tolist())
        pairs = zip(these[:_NEIGHBOURS].tolist(), scores[:_NEIGHBOURS].tolist(), strict=True)
        return tuple(shown(one, score, new=one not in others) for one, score in pairs)

    lines = tuple(
        Line(
            query=shown(int(near.asked[at])),
            share=float(shares[at]),
            before=line(near.a[at], near.cosines_a[at], near.b[at]),
            after=line(near.b[at], near.cosines_b[at], near.a[at]),
        )
        for at in order
    )
    wanted = {one.content for each in lines for one in (each.query, *each.before, *each.after)}
    return Sheet(modality, lines, previews.find(layout, name, wanted))
