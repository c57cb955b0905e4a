"""A table's move to another model: side by side, compared, in one step, and back.

``opening`` says what a move is of, ``backfill`` brings the items into the new space, ``run`` does one after the other,
``report`` sets the old model beside the new one, ``planning`` says what it would take.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from featstore.migrate.opening import abandon
    from featstore.migrate.planning import plan
    from featstore.migrate.run import migrate

__all__ = ["abandon", "migrate", "plan"]

_ROOMS = {"abandon": "opening", "migrate": "run", "plan": "planning"}


def __getattr__(name: str) -> object:
    # Giving a move up, and looking, need not wait for what extracting and training import.
    if name in _ROOMS:
        import importlib

        return getattr(importlib.import_module(f"featstore.migrate.{_ROOMS[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
