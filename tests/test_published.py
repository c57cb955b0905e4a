"""What is published is respected everywhere: by gc, by verify, by ls and show."""

from __future__ import annotations

import json
from dataclasses import replace

import jsonschema
import pytest
from cli_world import inside, schema
from refresh_world import World, bytes_of, copied, job_of, seen, world

from featstore.errors import GateError, IntegrityError, LockedError, UsageError
from featstore.jobs import Gates
from featstore.storage import locks


@pytest.fixture(scope="module")
def first(model_store, tmp_path_factory):
    """A world of four published versions, of which two can be gone back to; to be copied."""
    made = world(model_store, tmp_path_factory.mktemp("published"))
    for text in ("", "one", "two", "three"):
        if text:
            made.add(f"kitten {text}")
        assert refreshed(made) == "published"
    return made


@pytest.fixture
def w(first, tmp_path):
    found = copied(first, tmp_path)
    for text in ("one", "two", "three"):
        found.add(f"kitten {text}")
    return found


def refreshed(w: World, **more: object) -> str:
    return w.store.refresh(replace(job_of(w.source, head=True, **more), keep=2)).status


def refused(w: World) -> str:
    with pytest.raises(GateError) as caught:
        refreshed(w, gates=Gates(min_recall=1.1))
    return caught.value.context["result"].run_id


def more(w: World) -> None:
    """So many that some are to be learned from, whatever the split."""
    for at in range(6):
        w.add(f"another kitten of litter {at} plays")


def look(w: World, *words: str) -> str:
    done = inside(*words, "--store", w.store.path, cwd=w.source.parent)
    assert done.code == 0, done.err
    return done.out


def codes(w: World) -> dict[str, str]:
    return {one.code: one.severity for one in w.store.verify(sample=0).findings}


class TestGc:
    @pytest.mark.heavy
    def test_what_a_rollback_needs_stays_and_all_else_goes(self, w):
        before = bytes_of(w.store, "")
        planned = w.store.gc(dry_run=True, keep_versions=1, grace_hours=0)
        assert bytes_of(w.store, "") == before
        assert planned.kept_heads == {"texts-topic": [2, 3, 4]}
        report = w.store.gc(keep_versions=1, grace_hours=0)
        assert report.kept_heads == planned.kept_heads
        folders = w.store.layout.storage.folders(f"indexes/texts/{w.store.table('texts').space_id}")
        assert folders == ["1", "2", "3"], "that of version 0 cannot be gone back to"
        for items in (27, 26, 25):
            assert len(seen(w.store).items) == items
            if items > 25:
                w.store.rollback("texts")
        assert codes(w) == {}

    def test_merged_files_are_still_what_is_published(self, w):
        report = w.store.gc(keep_versions=1, grace_hours=0)
        assert report.compacted_files > 1
        table = w.store.table("texts")
        assert (table.version, len(table.features.files), len(table)) == (4, 1, 27)
        assert w.store.published("texts").state.index_version == 3
        assert refreshed(w) == "nothing new", "the rows are the same"
        assert [c.published for c in table.history()][:3] == ["published", None, "previous"]

    def test_a_compaction_that_was_cut_short_before_it_was_noted(self, w):
        table = w.store.table("texts").features
        assert table.compact("20260504T030201-gc-000000") == 4
        assert (w.store.table("texts").version, refreshed(w)) == (3, "nothing new")
        w.store.gc(keep_versions=1, grace_hours=0)
        assert w.store.table("texts").version == 4

    def test_a_refused_run_stays_publishable(self, w):
        more(w)
        run = refused(w)
        for _ in range(2):
            w.store.gc(keep_versions=1, grace_hours=0)
        result = w.store.publish(run, reason="looked at it")
        assert (result.now.table_version, result.now.heads) == (4, {"texts-topic": 5})
        assert len(seen(w.store).items) == 33

    def test_what_a_superseded_run_left_goes(self, w):
        more(w)
        old = refused(w)
        storage = w.store.layout.storage
        assert storage.exists(w.store.layout.staged_head(old, "texts-topic"))
        w.add("kitten five")
        assert refreshed(w) == "published"
        w.store.gc(keep_versions=1, grace_hours=0)
        assert storage.files(f"runs/{old}") == [f"runs/{old}/manifest.json", f"runs/{old}/refresh.json"]
        assert storage.folders(f"runs/{old}") == []
        assert w.store.refreshed(old).status == "refused", "how it went stays on record"

    def test_records_of_nothing_go_once_they_are_old(self, w):
        assert refreshed(w) == "nothing new"
        runs = len(w.store.refreshes())
        w.store.gc()
        assert len(w.store.refreshes()) == runs
        w.store.gc(grace_hours=0)
        assert [one.status for one in w.store.refreshes()] == ["published"] * 4

    def test_a_damaged_document_stops_it_before_anything_goes(self, w):
        path = w.store.path / "published" / "texts.json"
        path.write_text(path.read_text().replace('"generation": 4', '"generation": 5'))
        before = bytes_of(w.store, "features", "heads", "indexes", "runs")
        with pytest.raises(IntegrityError):
            w.store.gc(keep_versions=1, grace_hours=0)
        assert bytes_of(w.store, "features", "heads", "indexes", "runs") == before

    def test_a_table_that_is_being_refreshed_is_left_alone(self, w):
        layout = w.store.layout
        before = bytes_of(w.store, "features", "indexes", "runs")
        with locks.hold(layout.storage, layout.lock("texts"), purpose="job 'texts'"), pytest.raises(LockedError):
            w.store.gc(keep_versions=1, grace_hours=0)
        assert bytes_of(w.store, "features", "indexes", "runs") == before


