"""A job's TOML file, read and checked."""

from __future__ import annotations

import os
from collections.abc import Mapping

from featstore.jobs.job import Job

__all__ = ["load"]


def load(
    path: str | os.PathLike[str],
    given: Mapping[str, object] | None = None,
    environ: Mapping[str, str] | None = None,
) -> Job:
    """Reads a job: what is given over the environment over its file over defaults."""
    raise NotImplementedError
