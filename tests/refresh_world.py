"""What the tests of refresh, publish and rollback share: a small source of texts, a job over it, and what readers see.

Run as a script it is a process to be killed: ``refresh_world.py STORE SOURCE POINT`` runs the job and, at that point,
sends itself SIGKILL.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import sys
from dataclasses import dataclass
from pathlib import Path

import polars as pl
from faults import Faulty
from stores import copy_models, vectors

import featstore
from featstore import published
from featstore.jobs import Gates, HeadJob, Job
from featstore.records import RefreshResult
from featstore.settings import ExtractSettings, HeadSettings, IndexSettings, TorchSettings, resolve
from featstore.storage import durable
from featstore.store import Store

__all__ = ["Seen", "World", "bytes_of", "copied", "job_of", "seen", "world", "write"]

_SAYINGS = {
    "cats": ("the kitten chases {} balls of wool", "a tomcat sleeps beside {} birds", "{} cats purr on the sofa"),
    "money": ("the bank raised its rates by {} points", "shares fell {} percent today", "{} dollars of debt were paid"),
}


def write(path: Path, number: int, *, start: int = 0, without: int = 0, extra: dict[str, str] | None = None) -> Path:
    """A CSV file of ``id,text,label``: cats and money in turn."""
    lines = ["id,text,label"]
    for at in range(start + without, start + number):
        label = ("cats", "money")[at % 2]
        lines.append(f"t{at:03d},{_SAYINGS[label][at % 3].format(at)} in story {at},{label}")
    lines += [f"{item},{text},cats" for item, text in (extra or {}).items()]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def job_of(
    source: Path,
    *,
    name: str = "texts",
    model: str = "minilm",
    head: bool = False,
    index: bool = True,
    gates: Gates | None = None,
    digest: str = "1",
    **more: object,
) -> Job:
    """A job over such a file."""
    given = {"source": str(source), "model": model, "id_column": "id", "text_column": "text", "label_column": "label"}
    extract, origins = resolve(ExtractSettings, {**given, "shard_items": 16, "max_reject_share": 1.0, **more})
    wanted, _ = resolve(IndexSettings, {})
    heads: tuple[HeadJob, ...] = ()
    if head:
        settings, _ = resolve(HeadSettings, {"kind": "ridge", "curve": False, "baselines": False})
        torch, _ = resolve(TorchSettings, {})
        heads = (HeadJob(name=f"{name}-topic", settings=settings, torch=torch, refit="always"),)
    return Job(
        name=name,
        table=name,
        extract=extract,
        index=wanted if index else None,
        heads=heads,
        gates=gates or Gates(),
        origins=origins.origins,
        digest=digest,
    )


@dataclass
class World:
    """A store, its source, and its job."""

    store: Store
    source: Path

    def refresh(self, **more: object) -> RefreshResult:
        return self.store.refresh(job_of(self.source, **more))  # type: ignore[arg-type]

    def add(self, text: str, item: str | None = None) -> None:
        """Appends an item to the source."""
        lines = self.source.read_text("utf-8").splitlines()
        lines.append(f"{item or f'x{len(lines):03d}'},{text},cats")
        self.source.write_text("\n".join(lines) + "\n", "utf-8")


def world(model_store: Path, folder: Path, number: int = 24) -> World:
    """A new store with the models, and a source of so many texts."""
    folder.mkdir(parents=True, exist_ok=True)
    return World(featstore.open(copy_models(model_store, folder / "store")), write(folder / "texts.csv", number))


def copied(first: World, folder: Path) -> World:
    """A copy of a world's store, models by hard links; the source is the same file, as it was at first."""
    source = first.store.path
    for file in sorted(source.rglob("*")):
        target = folder / "store" / file.relative_to(source)
        if file.is_dir():
            target.mkdir(parents=True, exist_ok=True)
        elif file.relative_to(source).parts[0] == "models":
            target.parent.mkdir(parents=True, exist_ok=True)
            os.link(file, target)
        else:
            shutil.copy2(file, target)
    write(first.source, 24)
    return World(featstore.open(folder / "store"), first.source)


@dataclass(frozen=True)
class Seen:
    """What readers see of a table: by name, through Delta, through the index, and its head."""

    version: int | None
    items: dict[str, bytes]
    heads: dict[str, int]
    index: int | None


def seen(store: Store, name: str = "texts") -> Seen:
    """Reads everything there is to read, and holds it against each other."""
    state = store.published(name)
    table = store.table(name)
    items = vectors(table)
    frame = pl.read_delta(str(table.path))
    assert frame["item_id"].n_unique() == len(frame)
    found = table.search(id=min(items), k=3)
    assert set(found["item_id"]) <= set(items)
    exact = table.search(id=min(items), k=3, exact=True)
    assert found["item_id"].to_list() == exact["item_id"].to_list()
    heads = {} if state is None else state.state.heads
    for head, version in heads.items():
        opened = store.head(head)
        assert opened.card.version == version
        assert opened.card.space_id == table.space_id
        opened.predict(table.matrix()[1][:2])
    errors = [one for one in store.verify(sample=0).findings if one.severity == "error"]
    assert errors == []
    return Seen(table.version, items, heads, None if state is None else state.state.index_version)


def bytes_of(store: Store, *folders: str) -> dict[str, str]:
    """The digests of all files in some folders of a store."""
    storage = store.layout.storage
    return {
        path: hashlib.sha256(storage.read(path)).hexdigest() for folder in folders for path in storage.files(folder)
    }


def _killed(point: str) -> None:
    """Arranges for this process to be killed: ``before:swap``, ``after:commit``, ``17`` for an operation on the disk.

    ``publishing:3`` is the third operation from the stage of that name on.
    """
    from featstore.extract.progress import Reporter
    from featstore.refresh import run
    from featstore.tables import FeatureTable

    def kill() -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    places = {
        "commit": (FeatureTable, "commit"),
        "heads": (run.heads, "settle"),
        "index": (run, "build"),
        "gates": (run.gates, "judge"),
        "adopt": (run, "adopt"),
        "swap": (published, "swap"),
        "shard": (featstore.extract.run, "run_shard"),
    }
    when, _, what = point.rpartition(":")
    if when == "publishing":
        told = Reporter.stage

        def stage(self: Reporter, name: str, total: int | None = None) -> None:
            told(self, name, total)
            if name == "publishing":
                durable.os = Faulty(int(what), kill)  # type: ignore[attr-defined]

        Reporter.stage = stage  # type: ignore[method-assign]
    elif when:
        owner, name = places[what]
        real = getattr(owner, name)

        def instead(*args: object, **kwargs: object) -> object:
            if when == "before":
                kill()
            made = real(*args, **kwargs)
            kill()
            return made

        setattr(owner, name, instead)
    else:
        durable.os = Faulty(int(what), kill)  # type: ignore[attr-defined]


if __name__ == "__main__":
    where, source, point = sys.argv[1:]
    _killed(point)
    featstore.open(where).refresh(job_of(Path(source), head=True))
