"""The report of a table's move to another model: old and new on the same items, judged, as a document and as a page.

``heads`` compares the heads, ``scores`` maps thresholds, ``costs`` times the models, ``gates`` judges; ``making`` puts
it together and ``page`` shows it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from featstore.migrate.report.making import report
    from featstore.migrate.report.scores import carried

__all__ = ["carried", "report"]


def __getattr__(name: str) -> object:
    # Whoever carries a threshold over need not wait for what the comparison imports.
    if name == "report":
        from featstore.migrate.report.making import report

        return report
    if name == "carried":
        from featstore.migrate.report.scores import carried

        return carried
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
