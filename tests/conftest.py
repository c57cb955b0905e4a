"""What all tests share: one store with exported models, real pictures, real sentences."""

from __future__ import annotations

import csv
import os
from pathlib import Path
from typing import Any

import once
import pytest
from groups import Grouped, tell
from PIL import Image
from sklearn.datasets import load_sample_image
from stores import exported_models

from featstore.machine import available_cpus

# Of the libraries whose threads wait for each other by turning in circles.
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")

SENTENCES = (
    ("cats", "The cat sat on the mat and watched the birds."),
    ("cats", "A kitten is playing with a ball of wool."),
    ("cats", "My neighbour's tomcat sleeps on the warm windowsill."),
    ("money", "The central bank raised interest rates by half a point."),
    ("money", "Inflation fell for the third month in a row."),
    ("money", "Shares of the car maker dropped after the quarterly report."),
    ("food", "Simmer the onions in butter until they are soft and golden."),
    ("food", "This soup needs more salt and a little lemon juice."),
    ("food", "Bake the bread for forty minutes in a hot oven."),
    ("code", "The function returns a list of integers, sorted in place."),
    ("code", "Compile the program with optimisation switched on."),
    ("code", "An exception is raised when the file cannot be opened."),
)


def pytest_configure(config: pytest.Config) -> None:
    """What tests share is kept for one run, and its workers share the cores."""
    if not hasattr(config, "workerinput"):
        once.begin()
        _divide_the_cores(getattr(config.option, "numprocesses", None) or 0)


def pytest_unconfigure(config: pytest.Config) -> None:
    """And removed after it."""
    if not hasattr(config, "workerinput"):
        once.end()


def _divide_the_cores(workers: int) -> None:
    """Two workers with a thread for every core each were measured to take up to twenty times as long for a small fit.

    Workers, and the programs that tests start, inherit it; what is tried on several threads says so itself.
    """
    for name in _THREADS if workers > 1 else ():
        os.environ.setdefault(name, str(max(1, available_cpus() // workers)))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Grouped | None:
    """Hands out tests by their groups."""
    return Grouped(config, log) if config.getvalue("dist") == "loadgroup" else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests that share what a module made for them go to one worker, which makes it once."""
    for item in items:
        if item.get_closest_marker("xdist_group") is None and _shares(item):
            item.add_marker(pytest.mark.xdist_group(item.nodeid.partition("::")[0]))
    tell(items)


def _shares(item: pytest.Item) -> bool:
    fixtures = item.session._fixturemanager
    own = (fixtures.getfixturedefs(name, item) or () for name in getattr(item, "fixturenames", ()))
    return any(one.scope == "module" for definitions in own for one in definitions)


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody's own FEATSTORE_ variables reach a test."""
    for name in [name for name in os.environ if name.startswith("FEATSTORE_")]:
        monkeypatch.delenv(name)


@pytest.fixture(scope="session")
def model_store() -> Path:
    """A store with the models ``efficientnet_lite0`` and ``minilm`` and no table; copy from it, never write into it."""
    return exported_models()


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dozen different photographs, JPEG and PNG, in the folders ``building`` and ``flower``; not to be changed."""
    folder = tmp_path_factory.mktemp("photos")
    for label, name in (("building", "china.jpg"), ("flower", "flower.jpg")):
        (folder / label).mkdir()
        whole = Image.fromarray(load_sample_image(name))
        for at in range(6):
            left, top = 110 * (at % 3), 150 * (at // 3)
            part = whole.crop((left, top, left + 300 + 20 * at, top + 270))
            part.save(folder / label / f"{label}{at}.{'png' if at % 3 == 2 else 'jpg'}")
    return folder


@pytest.fixture(scope="session")
def texts_csv(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve sentences with the columns ``id``, ``topic`` and ``text``; not to be changed."""
    file = tmp_path_factory.mktemp("texts") / "sentences.csv"
    with file.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(("id", "topic", "text"))
        writer.writerows((f"s{at:02d}", topic, text) for at, (topic, text) in enumerate(SENTENCES))
    return file
