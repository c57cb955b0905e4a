"""Refresh: one run of a job, from its source to what is published, or everything as it was.

``run`` decides the order, ``heads`` what becomes of each head, ``drifting`` whether the data moved, ``gates`` whether
it may be published, ``publishing`` moves what a table's name means, ``state`` and ``metrics`` say how it went.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from featstore.refresh.planning import plan
    from featstore.refresh.publishing import publish, rollback
    from featstore.refresh.run import refresh

__all__ = ["plan", "publish", "refresh", "rollback"]

_ROOMS = {"plan": "planning", "publish": "publishing", "rollback": "publishing", "refresh": "run"}


def __getattr__(name: str) -> object:
    # Going back, and looking, need not wait for what extracting and training import.
    if name in _ROOMS:
        import importlib

        return getattr(importlib.import_module(f"featstore.refresh.{_ROOMS[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
