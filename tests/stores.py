"""Stores for tests: fresh ones that share the models exported once in the session."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import once

import featstore
from featstore.store import Store

__all__ = ["copied_store", "copy_models", "damage", "exported_models", "fresh", "vectors", "write_texts"]


_EXPORT = """
import sys
import featstore
from featstore import founding, models
store = featstore.open(sys.argv[1])
founding.found(store.layout)
models.ensure(store.layout, models.ModelRequest(model=sys.argv[2]))
"""

_PACKAGED = ("efficientnet_lite0", "minilm")


def exported_models() -> Path:
    """A store with two models and no table. Of two workers that ask at once, each exports one of them."""
    # The workers of a run begin with different ones, or the second would wait for both.
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0")[2:]) % 2
    for name in (_PACKAGED[worker], _PACKAGED[1 - worker]):
        _exported(name)
    return once.once("models", _joined)


def _exported(name: str) -> Path:
    """A store with one packaged model, made in a process of its own: torch stays out of those of the tests."""
    return once.once(
        f"model-{name}",
        lambda folder: subprocess.run([sys.executable, "-c", _EXPORT, str(folder), name], check=True, timeout=280),
    )


def _joined(folder: Path) -> None:
    for name in _PACKAGED:
        copy_models(_exported(name), folder)


def copy_models(model_store: Path, target: Path, model: str = "") -> Path:
    """Makes a store with the exported models in it, or one of them, by hard links; returns its path."""
    for file in sorted((model_store / "models").rglob("*")):
        within = file.relative_to(model_store / "models")
        if file.is_file() and any(part.startswith(model) for part in within.parts):
            new = target / "models" / within
            new.parent.mkdir(parents=True, exist_ok=True)
            os.link(file, new)
    (target / "store.json").write_bytes((model_store / "store.json").read_bytes())
    return target


def copied_store(store: Path, target: Path) -> Path:
    """Copies a store or a folder that holds one, its models by hard links; returns the copy's path."""

    def copy(source: str, new: str) -> None:
        within = Path(source).relative_to(store).parts
        (os.link if "models" in within[:2] else shutil.copy2)(source, new)

    shutil.copytree(store, target, copy_function=copy)
    return target


def fresh(model_store: Path, folder: Path) -> Store:
    """An opened store with the exported models and no table."""
    return featstore.open(copy_models(model_store, folder / "store"))


def write_texts(path: Path, rows: dict[str, str], **columns: dict[str, object]) -> Path:
    """A JSONL source: ids and texts, with further columns by id."""
    lines = [
        json.dumps({"id": i, "text": t, **{name: values.get(i) for name, values in columns.items()}})
        for i, t in rows.items()
    ]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def vectors(table: featstore.Table) -> dict[str, bytes]:
    """Each item's vector as bytes."""
    ids, matrix = table.matrix()
    return {str(item): matrix[at].tobytes() for at, item in enumerate(ids)}


def damage(path: Path, change: str, *, bit: int = 0) -> None:
    """Replaces a file (never writes into it: others may be linked to it) by a damaged copy.

    Args:
        path: The file.
        change: ``flip`` one bit, cut one byte (``short``), ``half`` of it or all (``empty``).
        bit: Which bit to flip.
    """
    data = bytearray(path.read_bytes())
    if change == "flip":
        data[bit // 8] ^= 1 << (bit % 8)
    else:
        data = data[: {"short": len(data) - 1, "half": len(data) // 2, "empty": 0}[change]]
    stat = path.stat()
    path.unlink()
    path.write_bytes(data)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
