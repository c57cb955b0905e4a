"""Paths in a job's file begin in its folder: a scheduler starts a job anywhere."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["MODELS", "PATHS", "placed"]

MODELS = frozenset({("model", "name"), ("migrate", "to"), ("finetune", "model")})
"""The keys that name a model, by section."""

PATHS = frozenset(
    {
        ("job", "store"),
        ("source", "uri"),
        ("source", "source_root"),
        *MODELS,
        ("model", "weights"),
        ("finetune", "weights"),
        ("finetune", "labels"),
        ("finetune", "report"),
        ("migrate", "weights"),
        ("migrate", "queries"),
        ("migrate", "qrels"),
        ("head", "labels"),
        ("head", "report"),
        ("metrics", "textfile"),
    }
)
"""The keys that hold a path, by section."""


def placed(section: str, key: str, value: object, folder: Path) -> object:
    """A value of a job's file, absolute where it is a path.

    A URL stays as it is, and so does a model's name; one with a ``/`` and no ``:``, or that ends in ``.onnx`` or
    ``.featstore``, is a path.
    """
    if (section, key) not in PATHS or not isinstance(value, str) or not value.strip() or "://" in value:
        return value
    if (section, key) in MODELS and not _path(value):
        return value
    if value == "-":
        return value
    return os.path.abspath(os.path.join(folder, os.path.expanduser(value)))


def _path(model: str) -> bool:
    if model.startswith((".", "~", "/")) or model.endswith((".onnx", ".featstore")):
        return True
    return "/" in model and ":" not in model
