"""``sample``: a fixed part of a source, the same for every run and model."""

from __future__ import annotations

import json
import os
import shutil

import pytest
from stores import fresh, vectors, write_texts

from featstore.errors import SettingsError
from featstore.storage import hashing

TEXTS = {f"t{i:02d}": f"text number {i}" for i in range(40)}


def chosen(texts: dict[str, str], size: int) -> set[str]:
    """The definition, written a second time."""
    return set(sorted(texts, key=lambda item: (hashing.of_bytes(texts[item].encode()), item))[:size])


def ids(table) -> set[str]:
    return set(vectors(table))


def test_a_sample_is_the_smallest_hashes_and_a_smaller_one_is_part_of_it(model_store, tmp_path):
    store = fresh(model_store, tmp_path)
    source = write_texts(tmp_path / "notes.jsonl", TEXTS)
    small = store.extract(source, model="minilm", id_column="id", sample=5)
    assert ids(small) == chosen(TEXTS, 5)
    assert (small.last_run.seen, small.last_run.stored, small.last_run.removed) == (5, 5, 0)
    large = store.extract(source, model="minilm", sample=12)
    assert ids(large) == chosen(TEXTS, 12)
    assert (large.last_run.stored, large.last_run.reused) == (7, 5)


def test_a_sample_removes_nothing_and_the_whole_extract_reuses_it(model_store, tmp_path):
    store = fresh(model_store, tmp_path)
    source = write_texts(tmp_path / "notes.jsonl", TEXTS)
    store.extract(source, model="minilm", id_column="id", sample=10)
    whole = store.extract(source, model="minilm")
    assert (whole.last_run.stored, whole.last_run.reused, whole.last_run.removed) == (30, 10, 0)
    write_texts(source, {item: text for item, text in TEXTS.items() if item > "t03"})
    after = store.extract(source, model="minilm", sample=3)
    assert (after.last_run.status, after.last_run.removed) == ("nothing new", 0)
    assert ids(after) == set(TEXTS), "only a whole extract says what has gone"


def test_a_sampled_run_remembers_the_whole_scan(model_store, photos, tmp_path):
    store = fresh(model_store, tmp_path)
    folder = shutil.copytree(photos, tmp_path / "photos")
    for file in folder.rglob("*.*"):
        os.utime(file, (1e9, 1e9))
    table = store.extract(folder, model="efficientnet_lite0", label_from="folder", sample=4)
    assert len(table) == 4
    for file in folder.rglob("*.*"):  # changed so that only reading it would tell
        with file.open("r+b") as stream:
            stream.write(b"\0\0")
        os.utime(file, (1e9, 1e9))
    planned = store.plan(folder, model="efficientnet_lite0")
    assert (planned.seen, planned.reused, planned.stored) == (12, 4, 8)
    assert store.plan(folder, model="efficientnet_lite0", rehash=True).reused == 0


def test_equal_contents_are_items_of_their_own_in_a_sample(model_store, tmp_path):
    store = fresh(model_store, tmp_path)
    texts = {f"t{i}": "the same" for i in range(4)} | {"u": "other"}
    source = write_texts(tmp_path / "notes.jsonl", texts)
    table = store.extract(source, model="minilm", id_column="id", sample=3)
    assert ids(table) == chosen(texts, 3)
    assert (table.last_run.seen, table.last_run.stored + table.last_run.reused) == (3, 3)


def test_a_dry_run_and_a_limit_sample_what_they_see(model_store, tmp_path):
    store = fresh(model_store, tmp_path)
    source = write_texts(tmp_path / "notes.jsonl", TEXTS)
    assert store.plan(source, model="minilm", id_column="id", sample=7).stored == 7
    first = {item: TEXTS[item] for item in list(TEXTS)[:10]}
    table = store.extract(source, model="minilm", id_column="id", limit=10, sample=3)
    assert ids(table) == chosen(first, 3)
    assert store.plan(source, model="minilm").stored == 37, "a limited scan is not taken for the whole"


def test_what_cannot_be_read_is_in_no_sample_and_told(model_store, tmp_path):
    store = fresh(model_store, tmp_path)
    source = write_texts(tmp_path / "notes.jsonl", TEXTS)
    with source.open("a") as file:  # the same ids again, with other texts
        file.writelines(json.dumps({"id": f"t{i:02d}", "text": f"another {i}"}) + "\n" for i in range(15))
    assert store.plan(source, model="minilm", id_column="id").rejected > 10
    table = store.extract(source, model="minilm", id_column="id", sample=5)
    assert (len(table), table.last_run.seen, table.last_run.rejected) == (5, 5, 0)
    assert any("cannot be part of the sample" in warning for warning in table.last_run.warnings)


def test_a_sample_of_none_is_a_settings_error(model_store, tmp_path):
    store = fresh(model_store, tmp_path)
    with pytest.raises(SettingsError, match="sample"):
        store.extract(write_texts(tmp_path / "notes.jsonl", TEXTS), model="minilm", sample=0)


def test_the_id_of_a_space_is_a_model(model_store, tmp_path):
    store = fresh(model_store, tmp_path)
    source = write_texts(tmp_path / "notes.jsonl", TEXTS)
    first = store.extract(source, model="minilm", id_column="id", sample=5)
    again = store.extract(source, model=first.space_id, sample=5)
    assert again.space_id == first.space_id
    assert again.last_run.status == "nothing new"
