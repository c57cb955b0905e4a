"""Whatever stops a refresh, and wherever: readers see the old or the new, whole, and the next run ends as it should."""

from __future__ import annotations

import errno
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from faults import Faulty
from refresh_world import World, copied, seen, world
from stores import vectors

import featstore
from featstore.errors import FeatstoreError, LockedError, StorageError
from featstore.extract.progress import Reporter
from featstore.storage import durable

pytestmark = pytest.mark.heavy

CHILD = Path(__file__).with_name("refresh_world.py")


@pytest.fixture(scope="module")
def first(model_store, tmp_path_factory):
    """A world whose job has published version 0; to be copied."""
    made = world(model_store, tmp_path_factory.mktemp("faults"))
    assert made.refresh(head=True).status == "published"
    return made


def more(w: World) -> World:
    """Items that came, of which the head learns some, and one that went."""
    lines = w.source.read_text("utf-8").splitlines()
    w.source.write_text("\n".join([lines[0], *lines[2:]]) + "\n", "utf-8")
    for at in range(6):
        w.add(f"another kitten of litter {at} plays", f"k{at}")
    return w


@pytest.fixture(scope="module")
def old(first):
    return seen(first.store)


@pytest.fixture(scope="module")
def new(first, old, tmp_path_factory):
    """What an undisturbed run publishes."""
    w = more(copied(first, tmp_path_factory.mktemp("undisturbed")))
    assert w.refresh(head=True).status == "published"
    found = seen(w.store)
    assert (found.version, len(found.items), found.heads) == (1, 29, {"texts-topic": 2})
    return found, said(w.store)


def said(store) -> dict[str, np.ndarray]:
    """What the head says of each item: rows come in the order of files, and two runs within a second in either."""
    ids, x = store.table("texts").matrix()
    return dict(zip(ids, store.head("texts-topic").predict_proba(x), strict=True))


def holds(w: World, old, new) -> None:
    """Readers see the one or the other; the next run ends with the other, and finds nothing new after that."""
    opened = featstore.open(w.store.path)
    found = seen(opened)
    assert found in (old, new[0])
    assert vectors(opened.table("texts")) in (old.items, new[0].items)
    assert opened.refresh(job(w)).status in ("published", "nothing new")
    after = seen(opened)
    assert (after.version, after.items, after.index) == (1, new[0].items, 1), "one commit, never two"
    now = said(opened)
    assert all(np.allclose(now[item], p, atol=1e-6) for item, p in new[1].items())
    assert opened.refresh(job(w)).status == "nothing new"


def job(w: World):
    from refresh_world import job_of

    return job_of(w.source, head=True)


class Failing(Reporter):
    """Lets the n-th operation on the disk fail once all that is left is publishing."""

    def __init__(self, faulty: Faulty, monkeypatch: pytest.MonkeyPatch) -> None:
        self.faulty, self.monkeypatch = faulty, monkeypatch

    def stage(self, name: str, total: int | None = None) -> None:
        if name == "publishing":
            self.monkeypatch.setattr(durable, "os", self.faulty)


def fail_at(first, old, new, folder, monkeypatch, at, code) -> bool:
    w = more(copied(first, folder))
    faulty = Faulty(at, code=code)
    failure = None
    try:
        w.store.refresh(job(w), reporter=Failing(faulty, monkeypatch))
    except FeatstoreError as error:
        failure = error
    monkeypatch.undo()
    if len(faulty.calls) < at:
        assert failure is None
        return False
    if failure is not None:
        assert isinstance(failure, StorageError), failure
        assert failure.exit_code == 7
    holds(w, old, new)
    assert not [p for p in w.store.path.rglob("*") if p.name.endswith(durable.TEMPORARY_SUFFIX)]
    return True


@pytest.mark.parametrize(("at", "code"), [(2, errno.EIO), (13, errno.ENOSPC), (29, errno.ENOSPC), (41, errno.EACCES)])
def test_a_write_fails_while_publishing(first, old, new, tmp_path, monkeypatch, at, code):
    assert fail_at(first, old, new, tmp_path, monkeypatch, at, code)


