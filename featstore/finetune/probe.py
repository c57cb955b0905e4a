"""Neutral items that are on every machine: what a backbone must not unlearn, whatever it is trained on."""

from __future__ import annotations

import ast
import sysconfig
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from featstore.heads import fit, fold
from featstore.inputs.previews import of_image
from featstore.models import samples

if TYPE_CHECKING:
    from featstore.records import Modality

__all__ = ["Neutral", "neutral", "right"]

_ITEMS = 2_000
_FOLDS = 5

# Pixels that a digit of 8 × 8 is enlarged to; a model's own resize goes on from there.
_SIDE = 32

# Parts of the standard library that say much and different things.
_PARTS = (
    "argparse", "asyncio", "concurrent", "ctypes", "datetime", "_pydatetime", "decimal", "_pydecimal", "email", "http",
    "importlib", "logging", "multiprocessing", "pathlib", "random", "statistics", "tarfile", "threading", "turtle",
    "typing", "unittest", "urllib", "xml", "zipfile",
)  # fmt: skip
_SHORTEST, _LONGEST = 40, 300
_LEAST = 20


@dataclass(frozen=True, eq=False)
class Neutral:
    """n labelled items.

    Attributes:
        name: What they are.
        read: Gives an item's content, a picture's file or a text.
        truth: (n,) int64 classes.
    """

    name: str
    read: Callable[[int], bytes | str]
    truth: NDArray[np.int64]


def neutral(modality: Modality) -> Neutral:
    """Handwritten digits as pictures, or docstrings of the standard library by the part that they are of."""
    return _digits() if modality == "image" else _docstrings()


def right(vectors: NDArray[np.float32], truth: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Which items a linear probe gets right, each by one that has not seen its fold.

    The probe is a ridge classifier: it has one exact solution, found at once, on whatever vectors.

    Args:
        vectors: (n, d) of the neutral items.
        truth: (n,) their classes.
    """
    classes = tuple(str(number) for number in range(int(truth.max()) + 1))
    folds = fold(truth, np.arange(len(truth)), _FOLDS)
    found = fit(vectors, truth, classes, folds, kind="ridge")
    return np.asarray(found.out_of_fold.argmax(axis=1) == truth, np.bool_)


def _digits() -> Neutral:
    pictures, truth = samples.digits()
    files = [of_image(samples.enlarge(picture, _SIDE, _SIDE)) for picture in pictures[:_ITEMS]]
    return Neutral("digits", files.__getitem__, truth[:_ITEMS])


def _docstrings() -> Neutral:
    """As many of each part as of any other, as far as they go."""
    root = Path(sysconfig.get_path("stdlib"))
    by_part = {}
    seen: set[str] = set()
    for part in _PARTS:
        found = [text for text in _of_part(root, part) if not (text in seen or seen.add(text))]  # type: ignore[func-returns-value]
        if len(found) >= _LEAST:
            by_part[part] = found
    each = -(-_ITEMS // len(by_part))
    texts, truth = [], []
    for number, found in enumerate(by_part.values()):
        texts += found[:each]
        truth += [number] * len(found[:each])
    return Neutral("docstrings", texts.__getitem__, np.array(truth, np.int64))


def _of_part(root: Path, part: str) -> Iterator[str]:
    """The docstrings of a module or package, without importing it."""
    files = [root / f"{part}.py"] if (root / f"{part}.py").is_file() else sorted((root / part).rglob("*.py"))
    for file in files:
        if "test" in file.parts:
            continue
        try:
            tree = ast.parse(file.read_bytes())
        except (OSError, SyntaxError, ValueError):
            continue
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                text = (ast.get_docstring(node) or "")[:_LONGEST]
                if len(text) >= _SHORTEST:
                    yield text
