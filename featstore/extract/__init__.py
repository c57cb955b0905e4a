"""One run of extract: plan, shards, one commit."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from featstore.extract.run import Ready, extract, model_of, staging

__all__ = ["Ready", "extract", "model_of", "staging"]


def __getattr__(name: str) -> object:
    # Those who only look at previews or chunks need not import all that a run needs.
    if name in __all__:
        from featstore.extract import run

        return getattr(run, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