@pytest.mark.timeout(900)
def test_each_write_may_fail_while_publishing(first, old, new, tmp_path, monkeypatch):
    at = 1
    while fail_at(first, old, new, tmp_path / str(at), monkeypatch, at, errno.ENOSPC):
        at += 1
    assert at > 30, "there is much to write"


def kill(first, old, new, folder, point: str) -> None:
    w = more(copied(first, folder))
    command = [sys.executable, str(CHILD), str(w.store.path), str(w.source), point]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == -9, done.stderr
    holds(w, old, new)


@pytest.mark.parametrize("point", ["after:commit", "after:adopt"])
def test_killed_between_commit_and_swap(first, old, new, tmp_path, point):
    kill(first, old, new, tmp_path, point)


@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    "point",
    [
        *("after:shard", "before:heads", "after:heads", "after:index", "before:gates", "before:commit", "before:swap"),
        *("after:swap", "1", "9", "23", "41", "60", "85", "110", "publishing:1", "publishing:9", "publishing:20"),
        *("publishing:33", "publishing:40"),
    ],
)
def test_killed_anywhere(first, old, new, tmp_path, point):
    kill(first, old, new, tmp_path, point)


def test_a_commit_that_raises_after_it_took_effect(first, old, new, tmp_path, monkeypatch):
    from featstore.tables import FeatureTable

    real = FeatureTable.commit

    def commits_and_dies(self, **kwargs):
        real(self, **kwargs)
        raise StorageError("the connection broke after the commit")

    w = more(copied(first, tmp_path))
    monkeypatch.setattr(FeatureTable, "commit", commits_and_dies)
    with pytest.raises(StorageError):
        w.refresh(head=True)
    monkeypatch.undo()
    holds(w, old, new)


def test_a_rollback_or_publish_fails_at_each_write(first, old, tmp_path, monkeypatch):
    w = copied(first, tmp_path)
    w.add("one more kitten")
    w.refresh(head=True)
    later, at, failed = seen(w.store), 0, 0
    while True:
        at += 1
        faulty = Faulty(at)
        call = (lambda: w.store.publish("texts:0", reason="x")) if at % 2 else lambda: w.store.rollback("texts")
        monkeypatch.setattr(durable, "os", faulty)
        before = w.store.published("texts")
        try:
            call()
        except StorageError as error:
            failed += 1
            moved = w.store.published("texts") != before
            assert ("is published, but" in error.message) == moved
        finally:
            monkeypatch.undo()
        assert seen(w.store) in (old, later)
        if len(faulty.calls) < at:
            break
        if w.store.table("texts").version == 0:
            w.store.publish("texts:1", reason="again")
    assert failed > 4


def test_a_reader_goes_on_with_what_it_opened(first, old, tmp_path):
    """It reads while the next version is published and gc runs behind it."""
    w = more(copied(first, tmp_path))
    table, fresh = w.store.table("texts"), w.store.table("texts")
    searcher = table.searcher()
    stop, wrong = threading.Event(), list[str]()

    def read() -> None:
        while not stop.is_set():
            if vectors(w.store.table("texts:0")) != old.items or len(searcher.search(id="t000", k=3)) != 3:
                wrong.append("other items")

    reader = threading.Thread(target=read)
    reader.start()
    try:
        assert w.refresh(head=True).status == "published"
        w.store.gc(keep_versions=1, grace_hours=0)
    finally:
        stop.set()
        reader.join()
    assert wrong == []
    assert vectors(fresh) == old.items
    assert len(seen(w.store).items) == 29


def test_publishing_and_gc_at_once(first, tmp_path):
    w = copied(first, tmp_path)
    w.add("one more kitten")
    w.refresh(head=True)
    problems: list[BaseException] = []

    def again(call) -> None:
        for _ in range(12):
            try:
                call()
            except LockedError:
                continue
            except FeatstoreError as error:
                problems.append(error)

    moving = iter([f"texts:{at % 2}" for at in range(12)])
    calls = [
        lambda: featstore.open(w.store.path).publish(next(moving), reason="x"),
        lambda: featstore.open(w.store.path).gc(keep_versions=1, grace_hours=0),
        lambda: featstore.open(w.store.path).rollback("texts"),
    ]
    threads = [threading.Thread(target=again, args=(call,)) for call in calls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [p for p in problems if "nothing was published" not in str(p)] == []
    seen(w.store)
