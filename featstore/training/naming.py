"""What heads are called, and where their pages may lie."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

from featstore.errors import SettingsError, UsageError
from featstore.layout import Layout
from featstore.records import ModelCard
from featstore.settings import HeadSettings
from featstore.tables import FeatureTable

__all__ = ["Tables", "names", "page_at"]

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._ -]{0,99}")

Tables = Sequence[tuple[FeatureTable, ModelCard]]
"""Tables with the cards of their models."""


def names(tables: Tables, settings: HeadSettings) -> list[str]:
    """What the heads of some tables are called: by table and label, of several tables of one name by model as well.

    Raises:
        UsageError: A table was named twice.
        SettingsError: What was given cannot be a name.
    """
    spaces = [(table.name, table.space_id) for table, _ in tables]
    twice = sorted({f"{name}@{space}" for name, space in spaces if spaces.count((name, space)) > 1})
    if twice:
        raise UsageError(f"named twice: {', '.join(twice)}.")
    found = []
    for table, model in tables:
        name = settings.name or f"{table.name}-{settings.label}"
        if len(tables) > 1:
            models = [other.model for _, other in tables]
            last = model.model if models.count(model.model) == 1 else table.space_id
            name = f"{name}-{last}" if settings.name or len({n for n, _ in spaces}) < len(tables) else name
        found.append(name if settings.name and len(tables) == 1 else re.sub(r"[^A-Za-z0-9._ -]+", "-", name))
    for name in found:
        if not _NAME.fullmatch(name):
            raise SettingsError(
                f"'{name[:100]}' cannot be the name of a head.",
                hint="Give one of letters, digits, '.', '_' and '-' with --name.",
            )
    return found


def page_at(layout: Layout, path: str | os.PathLike[str]) -> Path:
    """The file for a head's page.

    Raises:
        UsageError: Its name does not end in .html, or it lies within the store.
    """
    found = Path(os.path.abspath(os.path.expanduser(path)))
    if found.suffix.lower() not in (".html", ".htm") or found.is_dir():
        raise UsageError(f"--report {found}: the page's name must end in .html.")
    if Path(os.path.realpath(found)).is_relative_to(os.path.realpath(layout.storage.root)):
        raise UsageError(f"--report {found} lies within the store; write the file somewhere else.")
    return found
