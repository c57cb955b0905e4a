"""Whatever stops a run, and wherever: the last version reads, the next run ends equal to an uninterrupted one."""

from __future__ import annotations

import errno
import random
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from faults import Faulty
from stores import copy_models, fresh, vectors, write_texts

import featstore
from featstore.errors import FeatstoreError, StorageError
from featstore.storage import durable

MODEL = "efficientnet_lite0"
CHILD = Path(__file__).with_name("faults.py")


@pytest.fixture(scope="module")
def source(photos, tmp_path_factory):
    """Seven photos; shards of two make four of them."""
    folder = tmp_path_factory.mktemp("crash") / "shop"
    folder.mkdir()
    for at, file in enumerate(sorted(p for p in photos.rglob("*") if p.is_file())[:7]):
        shutil.copy(file, folder / f"{at}{file.suffix}")
    return folder


@pytest.fixture(scope="module")
def expected(model_store, source, tmp_path_factory):
    """What an uninterrupted run makes."""
    store = fresh(model_store, tmp_path_factory.mktemp("expected"))
    return vectors(store.extract(source, model=MODEL, shard_items=2))


def leftovers(store: Path) -> list[str]:
    return [str(p) for p in store.rglob("*") if p.name.endswith(durable.TEMPORARY_SUFFIX)]


def readable(path: Path, expected: dict[str, bytes]) -> None:
    """The store opens, and each table in it holds exactly what one of its runs committed."""
    store = featstore.open(path)
    for table in store.tables():
        assert vectors(table) == expected
    assert [f for f in store.verify(sample=0).findings if f.severity == "error"] == []


@pytest.mark.heavy
@pytest.mark.timeout(900)
def test_every_operation_may_fail(model_store, source, expected, tmp_path, monkeypatch):
    fail_at_each(model_store, source, expected, tmp_path, monkeypatch, errno.ENOSPC, first=1, step=1)


@pytest.mark.parametrize(
    ("code", "first"),
    [
        (errno.ENOSPC, 1),
        pytest.param(errno.EIO, 4, marks=pytest.mark.heavy),
        pytest.param(errno.EACCES, 7, marks=pytest.mark.heavy),
    ],
)
def test_an_operation_may_fail(model_store, source, expected, tmp_path, monkeypatch, code, first):
    fail_at_each(model_store, source, expected, tmp_path, monkeypatch, code, first=first, step=47)


def fail_at_each(model_store, source, expected, tmp_path, monkeypatch, code, *, first, step) -> None:
    """Fails operation after operation, each in a store of its own, until a run gets by without failing."""
    at = first
    while True:
        folder = tmp_path / str(at)
        path = copy_models(model_store, folder / "store", MODEL)
        store = featstore.open(path)
        faulty = Faulty(at, code=code)
        monkeypatch.setattr(durable, "os", faulty)
        failure = None
        try:
            store.extract(source, model=MODEL, shard_items=2)
        except FeatstoreError as error:
            failure = error
        monkeypatch.undo()
        if len(faulty.calls) < at:
            assert failure is None
            break
        if failure is not None:
            assert isinstance(failure, StorageError), failure
            assert failure.exit_code == 7
        readable(path, expected)
        table = featstore.open(path).extract(source, model=MODEL, shard_items=2)
        assert vectors(table) == expected
        assert leftovers(path) == []
        shutil.rmtree(folder)
        at += step
    assert at > 60, "the run must have had many operations to fail at"


def run_child(store: Path, source: Path, at: int) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(CHILD), str(store), str(source), MODEL, str(at)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def kill_points(model_store, source, tmp_path, count: int) -> list[int]:
    whole = run_child(copy_models(model_store, tmp_path / "whole", MODEL), source, 0)
    assert whole.returncode == 0, whole.stderr
    operations = int(whole.stdout)
    return sorted(random.Random(7).sample(range(1, operations + 1), count))


def kill_and_resume(model_store, source, expected, tmp_path, points) -> None:
    for at in points:
        store = copy_models(model_store, tmp_path / f"killed-{at}", MODEL)
        killed = run_child(store, source, at)
        assert killed.returncode == -9
        readable(store, expected)
        table = featstore.open(store).extract(source, model=MODEL, shard_items=2)
        assert vectors(table) == expected
        assert table.version == 0, "one commit, never two"
        assert len(table) == 7


def test_killed_at_some_points(model_store, source, expected, tmp_path):
    kill_and_resume(model_store, source, expected, tmp_path, kill_points(model_store, source, tmp_path, 4))


@pytest.mark.heavy
def test_killed_at_twenty_points(model_store, source, expected, tmp_path):
    kill_and_resume(model_store, source, expected, tmp_path, kill_points(model_store, source, tmp_path, 20))


