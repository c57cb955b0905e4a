"""How a run tells whoever is watching how far it is."""

from __future__ import annotations

__all__ = ["Reporter"]


class Reporter:
    """Receives a run's progress and ignores it; the command line draws it.

    ``advance`` is called from several threads; ``stage`` and ``between`` from the run's own.
    """

    def stage(self, name: str, total: int | None = None) -> None:
        """A stage begins: ``scanning``, ``hashing``, ``exporting``, ``embedding``, ``committing``."""

    def advance(self, done: int, rejected: int = 0) -> None:
        """So many items more of the stage are done, so many of them rejected."""

    def at(self, name: str, done: int, total: int | None) -> None:
        """The stage of that name has done so many."""

    def between(self) -> None:
        """A piece of work is durable, and the next one has not begun: a run may be ended here by raising."""

    def message(self, text: str) -> None:
        """Something worth saying once, such as a download and its size."""

    def warning(self, text: str) -> None:
        """Something the user should know of; also part of the result."""
