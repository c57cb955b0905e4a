"""One run of extract: plan, shards, one commit."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from featstore.extract.run import extract

__all__ = ["extract"]


def __getattr__(name: str) -> object:
    # Those who only look at previews or chunks need not import all that a run needs.
    if name == "extract":
        from featstore.extract.run import extract

        return extract
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
