"""Indexes: FAISS files made from one version of a table, which can always be made again.

``build`` makes one or brings it up to a newer version, ``open_index`` opens the one that serves a version best:
its answers are right for that version, also where it was made from another.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from featstore.index.upkeep import clean, own, pinned, summary, verify

if TYPE_CHECKING:
    from featstore.index.opening import open_index
    from featstore.index.run import build, plan
    from featstore.index.table_index import TableIndex

__all__ = ["TableIndex", "build", "clean", "open_index", "own", "pinned", "plan", "summary", "verify"]


def __getattr__(name: str) -> object:
    # `ls` and `show` look at cards alone; they need not wait for what searching imports.
    if name in ("build", "plan"):
        from featstore.index import run

        return getattr(run, name)
    if name == "open_index":
        from featstore.index.opening import open_index

        return open_index
    if name == "TableIndex":
        from featstore.index.table_index import TableIndex

        return TableIndex
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