@pytest.mark.heavy
def test_killed_at_random_times(model_store, source, expected, tmp_path):
    """By the clock, so that native code (the commit, the reader) is hit too."""
    delays = random.Random(3)
    store = copy_models(model_store, tmp_path / "store", MODEL)
    command = [sys.executable, str(CHILD), str(store), str(source), MODEL, "0"]
    for _ in range(10):
        child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(delays.uniform(0.5, 3.0))
        child.kill()
        child.wait()
        readable(store, expected)
    table = featstore.open(store).extract(source, model=MODEL, shard_items=2)
    assert vectors(table) == expected


def test_a_resumed_run_does_only_what_is_left(model_store, source, expected, tmp_path):
    store = featstore.open(copy_models(model_store, tmp_path / "store", MODEL))
    interrupt_after(store, source, shards=2)
    manifest = store.runs()[0]
    assert manifest.status == "failed"
    table = store.extract(source, model=MODEL, shard_items=2)
    assert table.last_run.run_id == manifest.run_id, "the same run goes on"
    assert table.last_run.resumed_shards == 2
    assert vectors(table) == expected
    assert store.run(manifest.run_id).status == "committed"


def test_resumed_texts_are_equal_to_the_byte(model_store, tmp_path):
    """Text vectors depend a little on their batch; a resume makes the same batches."""
    texts = {f"t{i:02d}": f"{'many words and ' * (i * 7 % 13)}number {i}" for i in range(30)}
    path = write_texts(tmp_path / "notes.jsonl", texts)
    given = {"model": "minilm", "id_column": "id", "shard_items": 8, "token_budget": 64}
    whole = vectors(fresh(model_store, tmp_path / "whole").extract(path, **given))
    store = fresh(model_store, tmp_path / "cut")
    interrupt_after(store, path, shards=2, **given)
    table = store.extract(path, **given)
    assert table.last_run.resumed_shards == 2
    assert vectors(table) == whole


def test_another_process_can_do_shards_of_a_run(model_store, source, expected, tmp_path):
    """It needs the store and the run's id, nothing else: what a cluster's worker would be given."""
    store = featstore.open(copy_models(model_store, tmp_path / "store", MODEL))
    interrupt_after(store, source, shards=1)
    run_id = store.runs()[0].run_id
    worker = (
        "import sys, featstore\n"
        "from featstore.extract.shard import open_run, run_shard\n"
        "context = open_run(featstore.open(sys.argv[1]).layout, sys.argv[2])\n"
        "for shard in (3, 1):\n"
        "    run_shard(context, shard)\n"
    )
    subprocess.run([sys.executable, "-c", worker, str(store.path), run_id], check=True, timeout=120)
    table = store.extract(source, model=MODEL, shard_items=2)
    assert (table.last_run.run_id, table.last_run.resumed_shards) == (run_id, 3)
    assert vectors(table) == expected


def test_a_source_that_changed_meanwhile_loses_nothing(model_store, source, expected, tmp_path, photos):
    folder = tmp_path / "shop"
    shutil.copytree(source, folder)
    store = featstore.open(copy_models(model_store, tmp_path / "store", MODEL))
    interrupt_after(store, folder, shards=2)
    first = store.runs()[0]
    gone = sorted(folder.iterdir())[-1]
    gone.unlink()
    table = store.extract(folder, model=MODEL, shard_items=2)
    run = table.last_run
    assert run.run_id != first.run_id
    assert (run.stored, run.reused, run.seen) == (2, 4, 6), "two shards of two were carried over"
    assert vectors(table) == {item: v for item, v in expected.items() if item != gone.name}
    assert store.run(first.run_id).status == "superseded"
    staged = table.path / "_runs"
    assert [p.name for p in staged.iterdir()] == [run.run_id], "the old run's files are gone"


def test_a_commit_that_raises_after_it_took_effect(model_store, source, expected, tmp_path, monkeypatch):
    from featstore.tables import FeatureTable

    real = FeatureTable.commit

    def commits_and_dies(self, **kwargs):
        real(self, **kwargs)
        raise StorageError("the connection broke after the commit")

    store = featstore.open(copy_models(model_store, tmp_path / "store", MODEL))
    monkeypatch.setattr(FeatureTable, "commit", commits_and_dies)
    with pytest.raises(StorageError):
        store.extract(source, model=MODEL)
    monkeypatch.undo()
    table = store.extract(source, model=MODEL)
    assert (table.last_run.status, table.version) == ("nothing new", 0)
    assert "had been committed" in table.last_run.warnings[0]
    assert vectors(table) == expected
    assert [run.status for run in store.runs()] == ["committed"]


def interrupt_after(store: featstore.Store, source: Path, *, shards: int, **settings: object) -> None:
    """Runs an extract whose disk fails when the shard after these writes its file."""
    target = f"{shards:05d}.parquet"

    class Full(Faulty):
        def _count(self, name: str, path: object) -> None:
            if name == "open" and target in str(path):
                self._fail()

    real = durable.os
    durable.os = Full(0)
    try:
        with pytest.raises(StorageError):
            store.extract(source, **{"model": MODEL, "shard_items": 2, **settings})
    finally:
        durable.os = real
