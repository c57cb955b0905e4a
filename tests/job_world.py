"""Jobs for tests: a table of texts with times and labels, and the TOML file that keeps it fresh."""

from __future__ import annotations

import csv
from pathlib import Path

from cli_world import inside, photos, stocked
from stores import copy_models

TEXT_JOB = """\
[job]
name = "notes"
[source]
uri = "notes.csv"
text_column = "text"
id_column = "id"
label_column = "label"
time_column = "when"
[model]
name = "minilm"
[extract]
shard_items = 4
workers = 1
[metrics]
textfile = "notes.prom"
"""

_TOPICS = {"cats": "a kitten chases yarn", "money": "the bank raised its rates"}


def write_notes(folder: Path, number: int, *, start: int = 0, name: str = "notes.csv", words: str = "") -> Path:
    """Texts of the ids ``n000`` on, alternately about cats and money; item k is of midnight of day k of 2026."""
    path = folder / name
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(("id", "text", "label", "when"))
        for at in range(start, start + number):
            label = list(_TOPICS)[at % 2]
            day = f"2026-{1 + at // 28:02d}-{1 + at % 28:02d}T00:00:00Z"
            writer.writerow((f"n{at:03d}", f"Note {at}: {_TOPICS[label]}. {words}", label, day))
    return path


def noted(model_store: Path, folder: Path, number: int = 12, job: str = TEXT_JOB) -> Path:
    """A folder with ``notes.csv``, the job ``notes.toml`` and a store that has the models; returns the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    copy_models(model_store, folder / "featstore-data")
    write_notes(folder, number)
    (folder / "notes.toml").write_text(job, "utf-8")
    return folder


PHOTO_JOB = """\
[job]
name = "photos"
[source]
uri = "photos"
[model]
name = "efficientnet_lite0"
"""


def scheduled(folder: Path) -> Path:
    """Puts the job ``photos.toml`` into a copy of the world of photos; returns the folder."""
    (folder / "photos.toml").write_text(PHOTO_JOB, "utf-8")
    return folder


def refreshed(folder: Path, times: int = 0) -> Path:
    """Makes a store with the model, photos, and their job, which has published so many times; returns the folder."""
    scheduled(stocked(folder))
    photos(folder / "photos", 12)
    for number in range(12, 12 + times):
        photos(folder / "photos", number)
        done = inside("refresh", "photos.toml", cwd=folder)
        assert done.code == 0, done.err
    return folder
