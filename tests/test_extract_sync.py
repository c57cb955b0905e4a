"""A table follows its source: what is new is embedded, what is known is reused, what is gone leaves."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from stores import fresh, vectors, write_texts

from featstore.errors import GateError, SettingsError, TooManyRejectsError, UsageError

TEXTS = {f"t{i:02d}": f"text number {i} about {topic}" for i, topic in enumerate(["cats", "ships", "rain", "tax"] * 10)}


def test_a_first_run_stores_everything_and_a_second_nothing(model_store, tmp_path):
    store = fresh(model_store, tmp_path)
    source = write_texts(tmp_path / "notes.jsonl", TEXTS)
    first = store.extract(source, model="minilm", id_column="id")
    run = first.last_run
    assert (run.seen, run.stored, run.reused, run.rejected, run.version) == (40, 40, 0, 0, 0)
    assert first.name == "notes"
    second = store.extract(source, model="minilm", id_column="id")
    run = second.last_run
    assert (run.seen, run.stored, run.reused, run.status, run.version) == (40, 0, 40, "nothing new", 0)
    assert vectors(first) == vectors(second)
    assert len(store.runs()) == 1, "a run with nothing to do leaves no manifest"


def test_the_way_of_reading_is_remembered(model_store, tmp_path):
    store = fresh(model_store, tmp_path)
    source = write_texts(tmp_path / "notes.jsonl", TEXTS)
    store.extract(source, model="minilm", id_column="id", keep_text=True)
    again = store.extract(source, model="minilm")
    assert again.last_run.status == "nothing new"
    assert again.to_polars().sort("item_id")["text"].to_list() == list(TEXTS.values())


def test_only_what_changed_is_embedded(model_store, tmp_path):
    store = fresh(model_store, tmp_path)
    path = tmp_path / "notes.jsonl"
    before = store.extract(write_texts(path, TEXTS), model="minilm", id_column="id")
    old = vectors(before)
    now = dict(TEXTS)
    now["t00"] = "something else entirely"  # changed
    now["renamed"] = now.pop("t01")  # renamed
    now["twin"] = now["t02"]  # a twin of a stored one
    now["new"], now["new-twin"] = "a new text", "a new text"  # new, with its twin in the same run
    del now["t03"]  # removed
    after = store.extract(write_texts(path, now), model="minilm", id_column="id")
    run = after.last_run
    assert (run.new, run.changed, run.renamed, run.twins, run.removed) == (1, 1, 1, 2, 1)
    assert (run.seen, run.stored, run.reused, run.rejected) == (42, 2, 40, 0)
    new = vectors(after)
    assert set(new) == set(now)
    assert new["renamed"] == old["t01"]
    assert new["twin"] == old["t02"]
    assert new["new"] == new["new-twin"]
    assert new["t00"] != old["t00"]
    assert all(new[i] == old[i] for i in set(new) & set(old) - {"t00"})
    assert set(vectors(store.table("notes:0"))) == set(TEXTS), "the version before still reads"


def test_changed_metadata_moves_the_row_and_keeps_the_vector(model_store, tmp_path):
    store = fresh(model_store, tmp_path)
    path = tmp_path / "notes.jsonl"
    labels = dict.fromkeys(TEXTS, "a")
    before = store.extract(write_texts(path, TEXTS, label=labels), model="minilm", id_column="id")
    labels["t05"] = "b"
    after = store.extract(write_texts(path, TEXTS, label=labels), model="minilm", id_column="id")
    run = after.last_run
    assert (run.stored, run.reused, run.updated) == (0, 40, 1)
    assert vectors(after) == vectors(before)
    frame = after.to_polars()
    assert frame.filter(pl.col("label") == "b")["item_id"].to_list() == ["t05"]


def test_a_new_column_is_added_and_a_changed_type_refused(model_store, tmp_path):
    store = fresh(model_store, tmp_path)
    path = tmp_path / "notes.jsonl"
    store.extract(write_texts(path, TEXTS, stars=dict.fromkeys(TEXTS, 3)), model="minilm", id_column="id")
    both = {"stars": dict.fromkeys(TEXTS, 3), "shop": dict.fromkeys(TEXTS, "Bern")}
    table = store.extract(write_texts(path, TEXTS, **both), model="minilm", id_column="id")
    assert table.to_polars()["shop"].unique().to_list() == ["Bern"]
    with pytest.raises(SettingsError, match="stars"):
        store.extract(write_texts(path, TEXTS, stars=dict.fromkeys(TEXTS, "many")), model="minilm", id_column="id")
    assert store.table("notes").version == table.version
    other = dict.fromkeys(TEXTS, 3) | {"t07": "many"}
    retyped = store.extract(write_texts(path, TEXTS, stars=other), model="minilm", id_column="id", retype=True)
    frame = retyped.to_polars().sort("item_id")
    assert frame["stars"].to_list() == [str(other[item]) for item in sorted(TEXTS)]
    assert vectors(retyped) == vectors(table)


def test_pictures_from_a_folder(model_store, photos, tmp_path):
    store = fresh(model_store, tmp_path)
    folder = tmp_path / "shop"
    shutil.copytree(photos, folder)
    good = len([p for p in folder.rglob("*") if p.is_file()])
    (folder / ".DS_Store").write_bytes(b"x")
    (folder / "notes.json").write_text("{}")
    (folder / "broken.jpg").write_bytes(b"no picture")
    table = store.extract(folder, model="efficientnet_lite0", label_from="folder")
    run = table.last_run
    assert (run.seen, run.stored, run.rejected, run.ignored) == (good + 1, good, 1, 2)
    rejects = table.rejects()
    assert rejects["item_id"].to_list() == ["broken.jpg"]
    assert rejects["stage"].to_list() == ["decode"]
    again = store.extract(folder, model="efficientnet_lite0")
    assert (again.last_run.stored, again.last_run.rejected, again.last_run.status) == (0, 1, "nothing new")
    retried = store.extract(folder, model="efficientnet_lite0", retry_rejects=True)
    assert (retried.last_run.stored, retried.last_run.rejected) == (0, 1)
    assert table.rejects().height == 1, "the same reason is not noted twice"
    # mended under the same name: it has other content now, so it is simply new
    shutil.copy(next(p for p in folder.rglob("*.jpg") if p.name != "broken.jpg"), folder / "broken.jpg")
    mended = store.extract(folder, model="efficientnet_lite0")
    assert (mended.last_run.twins, mended.last_run.rejected) == (1, 0)


def test_a_touched_file_is_hashed_and_not_embedded_again(model_store, photos, tmp_path):
    store = fresh(model_store, tmp_path)
    folder = tmp_path / "shop"
    shutil.copytree(photos, folder)
    before = store.extract(folder, model="efficientnet_lite0")
    for file in folder.rglob("*.*"):
        os.utime(file, (1, 1))
    after = store.extract(folder, model="efficientnet_lite0")
    assert (after.last_run.status, after.version) == ("nothing new", before.version)


def test_previews_outlive_the_source(model_store, photos, tmp_path):
    store = fresh(model_store, tmp_path)
    folder = tmp_path / "shop"
    shutil.copytree(photos, folder)
    table = store.extract(folder, model="efficientnet_lite0")
    shutil.rmtree(folder)
    contents = table.to_polars()["content_sha256"].to_list()
    previews = table.previews(contents)
    assert set(previews) == set(contents)
    assert all(jpeg.startswith(b"\xff\xd8") and len(jpeg) < 20_000 for jpeg in previews.values())
    bare = store.extract(shutil.copytree(photos, tmp_path / "bare"), model="efficientnet_lite0", previews=False)
    assert bare.previews(contents) == {}


class TestRemovalGuard:
    """A source that has shrunk a lot is more likely broken than meant."""

    @pytest.fixture
    def store(self, model_store, tmp_path):
        store = fresh(model_store, tmp_path)
        store.extract(write_texts(tmp_path / "notes.jsonl", TEXTS), model="minilm", id_column="id")
        return store

    def test_an_eleventh_item_and_a_fifth_of_the_table_do_not_leave(self, store, tmp_path):
        path = write_texts(tmp_path / "notes.jsonl", dict(list(TEXTS.items())[:29]))
        with pytest.raises(GateError, match="11 of 40") as caught:
            store.extract(path, model="minilm")
        assert "--allow-removals" in caught.value.hint
        assert caught.value.context["result"].status == "refused"
        assert len(store.table("notes")) == 40
        allowed = store.extract(path, model="minilm", allow_removals=True)
        assert (len(allowed), allowed.last_run.removed) == (29, 11)

    def test_renamed_items_have_not_left(self, store, tmp_path):
        path = write_texts(tmp_path / "notes.jsonl", {f"moved/{item}": text for item, text in TEXTS.items()})
        table = store.extract(path, model="minilm")
        assert (table.last_run.renamed, table.last_run.removed, table.last_run.stored) == (40, 0, 0)
        assert set(vectors(table)) == {f"moved/{item}" for item in TEXTS}

    def test_a_source_that_is_not_there_changes_nothing(self, store, tmp_path):
        (tmp_path / "notes.jsonl").rename(tmp_path / "elsewhere.jsonl")
        with pytest.raises(GateError, match="kept in step") as caught:
            store.extract(tmp_path / "notes.jsonl", model="minilm", allow_removals=True)
        assert caught.value.exit_code == 5
        assert len(store.table("notes")) == 40

    def test_an_empty_source_removes_nothing(self, store, tmp_path):
        (tmp_path / "notes.jsonl").write_text("")
        with pytest.raises(GateError):
            store.extract(tmp_path / "notes.jsonl", model="minilm")
        assert len(store.table("notes")) == 40

    def test_ten_items_may_leave(self, store, tmp_path):
        path = write_texts(tmp_path / "notes.jsonl", dict(list(TEXTS.items())[:30]))
        assert len(store.extract(path, model="minilm")) == 30

    def test_a_limited_run_removes_nothing(self, store, tmp_path):
        write_texts(tmp_path / "notes.jsonl", {"new": "a new text", **TEXTS})
        table = store.extract(tmp_path / "notes.jsonl", model="minilm", limit=5)
        assert (len(table), table.last_run.removed, table.last_run.stored) == (41, 0, 1)

    def test_another_source_needs_add_and_then_nothing_of_the_first_leaves(self, store, tmp_path):
        other = write_texts(tmp_path / "other.jsonl", {"x1": "from elsewhere", "x2": "also from there"})
        with pytest.raises(UsageError, match="kept in step with"):
            store.extract(other, model="minilm", name="notes", id_column="id")
        both = store.extract(other, model="minilm", name="notes", id_column="id", add=True)
        assert (len(both), both.last_run.removed) == (42, 0)
        first = store.extract(tmp_path / "notes.jsonl", model="minilm")
        assert (len(first), first.last_run.status) == (42, "nothing new")
        write_texts(other, {"x1": "from elsewhere"})
        second = store.extract(other, model="minilm", name="notes")
        assert (len(second), second.last_run.removed) == (41, 1)


def test_an_unreadable_item_keeps_its_row(model_store, tmp_path):
    store = fresh(model_store, tmp_path)
    folder = tmp_path / "texts"
    folder.mkdir()
    for name, text in TEXTS.items():
        (folder / f"{name}.txt").write_text(text)
    store.extract(folder, model="minilm")
    (folder / "t00.txt").unlink()
    os.mkfifo(folder / "t00.txt")
    table = store.extract(folder, model="minilm")
    assert table.last_run.rejected == 1
    assert table.last_run.removed == 0
    assert "t00.txt" in vectors(table)


def test_too_many_rejects_are_an_error_after_the_good_ones_are_stored(model_store, tmp_path):
    store = fresh(model_store, tmp_path)
    folder = tmp_path / "texts"
    folder.mkdir()
    for name, text in TEXTS.items():
        (folder / f"{name}.txt").write_text(text)
    for i in range(11):
        (folder / f"bad{i}.txt").write_bytes(b"\xff\xfe\x00broken\xff")
    with pytest.raises(TooManyRejectsError, match="11 of 51") as caught:
        store.extract(folder, model="minilm")
    result = caught.value.context["result"]
    assert (result.stored, result.rejected, result.version) == (40, 11, 0)
    assert len(store.table("texts")) == 40
    assert store.extract(folder, model="minilm", max_reject_share=0.5).last_run.rejected == 11


def test_the_twin_of_a_refused_item_is_refused_too(model_store, tmp_path):
    store = fresh(model_store, tmp_path)
    folder = tmp_path / "texts"
    folder.mkdir()
    (folder / "a.txt").write_bytes(b"\xff\xffsame")
    (folder / "b.txt").write_bytes(b"\xff\xffsame")
    (folder / "c.txt").write_text("sound")
    table = store.extract(folder, model="minilm")
    run = table.last_run
    assert (run.seen, run.stored, run.reused, run.rejected) == (3, 1, 0, 2)
    assert sorted(table.rejects()["item_id"].to_list()) == ["a.txt", "b.txt"]


def test_a_plan_writes_nothing_and_predicts_the_run(model_store, tmp_path):
    store = fresh(model_store, tmp_path)
    source = write_texts(tmp_path / "notes.jsonl", TEXTS)
    files = sorted(p for p in store.path.rglob("*"))
    plan = store.plan(source, model="minilm", id_column="id")
    assert sorted(p for p in store.path.rglob("*")) == files
    assert (plan.new, plan.status, plan.seconds) == (40, "dry run", 0.0)
    store.extract(source, model="minilm", id_column="id")
    write_texts(source, {**TEXTS, "more": "one more", "twin": TEXTS["t00"]})
    plan = store.plan(source, model="minilm")
    assert (plan.new, plan.twins, plan.removed, plan.stored, plan.reused) == (1, 1, 0, 1, 41)
    assert plan.seconds > 0
    assert plan.bytes_written >= 2 * 384 * 4


def test_two_models_make_two_tables_and_never_meet(model_store, photos, tmp_path):
    store = fresh(model_store, tmp_path)
    source = write_texts(tmp_path / "notes.jsonl", TEXTS)
    texts = store.extract(source, model="minilm", id_column="id")
    with pytest.raises(UsageError, match="holds texts"):
        store.extract(photos, model="efficientnet_lite0", name="notes")
    pictures = store.extract(photos, model="efficientnet_lite0")
    assert {t.space_id for t in store.tables()} == {texts.space_id, pictures.space_id}
    assert store.table(f"notes@{texts.space_id}").version == 0
    assert store.table("notes@minilm").space_id == texts.space_id or "minilm" not in texts.space_id


def test_read_by_anyone(model_store, tmp_path):
    store = fresh(model_store, tmp_path)
    source = write_texts(tmp_path / "notes.jsonl", TEXTS, stars={i: n for n, i in enumerate(TEXTS)})
    table = store.extract(source, model="minilm", id_column="id")
    ids, matrix = table.matrix()
    assert matrix.flags["C_CONTIGUOUS"]
    assert matrix.dtype == np.float32
    assert matrix.shape == (40, 384)
    frame = pl.scan_delta(str(table.path)).filter(pl.col("stars") < 3).collect()
    assert sorted(frame["item_id"].to_list()) == ["t00", "t01", "t02"]
    for item, vector in zip(frame["item_id"], frame["embedding"], strict=True):
        np.testing.assert_array_equal(np.array(vector, np.float32), matrix[list(ids).index(item)])
    found = table.neighbours("t00", 3)
    assert found.height == 3
    assert found["item_id"].to_list()[0] in {f"t{i:02d}" for i in range(0, 40, 4)}, "another text about cats"


@pytest.mark.parametrize("size", [1, 3, 64])
def test_vectors_do_not_depend_on_how_the_work_is_cut(model_store, photos, tmp_path, size):
    whole = fresh(model_store, tmp_path / "a").extract(photos, model="efficientnet_lite0")
    parts = fresh(model_store, tmp_path / "b").extract(
        photos, model="efficientnet_lite0", batch_size=size, shard_items=5, workers=1
    )
    assert vectors(whole) == vectors(parts)


def test_texts_hardly_depend_on_how_the_work_is_cut(model_store, tmp_path):
    source = write_texts(tmp_path / "notes.jsonl", {i: t * (1 + n % 7) for n, (i, t) in enumerate(TEXTS.items())})
    matrices = []
    for at, budget in enumerate((16, 256, 4096)):
        store = fresh(model_store, tmp_path / str(at))
        ids, matrix = store.extract(source, model="minilm", id_column="id", token_budget=budget).matrix()
        matrices.append(matrix[np.argsort(ids)])
    for other in matrices[1:]:
        np.testing.assert_allclose(other, matrices[0], atol=1e-5)


def test_settings_are_checked(model_store, tmp_path, monkeypatch):
    store = fresh(model_store, tmp_path)
    source = write_texts(tmp_path / "notes.jsonl", TEXTS)
    with pytest.raises(SettingsError, match="did you mean 'limit'"):
        store.extract(source, model="minilm", limt=3)
    with pytest.raises(SettingsError, match="limit"):
        store.extract(source, model="minilm", limit=-1)
    with pytest.raises(SettingsError, match="--max-reject-share"):
        store.extract(source, model="minilm", max_reject_share=float("nan"))
    with pytest.raises(SettingsError, match="workers"):
        store.extract(source, model="minilm", workers="many")
    monkeypatch.setenv("FEATSTORE_LIMITT", "3")
    with pytest.raises(SettingsError, match="FEATSTORE_LIMITT"):
        store.extract(source, model="minilm")
    monkeypatch.delenv("FEATSTORE_LIMITT")
    monkeypatch.setenv("FEATSTORE_LIMIT", "3")
    table = store.extract(source, model="minilm", id_column="id")
    assert len(table) == 3
    setting = store.run(table.last_run.run_id).settings
    assert (setting["limit"].value, setting["limit"].origin) == (3, "environment FEATSTORE_LIMIT")
    assert setting["model"].origin == "flag"
    assert setting["workers"].origin == "default"


def test_a_table_can_be_named_only_with_plain_characters(model_store, tmp_path):
    store = fresh(model_store, tmp_path)
    source = write_texts(tmp_path / "notes.jsonl", TEXTS)
    for name in ("../x", "a/b", "a@b", "a:1", "", ".hidden"):
        with pytest.raises(SettingsError, match="table's name"):
            store.extract(source, model="minilm", name=name)


def test_a_folder_that_is_no_store_is_refused(tmp_path):
    import featstore

    (tmp_path / "something.txt").write_text("mine")
    with pytest.raises(UsageError, match="not a store"):
        featstore.open(tmp_path)
    assert [p.name for p in Path(tmp_path).iterdir()] == ["something.txt"]
