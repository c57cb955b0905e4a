"""Flags that mean the same in every command."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

__all__ = [
    "CHANGE",
    "GROUPS",
    "KEEP_FRESH",
    "LOOK",
    "LOOK_AFTER",
    "MAKE",
    "DryRun",
    "Json",
    "Quiet",
    "StorePath",
    "Verbose",
    "volume",
]

MAKE, CHANGE, LOOK, LOOK_AFTER, GROUPS = "Make", "Change the model", "Look", "Look after", "Groups"
KEEP_FRESH = "Keep fresh"


@dataclass
class _Volume:
    """How much this process says; ``-v`` and ``-q`` may stand before or after the command's name."""

    verbose: bool = False
    quiet: bool = False


volume = _Volume()


def _set_verbose(value: bool) -> bool:
    volume.verbose = volume.verbose or value
    return value


def _set_quiet(value: bool) -> bool:
    volume.quiet = volume.quiet or value
    return value


StorePath = Annotated[
    Path | None,
    typer.Option(
        "--store",
        metavar="FOLDER",
        help="The store. Default: FEATSTORE_STORE, else the nearest featstore-data from here upwards.",
        show_default=False,
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only say what would be done.")]
Verbose = Annotated[
    bool, typer.Option("-v", "--verbose", callback=_set_verbose, help="Show the traceback of an error.")
]
Quiet = Annotated[bool, typer.Option("-q", "--quiet", callback=_set_quiet, help="Show no progress.")]
