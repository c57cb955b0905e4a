"""A table of several sources: each keeps its own items, and only its own leave with it."""

from __future__ import annotations

from pathlib import Path

import pytest
from own_models import save, text_card, text_model
from stores import fresh

from featstore.errors import GateError, UsageError
from featstore.extract import run as extract_run
from featstore.store import Store


def folder(path: Path, names: str, words: str = "text") -> Path:
    path.mkdir(parents=True, exist_ok=True)
    for name in names.split():
        (path / f"{name}.txt").write_text(f"{words} {name} of {path.name}")
    return path


def ids(store: Store, address: str = "t") -> list[str]:
    return sorted(str(i).removesuffix(".txt") for i in store.table(address).matrix()[0])


def test_an_id_that_another_source_has_is_refused(model_store, tmp_path):
    store = fresh(model_store, tmp_path)
    a, b = folder(tmp_path / "a", "x a1"), folder(tmp_path / "b", "x b1")
    store.extract(a, model="minilm", name="t")
    for _ in range(2):
        with pytest.raises(UsageError, match=r"1 items of .*b have the ids of items of .*a, .*: x\.txt"):
            store.extract(b, model="minilm", name="t", add=True)
        with pytest.raises(UsageError, match="have the ids"):
            store.plan(b, model="minilm", name="t", add=True)
    assert ids(store) == ["a1", "x"]
    (b / "x.txt").unlink()
    store.extract(b, model="minilm", name="t", add=True)
    folder(b, "a1", "later")
    with pytest.raises(UsageError, match="have the ids of items of"):
        store.extract(b, model="minilm", name="t")
    assert ids(store) == ["a1", "b1", "x"]


def test_what_goes_from_one_source_leaves_every_models_table(model_store, tmp_path):
    store = fresh(model_store, tmp_path)
    a, b = folder(tmp_path / "a", "a1 a2 a3"), folder(tmp_path / "b", "b1 b2")
    other = {"model": str(save(tmp_path / "own", text_model(), text_card())), "name": "t"}
    store.extract(a, model="minilm", name="t")
    store.extract(a, **other)
    store.extract(b, model="minilm", name="t", add=True)
    second = store.extract(b, **other)
    (a / "a2.txt").unlink()
    assert store.extract(a, model="minilm", name="t").last_run.removed == 1
    assert store.extract(a, **other).last_run.removed == 1
    assert ids(store, f"t@{second.space_id}") == ["a1", "a3", "b1", "b2"]


def test_other_chunks_replace_the_chunks_of_their_own_source(model_store, tmp_path):
    store = fresh(model_store, tmp_path)
    a, b = folder(tmp_path / "a", "a1", "many words " * 30), folder(tmp_path / "b", "b1")
    store.extract(a, model="minilm", name="t", chunk_tokens=16)
    store.extract(b, model="minilm", name="t", chunk_tokens=16, add=True)
    assert len(ids(store)) > 4
    store.extract(a, model="minilm", name="t", chunk_tokens=64)
    assert ids(store) == ["a1.txt#0", "b1.txt#0"]


def test_the_guard_counts_what_is_the_sources_own(model_store, tmp_path):
    store = fresh(model_store, tmp_path)
    a = folder(tmp_path / "a", " ".join(f"a{i}" for i in range(60)))
    b = folder(tmp_path / "b", " ".join(f"b{i}" for i in range(12)))
    store.extract(a, model="minilm", name="t")
    store.extract(b, model="minilm", name="t", add=True)
    for i in range(1, 12):
        (b / f"b{i}.txt").unlink()
    with pytest.raises(GateError, match="11 of 12 items would leave"):
        store.extract(b, model="minilm", name="t")
    assert len(ids(store)) == 72


def test_a_source_that_came_while_another_run_waited_is_seen(model_store, tmp_path, monkeypatch):
    """What the table is of is decided under the lock."""
    store = fresh(model_store, tmp_path)
    a, b = folder(tmp_path / "a", "a1 a2"), folder(tmp_path / "b", "b1 b2")
    hold, waited = extract_run.locks.hold, []

    def late(*arguments, **options):
        if not waited:
            waited.append(True)
            store.extract(a, model="minilm", name="t")
        return hold(*arguments, **options)

    monkeypatch.setattr(extract_run.locks, "hold", late)
    with pytest.raises(UsageError, match="is kept in step with"):
        store.extract(b, model="minilm", name="t")
    assert ids(store) == ["a1", "a2"]
    waited.clear()

    def beside(*arguments, **options):
        if not waited:
            waited.append(True)
            store.extract(b, model="minilm", name="t", add=True)
        return hold(*arguments, **options)

    monkeypatch.setattr(extract_run.locks, "hold", beside)
    assert store.extract(a, model="minilm", name="t").last_run.removed == 0
    assert ids(store) == ["a1", "a2", "b1", "b2"]
