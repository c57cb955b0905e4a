"""Two writers, locks, and the order in which a file becomes durable."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading

import pytest
from faults import Faulty
from stores import fresh, vectors, write_texts

from featstore.errors import ConflictError, LockedError
from featstore.storage import Storage, durable, locks

TEXTS = {f"t{i}": f"a text about number {i}" for i in range(20)}


def test_a_file_is_synced_before_it_is_renamed_and_its_folder_after(tmp_path, monkeypatch):
    storage = Storage.at(tmp_path)
    storage.write("folder/file", b"old")
    faulty = Faulty(0)
    monkeypatch.setattr(durable, "os", faulty)
    storage.write("folder/file", b"new")
    names = [name for name, _ in faulty.calls]
    assert names == ["open", "write", "fsync", "replace", "open", "fsync"]
    opened = faulty.calls[4][1]
    assert opened == str(tmp_path / "folder")
    assert storage.read("folder/file") == b"new"


def test_create_never_replaces(tmp_path):
    storage = Storage.at(tmp_path)
    storage.write("file", b"first", create=True)
    with pytest.raises(ConflictError):
        storage.write("file", b"second", create=True)
    assert storage.read("file") == b"first"
    assert os.listdir(tmp_path) == ["file"]


def test_of_many_creators_one_wins(tmp_path):
    storage = Storage.at(tmp_path)
    won: list[int] = []

    def create(number: int) -> None:
        try:
            storage.write("file", str(number).encode(), create=True)
            won.append(number)
        except ConflictError:
            pass

    threads = [threading.Thread(target=create, args=(n,)) for n in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1
    assert storage.read("file") == str(won[0]).encode()


class TestLocks:
    def test_a_live_holder_is_not_disturbed(self, tmp_path):
        storage = Storage.at(tmp_path)
        with locks.hold(storage, "a.lock", purpose="the first run"):
            with pytest.raises(LockedError, match="the first run") as caught:
                take(storage)
            assert caught.value.exit_code == 6
        take(storage)

    def test_a_dead_holder_is_replaced_with_a_warning(self, tmp_path):
        script = (
            "import os, signal\n"
            "from featstore.storage import Storage, locks\n"
            f"with locks.hold(Storage.at({str(tmp_path)!r}), 'a.lock', purpose='the killed run'):\n"
            "    os.kill(os.getpid(), signal.SIGKILL)\n"
        )
        subprocess.run([sys.executable, "-c", script], check=False, timeout=60)
        warnings: list[str] = []
        with locks.hold(Storage.at(tmp_path), "a.lock", purpose="the next run", warn=warnings.append):
            pass
        assert len(warnings) == 1
        assert "the killed run" in warnings[0]
        take(Storage.at(tmp_path))

    def test_another_hosts_lock_is_never_taken(self, tmp_path):
        (tmp_path / "a.lock").write_text(json.dumps({"host": "elsewhere", "pid": 1, "purpose": "its run"}))
        with pytest.raises(LockedError, match="elsewhere") as caught:
            take(Storage.at(tmp_path))
        assert "rm " in caught.value.hint
        assert json.loads((tmp_path / "a.lock").read_text())["host"] == "elsewhere"

    def test_an_error_inside_leaves_no_holder(self, tmp_path):
        with pytest.raises(RuntimeError), locks.hold(Storage.at(tmp_path), "a.lock", purpose="x"):
            raise RuntimeError
        assert (tmp_path / "a.lock").read_bytes() == b""

    def test_a_half_written_holder_is_one_that_died(self, tmp_path):
        (tmp_path / "a.lock").write_text('{"host": "' + socket.gethostname()[:2])
        warnings: list[str] = []
        with locks.hold(Storage.at(tmp_path), "a.lock", purpose="x", warn=warnings.append):
            pass
        assert len(warnings) == 1


def take(storage: Storage) -> None:
    with locks.hold(storage, "a.lock", purpose="the second run"):
        pass


def test_two_extracts_into_one_table(model_store, tmp_path):
    store = fresh(model_store, tmp_path)
    source = write_texts(tmp_path / "notes.jsonl", TEXTS)
    with (
        locks.hold(store.layout.storage, store.layout.lock("notes"), purpose="extract into 'notes'"),
        pytest.raises(LockedError, match="extract into 'notes'"),
    ):
        store.extract(source, model="minilm", id_column="id")
    table = store.extract(source, model="minilm", id_column="id")
    assert set(vectors(table)) == set(TEXTS)


def test_a_table_that_moved_under_a_run_is_a_conflict_and_nothing_is_lost(model_store, tmp_path, monkeypatch):
    """Another writer that does not take our lock commits between plan and commit."""
    from featstore.tables import FeatureTable

    store = fresh(model_store, tmp_path)
    path = tmp_path / "notes.jsonl"
    table = store.extract(write_texts(path, TEXTS), model="minilm", id_column="id")
    real = FeatureTable.commit

    def overtaken(self, **kwargs):
        monkeypatch.undo()
        other = FeatureTable.open(store.layout, "notes", table.space_id)
        rows = other.to_arrow().slice(0, 1).drop_columns(["embedding"])
        rows = rows.set_column(0, "item_id", [["from another writer"]])
        part = other.write_part("other-run", 0, other.align(rows), other.matrix()[1][:1].copy())
        other.commit(run_id="other-run", add=[part], remove=[], details={})
        return real(self, **kwargs)

    monkeypatch.setattr(FeatureTable, "commit", overtaken)
    write_texts(path, {**TEXTS, "new": "one that is new", "t0": "another text"})
    with pytest.raises(ConflictError) as caught:
        store.extract(path, model="minilm")
    assert caught.value.exit_code == 6
    assert "from another writer" in vectors(store.table("notes"))
    after = store.extract(path, model="minilm")
    assert set(vectors(after)) == {*TEXTS, "new"}
    assert after.last_run.removed == 1, "the other writer's item is not in the source"
    assert after.last_run.stored == 0, "what the refused run embedded is carried over"
