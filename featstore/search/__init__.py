"""Search: queries in, the items nearest to each of them out.

``queries`` takes apart what is asked, ``files`` and ``vector_files`` read it from files, ``encoding`` makes
vectors of it, ``space`` compares them with the table's, ``picking`` chooses the hits, ``searcher`` holds all of it
together. ``result``, ``outputs`` and ``sheets`` give the hits a form.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from featstore.search.queries import Query

if TYPE_CHECKING:
    from featstore.search.searcher import Searcher

__all__ = ["Query", "Searcher"]


def __getattr__(name: str) -> object:
    # What a searcher stands on takes a while to import; naming a query must not.
    if name == "Searcher":
        from featstore.search.searcher import Searcher

        return Searcher
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