class TestVerify:
    def test_a_missing_head(self, w):
        w.store.layout.storage.delete_folder("heads/texts-topic/4")
        assert codes(w) == {"published_head_missing": "error"}

    def test_a_missing_head_of_before(self, w):
        w.store.layout.storage.delete_folder("heads/texts-topic/3")
        assert codes(w) == {"published_head_missing": "warning"}

    def test_a_missing_index(self, w):
        space = w.store.table("texts").space_id
        w.store.layout.storage.delete_folder(f"indexes/texts/{space}/3")
        assert codes(w) == {"published_index_missing": "error"}
        w.store.index("texts")
        assert codes(w) == {}

    def test_a_missing_file_of_what_is_published(self, w):
        table = w.store.table("texts")
        w.store.extract(w.source, model="minilm", id_column="id", text_column="text", label_column="label")
        (table.path / table.features.files[-1]).unlink()
        # The file may be one of a state to go back to as well, for which it is a warning.
        found = {(one.code, one.severity) for one in w.store.verify(sample=0).findings}
        assert {("published_version_missing", "error"), ("missing_file", "error")} <= found

    def test_a_flipped_bit_in_what_only_the_published_version_has(self, w):
        table = w.store.table("texts")
        lines = w.source.read_text("utf-8").splitlines()
        w.source.write_text("\n".join([lines[0], *lines[2:]]) + "\n", "utf-8")
        later = w.store.extract(w.source, model="minilm", id_column="id", text_column="text", label_column="label")
        only = [file for file in table.features.files if file not in later.features.files]
        path = table.path / only[0]
        data = bytearray(path.read_bytes())
        data[100] ^= 1
        path.write_bytes(data)
        assert codes(w)["damaged_file"] == "error"
        report = w.store.verify([f"texts:{later.version}"], sample=0)
        assert "damaged_file" in {one.code for one in report.findings}

    def test_a_document_in_another_ones_place(self, w):
        folder = w.store.path / "published"
        (folder / "other.json").write_bytes((folder / "texts.json").read_bytes())
        assert codes(w)["misplaced_document"] == "error"

    @pytest.mark.parametrize("what", ["published/texts.json", "jobs/texts.json", "runs/RUN/refresh.json"])
    def test_a_changed_document(self, w, what):
        path = w.store.path / what.replace("RUN", w.store.refreshes()[0].run_id)
        text = path.read_text("utf-8")
        path.write_text(text.replace("texts", "tests", 1), "utf-8")
        report = w.store.verify(sample=0)
        assert [one.severity for one in report.findings if one.code == "damaged_document"] == ["error"]
        assert not report.ok

    def test_a_damaged_candidate(self, w):
        w.add("kitten four")
        run = refused(w)
        table = w.store.table("texts")
        assert codes(w) == {}
        next((table.path / "_runs" / run).rglob("*.parquet")).unlink()
        assert codes(w) == {"damaged_candidate": "warning"}
        with pytest.raises(IntegrityError):
            w.store.publish(run, reason="all the same")
        assert w.store.table("texts").version == 3

    def test_an_index_of_other_files_is_said_and_searched(self, w):
        """What a refused run leaves under a number that a plain extract then takes."""
        w.add("kitten four")
        refused(w)
        w.add("kitten five")
        table = w.store.extract(w.source, model="minilm", id_column="id", text_column="text", label_column="label")
        assert table.version == 4
        found = table.search(id="t000", k=5)
        assert found["item_id"].to_list() == table.search(id="t000", k=5, exact=True)["item_id"].to_list()
        published = w.store.publish("texts:4", reason="by hand")
        assert published.now.index_version is None, "there is one of that number, of other files"


