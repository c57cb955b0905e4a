"""A job's TOML file, read and checked."""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path

from featstore.errors import NotFoundError, SettingsError, StorageError
from featstore.jobs.job import Job
from featstore.jobs.lines import lines_of
from featstore.jobs.problems import Problem, refused
from featstore.jobs.reading import GIVEN, Reading

__all__ = ["load", "parse"]

# A file that is no job at all should not be read whole.
_LARGEST = 1 << 20


def load(
    path: str | os.PathLike[str],
    given: Mapping[str, object] | None = None,
    environ: Mapping[str, str] | None = None,
) -> Job:
    """Reads a job: what is given over the environment over its file over defaults.

    Paths in the file are relative to its folder, so that a job means the same wherever its scheduler starts it. What a
    job and its heads are called comes from the file alone, and of a head's settings the environment changes only the
    device: a variable cannot tell several heads apart.

    Args:
        path: The TOML file.
        given: ``limit``, ``device`` and ``workers`` of this run; those that are None count as not given.
        environ: The environment; ``os.environ`` by default.

    Raises:
        NotFoundError: There is no such file.
        SettingsError: It is no TOML, or something in it is not as it must be. All problems are named, each with its
            key and line; ``context["problems"]`` has them.
        StorageError: The file cannot be read.
    """
    file = Path(path)
    return parse(_text(file), file, given, environ)


def parse(
    text: str,
    file: Path,
    given: Mapping[str, object] | None = None,
    environ: Mapping[str, str] | None = None,
) -> Job:
    """The same of a text that lies, or will lie, in a file.

    Raises:
        SettingsError: As in ``load``.
    """
    environ = os.environ if environ is None else environ
    try:
        body = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise refused(str(file), [_unreadable(str(error))]) from error
    except RecursionError as error:
        raise refused(str(file), [Problem("", "it is nested too deeply")]) from error
    unknown = [key for key in given or {} if key not in GIVEN]
    if unknown:
        raise SettingsError(
            f"{', '.join(unknown)}: of a job's run only {', '.join(GIVEN)} can be said over its file.",
            hint=f"Write the others into {file}.",
        )
    return Reading(file, lines_of(text), given or {}, environ).job(body)


def _text(file: Path) -> str:
    try:
        with file.open("rb") as stream:
            data = stream.read(_LARGEST + 1)
    except FileNotFoundError as error:
        raise NotFoundError(
            f"there is no job {file}.", hint="Make one of a table: featstore jobs new NAME -o FILE.toml"
        ) from error
    except IsADirectoryError as error:
        raise NotFoundError(f"{file} is a folder, not a job's file.", hint="Name a .toml file in it.") from error
    except OSError as error:
        raise StorageError(f"{file} cannot be read: {error.strerror or error}.") from error
    if len(data) > _LARGEST:
        raise refused(str(file), [Problem("", "it is larger than 1 MiB, which no job is")])
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise refused(str(file), [Problem("", "it is not UTF-8, which TOML is", line)]) from error


def _unreadable(said: str) -> Problem:
    """What the TOML reader says, without what it quotes."""
    found = re.search(r" \(at line (\d+), column \d+\)$", said)
    text = said if found is None else said[: found.start()]
    if text == "Cannot overwrite a value":
        text = "a key is there twice"
    elif text.startswith("Cannot declare"):
        text = "a section is there twice"
    return Problem("", f"it cannot be read as TOML: {text}", None if found is None else int(found[1]))
