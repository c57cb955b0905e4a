"""What is wrong with a job's file: all of it at once, each with its key and line."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from featstore.errors import SettingsError

__all__ = ["Problem", "refused"]


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong: ``path`` is a key such as ``head[1].refit`` (counted from 0), empty for the file."""

    path: str
    text: str
    line: int | None = None

    def __str__(self) -> str:
        where = f"line {self.line}" if self.line is not None else ""
        return ": ".join(part for part in (where, self.path, self.text) if part)


def refused(file: str, problems: Sequence[Problem]) -> SettingsError:
    """The error that names all problems of a file; ``context["problems"]`` are they."""
    ordered = sorted(problems, key=lambda one: (one.line is None, one.line or 0))
    number = "an error" if len(ordered) == 1 else f"{len(ordered)} errors"
    return SettingsError(
        f"the job {file} has {number}: " + "; ".join(map(str, ordered)) + ".",
        hint=f"After mending it: featstore jobs check {file}",
        context={"problems": tuple(ordered), "file": file},
    )