class TestLooking:
    def test_ls(self, w):
        assert "3 (published)" in look(w, "ls")
        w.add("kitten four")
        w.store.extract(w.source, model="minilm", id_column="id", text_column="text", label_column="label")
        w.store.rollback("texts", hold=True)
        assert "2 (published, newest 4, held)" in look(w, "ls")
        (line,) = json.loads(look(w, "ls", "--json"))
        assert (line["version"], line["published"], line["newest"], line["held"]) == (2, 2, 4, True)
        jsonschema.validate([line], schema("outputs/ls.json"))

    def test_show(self, w):
        w.store.rollback("texts", reason="bad kitten")
        text = look(w, "show", "texts")
        assert "published  this version, with the index of version 2, head texts-topic:3" in text
        assert "bad kitten" in text
        assert "newest     version 3" in text
        assert "go back with: featstore rollback texts" in text
        text = look(w, "show", "texts:3")
        assert "published  version 2" in text

    def test_history(self, w):
        w.store.rollback("texts")
        lines = look(w, "show", "texts", "--history").splitlines()
        assert [line.split()[-1] for line in lines[1:4]] == ["back", "published", "previous"]
        found = json.loads(look(w, "show", "texts", "--history", "--json"))
        assert [one["published"] for one in found] == ["taken back", "published", "previous", None]
        jsonschema.validate(found, schema("outputs/show-history.json"))

    def test_a_run(self, w):
        w.add("kitten four")
        run = refused(w)
        text = look(w, "show", run)
        assert "a gate refused version 4" in text
        assert "min_recall" in text
        assert f"featstore publish {run} --reason TEXT" in text
        assert "refused" in look(w, "ls", "runs")
        jsonschema.validate(json.loads(look(w, "show", run, "--json")), schema("outputs/refresh.json"))

    def test_a_run_that_only_refreshed(self, w):
        assert refreshed(w) == "nothing new"
        run = w.store.refreshes()[0].run_id
        assert "nothing new" in look(w, "show", run)
        assert run in look(w, "ls", "runs")
        assert inside("show", "20260504T030201-0a1b2c", "--store", w.store.path, cwd=w.source.parent).code == 2

    def test_heads(self, w):
        w.store.train_head("texts", name="texts-topic", kind="ridge", curve=False)
        assert "'texts-topic' still means version 4" in look(w, "ls", "heads")


def test_every_reader_takes_the_published_version(w, tmp_path):
    w.add("kitten four")
    w.store.extract(w.source, model="minilm", id_column="id", text_column="text", label_column="label")
    store = w.store
    assert store.export("texts", tmp_path / "out.npz").rows == 27
    assert store.plan_index("texts").version == 3
    assert store.plan_head("texts").n_train + store.plan_head("texts").n_test <= 27
    assert store.predict("texts-topic", table="texts").rows.num_rows == 27
    assert store.diff("texts", "texts:4").b.items == 28
    assert store.train_head(kind="ridge", curve=False).card.table_version == 3


def test_a_head_that_two_tables_publish_must_be_named(w):
    from featstore import published

    layout = w.store.layout
    state = w.store.published("texts").state
    assert w.store.head("texts-topic").card.version == 4
    published.swap(layout, "other", replace(state, heads={"texts-topic": 2}), expected=None)
    with pytest.raises(UsageError, match="several tables"):
        w.store.head("texts-topic")
    assert w.store.head("texts-topic:2").card.version == 2
