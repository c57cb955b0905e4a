"""The formats of an exported file, and how its name tells them."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, cast, get_args

from featstore.errors import UsageError

__all__ = ["Format", "format_of"]

Format = Literal["parquet", "csv", "npz", "safetensors"]


def format_of(output: Path, given: str | None = None) -> Format:
    """The format to write.

    Args:
        output: The file; its suffix decides where nothing else is said.
        given: What was asked for.

    Raises:
        UsageError: There is no such format, or the name does not tell it.
    """
    known = get_args(Format)
    wanted = output.suffix.removeprefix(".").lower() if given is None else given
    if wanted in known:
        return cast("Format", wanted)
    if given is not None:
        raise UsageError(f"there is no format '{given}'; there are {', '.join(known)}.")
    raise UsageError(
        f"'{output.name}' does not say which format to write.",
        hint=f"Name the file .parquet, .csv, .npz or .safetensors, or add --format {'|'.join(known)}.",
    )
