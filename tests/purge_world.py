"""A small store in which everything is used, for the tests of what is deleted for good.

Run as a script it is a process to be killed: ``purge_world.py STORE WHAT N`` purges the ids of the file ``WHAT`` (or
drops the space ``WHAT``, an address) and, at its N-th operation on the disk, sends itself SIGKILL.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from faults import Faulty
from refresh_world import job_of
from spaces import letters, table_of

import featstore
from featstore.errors import GateError
from featstore.jobs import Gates
from featstore.records import RefreshResult
from featstore.storage import durable
from featstore.store import Store

__all__ = ["GONE", "World", "copied", "holding", "kill_at", "say", "world"]

GONE = ("item-003", "item-010", "item-090")
"""An item of both sides, another one, and one that was only ever refused."""

_WORDS = {"cats": ("kitten", "tomcat", "purring"), "money": ("shares", "bank", "debts")}


@dataclass
class World:
    """A store, its source, and its two models."""

    store: Store
    source: Path
    models: tuple[str, str]

    def refresh(self, **more: object) -> RefreshResult:
        """Runs the job of the first model."""
        job = job_of(self.source, model=self.models[0], history=True, **{"head": True, **more})  # type: ignore[arg-type]
        return self.store.refresh(job)

    def extract(self, model: int) -> featstore.Table:
        """Extracts without publishing."""
        return self.store.extract(
            self.source,
            name="texts",
            model=self.models[model],
            id_column="id",
            text_column="text",
            label_column="label",
            shard_items=16,
            max_reject_share=1.0,
        )


def say(path: Path, numbers: list[int], *, odd: dict[str, str] | None = None, changed: tuple[int, ...] = ()) -> Path:
    """The source: cats and money in turn; an item of no text is refused."""
    lines = ["id,text,label,twin"]
    for at in numbers:
        label = ("cats", "money")[at % 2]
        word = _WORDS[label][at % 3]
        text = f"{word} {'x' if at in changed else ''}{chr(97 + at % 26)}{chr(97 + at // 26)} {word}"
        lines.append(f"item-{at:03d},{text},{label},{'item-003' if at == 4 else ''}")
    lines += [f"{item},{text},cats," for item, text in (odd or {}).items()]
    path.write_text("\n".join(lines) + "\n", "utf-8")
    return path


def world(folder: Path) -> World:
    """Two versions published, with index, head, split, history and rejects; the same source in a second space; a
    refused run; an extract that is not published.
    """
    folder.mkdir(parents=True, exist_ok=True)
    models = tuple(str(letters(folder, name, table_of(seed=seed))) for seed, name in ((0, "first"), (1, "second")))
    source = folder / "texts.csv"
    made = World(featstore.open(folder / "store"), source, models)  # type: ignore[arg-type]
    say(source, list(range(24)), odd={"item-090": ""})
    assert made.refresh().status == "published"
    say(source, list(range(1, 30)), odd={"item-090": ""}, changed=(3, 5))
    assert made.refresh().status == "published"
    made.extract(1)
    made.store.index(f"texts@{_space(made.store, 'second')}")
    say(source, list(range(1, 36)), odd={f"item-{at:03d}": "" for at in range(90, 110)}, changed=(3, 5, 10))
    with pytest.raises(GateError):
        made.refresh(gates=Gates(max_reject_share=0.0))
    return made


def _space(store: Store, beginning: str) -> str:
    (found,) = (s for s in store.layout.storage.folders("features/texts") if s.startswith(beginning))
    return found


def copied(first: World, folder: Path) -> World:
    """A copy, models by hard links; the source is the same file."""
    for file in sorted(first.store.path.rglob("*")):
        target = folder / "store" / file.relative_to(first.store.path)
        if file.is_dir():
            target.mkdir(parents=True, exist_ok=True)
        elif file.relative_to(first.store.path).parts[0] == "models":
            target.parent.mkdir(parents=True, exist_ok=True)
            os.link(file, target)
        else:
            shutil.copy2(file, target)
    return World(featstore.open(folder / "store"), first.source, first.models)


def holding(store: Path, ids: tuple[str, ...], *, but: tuple[str, ...] = ()) -> list[str]:
    """The files in which any of the ids stands, by reading them without featstore.

    Args:
        store: The store's folder.
        ids: What to look for.
        but: Columns of the user's own that may name one.
    """
    found = []
    for file in sorted(path for path in store.rglob("*") if path.is_file()):
        if file.suffix == ".parquet":
            # Not by pq.read_table, which would take the folder's name for a column.
            table = pq.ParquetFile(file).read()
            columns = [name for name in table.column_names if name not in (*but, "embedding", "preview")]
            said = repr([table[name].to_pylist() for name in columns if not pa.types.is_floating(table[name].type)])
            hit = any(item in said for item in ids)
            if not but:
                hit = hit or any(item.encode() in file.read_bytes() for item in ids)
        else:
            hit = any(item.encode() in file.read_bytes() for item in ids)
        if hit:
            found.append(file.relative_to(store).as_posix())
    return found


def kill_at(store: Path, what: str, at: int) -> None:
    """To be called in a process of its own."""
    durable.os = Faulty(at, lambda: os.kill(os.getpid(), signal.SIGKILL))  # type: ignore[assignment]
    opened = featstore.open(store)
    if Path(what).is_file():
        opened.purge(what)
    else:
        opened.drop_space(what)
    print(len(durable.os.calls))  # type: ignore[attr-defined]


if __name__ == "__main__":
    kill_at(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]))
