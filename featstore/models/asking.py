"""From a command's settings to the model that they ask for."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING

from featstore.models.catalog import ModelOptions, ModelRequest

if TYPE_CHECKING:
    from featstore.settings import ExtractSettings, MigrateSettings

__all__ = ["requested"]

# What may be said and is what a model does anyway.
_PLAIN = {"decode": "exact", "precision": "fp32"}


def requested(settings: ExtractSettings | MigrateSettings, *, table: str | None = None) -> ModelRequest:
    """The model that a command is told to use.

    Args:
        settings: The command's.
        table: The table that it is asked for; by default the one that an extract names.
    """
    said = {field.name: getattr(settings, field.name) for field in fields(ModelOptions)}
    options = ModelOptions(**{name: value for name, value in said.items() if value != _PLAIN.get(name)})
    model: str = vars(settings)["to" if hasattr(settings, "to") else "model"]
    weights = Path(settings.weights) if settings.weights else None
    return ModelRequest(model=model, weights=weights, options=options, table=table or getattr(settings, "name", None))
