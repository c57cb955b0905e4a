"""``gc --purge-ids``: items go from everything for good, and a scan of every file proves it."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import deltalake
import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import safetensors.numpy
from cli_world import inside
from faults import Faulty
from purge_world import GONE, copied, holding, say, world
from stores import vectors

import featstore
from featstore import migrations, models
from featstore.errors import FeatstoreError, IntegrityError, LockedError, NotFoundError, UsageError
from featstore.heads import opening
from featstore.records import Finetuning, Migration
from featstore.storage import Storage, documents, durable, locks
from featstore.tables import FeatureTable
from featstore.upkeep.purge import files, places, scan
from featstore.upkeep.purge.ids import Wanted

CHILD = Path(__file__).with_name("purge_world.py")
MENTIONED = ("twin",)


@pytest.fixture(scope="module")
def first(tmp_path_factory):
    """A used store; to be copied."""
    return world(tmp_path_factory.mktemp("purge"))


def clean(w, *, but=MENTIONED):
    """Nothing of the items is left, and all that readers ask for answers."""
    store = featstore.open(w.store.path)
    assert holding(w.store.path, GONE, but=but) == []
    assert [one for one in store.verify(sample=0).findings if one.severity == "error"] == []
    for space in store.layout.storage.folders("features/texts"):
        table = FeatureTable.open(store.layout, "texts", space)
        found = set(table.rows(["item_id"])["item_id"].to_pylist())
        assert not found & set(GONE)
        assert not set(vectors(store.table(f"texts@{space}"))) & set(GONE)
        assert set(pl.read_delta(str(table.path))["item_id"]) == found
        assert deltalake.DeltaTable(str(table.path)).to_pyarrow_table().num_rows == len(found)
    return store


@pytest.mark.heavy
def test_every_file_of_a_used_store_is_of_a_known_kind(first, tmp_path):
    w = copied(first, tmp_path)
    first_space, second_space = w.store.layout.storage.folders("features/texts")
    migrations.note(
        w.store.layout,
        Migration(
            name="texts",
            from_space=first_space,
            to_space=second_space,
            model={},
            before={},
            status="open",
            opened_ts="2026-01-01T00:00:00+00:00",
            changed_ts="",
        ),
    )
    layout = w.store.layout
    paths = layout.storage.files()
    paths += [layout.migration_report("texts", file) for file in ("report.json", "report.html")]
    paths += [layout.crossing("a", "b", "card.json"), layout.bridge("a", "b", "map-1.safetensors"), layout.job("texts")]
    paths += [layout.open_run("texts", "a"), layout.receipt("r", 0), layout.head_lock("h"), layout.reference("k")]
    paths += [layout.members("texts", "a", "file:///b"), layout.preview_places("texts")]
    paths += [layout.finetune("texts", "k", file) for file in ("state.json", "report.html", "trained.safetensors")]
    assert [path for path in paths if places.of(path) is None] == []
    kinds = {places.of(path).place.kind for path in paths}
    assert {place.kind for place in places.PLACES} - kinds <= {
        *("unfinished write", "map between models", "weights of a map", "bridge", "weights of a bridge", "lock"),
    }


def test_a_dry_run_says_what_the_real_one_does_and_changes_nothing(first, tmp_path):
    w = copied(first, tmp_path)
    before = {path: w.store.layout.storage.read(path) for path in w.store.layout.storage.files() if "locks" not in path}
    said = w.store.purge(GONE, dry_run=True)
    after = {path: w.store.layout.storage.read(path) for path in w.store.layout.storage.files() if "locks" not in path}
    assert before == after
    done = w.store.purge(GONE)
    assert (said.found, said.heads, said.runs, said.previews) == (done.found, done.heads, done.runs, done.previews)
    assert (said.breaks, said.warnings, said.next, said.before) == (
        done.breaks,
        done.warnings,
        done.next,
        done.before,
    )
    assert [(t.rows, t.history_rows, t.unreadable, t.indexes) for t in said.tables] == [
        (t.rows, t.history_rows, t.unreadable, t.indexes) for t in done.tables
    ]
    assert said.after is None
    assert said.before.hits > 15


def test_items_go_from_everything(first, tmp_path):
    w = copied(first, tmp_path)
    kept = {item: vector for item, vector in vectors(w.store.table("texts")).items() if item not in GONE}
    assert len(holding(w.store.path, GONE)) > 20
    report = w.store.purge(GONE)
    store = clean(w)
    assert report.found == 3
    assert report.after is not None
    assert report.after.hits == 0
    assert report.after.files == sum(1 for path in store.layout.storage.files() if not path.startswith("locks/"))
    assert vectors(store.table("texts")) == kept
    state = store.published("texts")
    assert state.state.index_version is None
    assert state.state.heads == {"texts-topic": 2}
    assert state.state.table_version == store.table("texts").version
    card = store.head("texts-topic").card
    assert card.table_version == state.state.table_version
    store.head("texts-topic").predict(store.table("texts").matrix()[1][:2])
    assert {head.rows for head in report.heads} == {2}
    assert any("cannot go back to version 0" in said for said in report.breaks)
    assert any("the next extract brings them back" in said for said in report.warnings)
    assert report.after.mentions["texts.twin"] > 0
    with pytest.raises(FeatstoreError):
        store.table("texts:0").matrix()
    assert store.table("texts").search(id="item-005", k=3)["item_id"].len() == 3
    assert store.purge(GONE).found == 0


def test_the_next_refresh_brings_back_only_what_the_source_has(first, tmp_path):
    w = copied(first, tmp_path)
    w.store.purge(GONE)
    source = say(tmp_path / "texts.csv", [at for at in range(1, 30) if at not in (3, 10)])
    w = replace(w, source=source)
    text = source.read_text("utf-8").replace(",item-003", ",")
    first.source.write_text(text, "utf-8")  # the job's own source
    again = replace(w, source=first.source).refresh()
    say(first.source, list(range(1, 36)), odd={f"item-{at:03d}": "" for at in range(90, 110)}, changed=(3, 5, 10))
    assert again.status in ("published", "nothing new")
    store = featstore.open(w.store.path)
    assert not set(GONE) & set(vectors(store.table("texts")))
    assert store.published("texts").state.heads["texts-topic"] >= 2


def test_a_published_version_that_is_not_the_newest_keeps_its_rows(first, tmp_path):
    w = copied(first, tmp_path)
    w.store.rollback("texts")
    newest = w.store.published("texts").state.space_id
    served = {item: v for item, v in vectors(w.store.table("texts")).items() if item not in GONE}
    ahead = {item: v for item, v in vectors(w.store.table(f"texts@{newest}:1")).items() if item not in GONE}
    assert served != ahead
    report = w.store.purge(GONE)
    store = clean(w)
    assert vectors(store.table("texts")) == served
    (table,) = (t for t in report.tables if t.space_id == newest)
    assert table.version == table.published_version + 1
    assert vectors(store.table(f"texts@{newest}:{table.version}")) == ahead


def test_only_one_table(first, tmp_path):
    w = copied(first, tmp_path)
    w.store.extract(
        w.source, name="others", model=w.models[1], id_column="id", text_column="text", max_reject_share=1.0
    )
    w.store.purge(["item-005"], tables=["texts"])
    assert "item-005" in vectors(w.store.table("others"))
    assert "item-005" not in vectors(w.store.table("texts"))
    with pytest.raises(NotFoundError, match="no table 'thing'"):
        w.store.purge(["item-005"], tables=["thing"])


def test_ids_are_whole_values_and_whole_words():
    wanted = Wanted.of(["1", "china.jpg", "item-003", "flower-1"], vocabulary=["flower-1"], roots=["/data/photos"])
    assert wanted.words == {"china.jpg", "item-003"}
    assert wanted.among(pa.chunked_array([["1", "10", None, "china.jpg"]])).tolist() == [True, False, False, True]

    def named(text):
        return wanted.words_in(text, wanted.candidates(text.encode()))

    for text in ("cannot read china.jpg.", "'china.jpg'", "/data/photos/china.jpg: no", "china.jpg, item"):
        assert named(text) == {"china.jpg"}, text
    for text in ("building/china.jpg", "china.jpg.bak", "xchina.jpg", "item-0031", "an-item-003", "1 item"):
        assert named(text) == set(), text
    assert wanted.without("a item-003 b, item-0031", {"item-003"}) == "a (removed) b, item-0031"
    odd = Wanted.of(['ä"b/c-1'])
    for form in (json.dumps('ä"b/c-1'), json.dumps('ä"b/c-1', ensure_ascii=False), "%C3%A4%22b%2Fc-1"):
        assert odd.words_in_bytes(f"x {form} y".encode(), odd.candidates(form.encode())), form


def test_what_another_engine_noted_in_the_log_goes_too(first, tmp_path):
    w = copied(first, tmp_path)
    table = w.store.table("texts@second")
    deltalake.DeltaTable(str(table.path)).optimize.compact()
    deltalake.DeltaTable(str(table.path)).create_checkpoint()
    rows = w.store.table("texts@second").to_arrow()
    few = rows.filter(pa.array([item == "item-003" for item in rows["item_id"].to_pylist()]))
    target = pa.table({name: few[name] for name in rows.column_names})
    target = target.set_column(0, "item_id", pa.array(["item-222"]))
    deltalake.write_deltalake(str(table.path), target, mode="append")
    logs = [path for path in (table.path / "_delta_log").iterdir() if b"item-222" in path.read_bytes()]
    assert logs, "the other engine notes the least and the largest id"
    w.store.purge(["item-222"])
    assert holding(w.store.path, ("item-222",), but=MENTIONED) == []
    found = pl.read_delta(str(table.path))
    assert len(found) == len(rows)


def test_a_file_that_still_holds_an_id_is_named(first, tmp_path):
    w = copied(first, tmp_path)
    strange = w.store.path / "models" / "notes.txt"
    (w.store.path / "notes").mkdir()
    strange = w.store.path / "notes" / "mine.txt"
    strange.write_text("do not forget item-003!", "utf-8")
    with pytest.raises(IntegrityError, match=r"notes/mine\.txt") as caught:
        w.store.purge(GONE)
    assert caught.value.exit_code == 4
    strange.unlink()
    w.store.purge(GONE)
    clean(w)


def test_a_run_that_goes_on_refuses_it(first, tmp_path):
    w = copied(first, tmp_path)
    found = holding(w.store.path, GONE)
    for path in (w.store.layout.lock("texts"), w.store.layout.head_lock("texts-topic")):
        with locks.hold(w.store.layout.storage, path, purpose="a test"), pytest.raises(LockedError):
            w.store.purge(GONE)
    assert holding(w.store.path, GONE) == found


def test_lists_of_ids(first, tmp_path):
    w = copied(first, tmp_path)
    lines, csv, parquet = (tmp_path / name for name in ("ids.txt", "ids.csv", "ids.parquet"))
    lines.write_text("item-003\n\nitem-010\nitem-003\n", "utf-8")
    csv.write_text("why,item_id\nasked,item-003\n", "utf-8")
    pq.write_table(pa.table({"item_id": ["item-003"]}), parquet)
    for file, count in ((lines, 2), (csv, 1), (parquet, 1)):
        assert w.store.purge(file, dry_run=True).found == count
    csv.write_text("why\nasked\n", "utf-8")
    with pytest.raises(UsageError, match="no column 'item_id'"):
        w.store.purge(csv)
    with pytest.raises(UsageError, match="no ids"):
        w.store.purge([])


class StoppedError(Exception):
    """Stands for a kill: nothing that featstore handles."""


def stop_at(monkeypatch, at):
    """Lets the n-th operation on the disk raise, removals among them."""

    def stop():
        raise StoppedError

    faulty = Faulty(at, stop)
    monkeypatch.setattr(durable, "os", faulty)
    for name in ("delete", "delete_folder"):
        real = getattr(Storage, name)

        def counted(self, path, real=real, name=name):
            faulty._count(name, path)
            return real(self, path)

        monkeypatch.setattr(Storage, name, counted)
    return faulty


def interrupt(first, folder, monkeypatch, at):
    w = copied(first, folder)
    w.store.rollback("texts")
    served = {item: v for item, v in vectors(w.store.table("texts")).items() if item not in GONE}
    faulty = stop_at(monkeypatch, at)
    done = False
    try:
        w.store.purge(GONE)
        done = True
    except StoppedError:
        pass
    monkeypatch.undo()
    store = featstore.open(w.store.path)
    seen = vectors(store.table("texts"))  # readers in between see the one or the other
    assert {item: v for item, v in seen.items() if item not in GONE} == served
    store.head("texts-topic").predict(store.table("texts").matrix()[1][:2])
    store.purge(GONE)
    store = clean(w)
    assert vectors(store.table("texts")) == served
    assert len(FeatureTable.open(store.layout, "texts", store.published("texts").state.space_id)) == 27
    return not done and len(faulty.calls) >= at


@pytest.mark.parametrize("at", [1, 40, 90])
def test_stopped_and_run_again(first, tmp_path, monkeypatch, at):
    interrupt(first, tmp_path, monkeypatch, at)


@pytest.mark.heavy
@pytest.mark.timeout(1800)
def test_stopped_anywhere_and_run_again(first, tmp_path, monkeypatch):
    at = 1
    while interrupt(first, tmp_path / str(at), monkeypatch, at):
        at += 5
    assert at > 60, "there is much to write"


@pytest.mark.heavy
@pytest.mark.timeout(600)
@pytest.mark.parametrize("at", [10, 60, 110])
def test_killed_and_run_again(first, tmp_path, at):
    w = copied(first, tmp_path)
    (tmp_path / "ids.txt").write_text("\n".join(GONE), "utf-8")
    command = [sys.executable, str(CHILD), str(w.store.path), str(tmp_path / "ids.txt"), str(at)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == -9, done.stderr
    w.store.purge(tmp_path / "ids.txt")
    clean(w)


def kept_vectors(store, head):
    """The vectors in a head's weights, by reading every file of it that is on the disk."""
    found = list((store.path / "heads" / head).rglob("*.safetensors"))
    assert found
    arrays = [array for file in found for array in safetensors.numpy.load_file(file).values()]
    return [row.astype(np.float32) for array in arrays if array.ndim == 2 for row in array]


@pytest.mark.parametrize("cut_short", [False, True])
def test_a_head_of_neighbours_forgets_their_vectors(first, tmp_path, monkeypatch, cut_short):
    w = copied(first, tmp_path)
    before = w.store.table("texts")
    w.store.train_head("texts", label="label", name="near", kind="knn", curve=False, baselines=False)
    learnt = pl.read_parquet(w.store.path / "heads/near/1/predictions.parquet")
    trained = learnt.filter(side="train")["item_id"].to_list()
    gone, stays = trained[:3], trained[3:]
    raw = {item: np.frombuffer(v, np.float32) for item, v in vectors(before).items()}
    unit = {item: vector / np.linalg.norm(vector) for item, vector in raw.items()}

    def there(items):
        rows = np.stack([row for row in kept_vectors(w.store, "near") if len(row) > 2])
        return [item for item in items if np.abs(rows - unit[item]).max(axis=1).min() < 1e-6]

    assert there(gone) == gone
    if cut_short:
        written = documents.write

        def stopped(storage, path, record, **more):
            written(storage, path, record, **more)
            if path == "heads/near/1/card.json":
                raise StoppedError

        monkeypatch.setattr(documents, "write", stopped)
        with pytest.raises(StoppedError):
            w.store.purge(gone)
        monkeypatch.undo()
    report = w.store.purge(gone)
    twins = {item for item in stays if any(np.abs(unit[item] - unit[one]).max() < 1e-6 for one in gone)}
    assert not twins
    assert there(gone) == []
    assert there(stays) == stays
    assert len(list((w.store.path / "heads/near/1").iterdir())) == 3
    assert report.remaining == ()
    if not cut_short:
        (head,) = (one for one in report.heads if one.head == "near")
        assert (head.vectors, head.keeps_vectors) == (3, False)
    card, head = opening.open_head(w.store.layout, "near:1")
    assert len(head.arrays["known"]) == len(stays)
    labels = dict(zip(learnt["item_id"].to_list(), learnt["truth"].to_list(), strict=True))
    for row, item in zip(head.arrays["known_target"], stays, strict=True):
        assert card.classes[int(row.argmax())] == labels[item]
    head.predict(np.stack([unit[item] for item in stays]))
    w.store.purge(stays)  # nobody is left to be a neighbour
    assert there(stays) == []
    opening.open_head(w.store.layout, "near:1")[1].predict(np.stack([unit[item] for item in stays]))


def test_a_class_of_one_removed_item_is_said_until_it_is_trained_again(first, tmp_path):
    w = copied(first, tmp_path)
    w.store.train_head("texts", label="label", name="mean", kind="prototypes", curve=False, baselines=False)
    learnt = pl.read_parquet(w.store.path / "heads/mean/1/predictions.parquet").filter(side="train", truth="cats")
    (tmp_path / "ids.txt").write_bytes("\r\n".join(learnt["item_id"].to_list()).encode())
    command = ("gc", "--purge-ids", tmp_path / "ids.txt", "--json", "--store", w.store.path)
    for _ in range(2):  # the second time nothing of the items is found, and the vector is there all the same
        done = inside(*command, cwd=tmp_path)
        assert done.code == 5, done.err
        assert [one.split(":")[0] for one in done.json["remaining"]] == ["head mean"]
    assert "(featstore gc --keep 1 --grace-hours 0)" in done.json["remaining"][0]
    said = pl.DataFrame({"item_id": w.store.table("texts").matrix()[0].tolist()}).with_row_index("odd")
    said.with_columns(pl.format("is {}", pl.col("odd") % 2).alias("odd")).write_csv(tmp_path / "odd.csv")
    how = {"name": "mean", "kind": "ridge", "curve": False, "baselines": False}
    w.store.train_head("texts", label="odd", labels=str(tmp_path / "odd.csv"), **how)
    gc = ("gc", "--store", w.store.path)
    assert inside(*gc, cwd=tmp_path).code == 0
    assert inside(*command, cwd=tmp_path).code == 5, "the version that was trained before is young, and one of two"
    assert inside(*gc, "--keep", "1", "--grace-hours", "0", cwd=tmp_path).code == 0
    assert inside(*command, cwd=tmp_path).code == 0


@pytest.mark.parametrize("item", ["item_id", "table_version", "float32", "texts.csv", "nothing new", "card.json"])
def test_an_item_that_is_called_like_a_word_of_the_store(first, tmp_path, item):
    w = copied(first, tmp_path)
    source = tmp_path / "texts.csv"
    say(source, list(range(1, 30)), odd={item: "a text of its own"})
    w.store.extract(source, name="others", model=w.models[1], id_column="id", text_column="text", label_column="label")
    w.store.train_head("others", label="label", name="other", kind="ridge", curve=False, baselines=False)
    assert w.store.purge([item]).found == 1
    store = featstore.open(w.store.path)
    assert [one for one in store.verify(sample=0).findings if one.severity == "error"] == []
    assert item not in vectors(store.table("others"))
    assert len(pl.read_delta(str(store.table("others").path))) == 29
    assert store.published("texts") == w.store.published("texts")
    store.head("other").predict(store.table("others").matrix()[1][:2])


@pytest.mark.parametrize("item", ["👩‍👩‍👧 family-1", "soft\u00adhyphen-1", "bytes-\udcff.jpg"])
def test_ids_of_any_characters(first, tmp_path, item):
    w = copied(first, tmp_path)
    split = next((w.store.path / "splits/texts").glob("*.parquet"))
    rows = pq.ParquetFile(split).read()
    wanted = Wanted.of([item, "item-003"])
    if not item.startswith("bytes"):
        named = rows.set_column(0, "item_id", pa.array([item] * len(rows)))
        assert files.without(wanted, named).num_rows == 0
        grouped = rows.append_column("other", pa.array([item] * len(rows)))
        assert set(files.without(wanted, grouped)["other"].to_pylist()) == {None}
    assert w.store.purge([item, "item-003"]).found == 1


def test_what_came_with_a_model_is_said_and_is_no_trace(first, tmp_path):
    w = copied(first, tmp_path)
    folder = next((w.store.path / "models").glob("first-*"))
    (folder / "words.txt").write_text("hello item-003 hello", "utf-8")
    report = w.store.purge(["item-003"])
    assert any("words.txt has the words of an id" in said for said in report.warnings)
    assert (folder / "words.txt").read_text("utf-8") == "hello item-003 hello"


def test_large_files_are_read_piece_by_piece(first, tmp_path, monkeypatch):
    w = copied(first, tmp_path)
    monkeypatch.setattr(scan, "_PIECE", 64)
    monkeypatch.setattr(scan, "_AROUND", 8)
    large = w.store.path / "large.bin"
    for at in (*range(40, 70), 128, 1000):
        large.write_bytes(b"." * at + b" item-003 " + b"." * (2000 - at))
        (found,) = scan.survey(w.store.layout, Wanted.of(["item-003"]), lambda file: file.path == "large.bin").found
        assert found.hits == 1, at


def test_a_published_version_with_older_types(first, tmp_path):
    w = copied(first, tmp_path)
    source = tmp_path / "texts.csv"
    lines = first.source.read_text("utf-8").splitlines()
    for stars in ("3", "3.5"):
        said = [f"{line},{'stars' if not at else stars}" for at, line in enumerate(lines)]
        source.write_text("\n".join(line for line in said if ",," not in line.split(",cats")[0]) + "\n", "utf-8")
        made = w.store.extract(
            source,
            name="stars",
            model=w.models[0],
            id_column="id",
            text_column="text",
            history=True,
            retype=stars == "3.5",
            max_reject_share=1.0,
        )
        if stars == "3":
            w.store.publish(f"stars@{made.space_id}:{made.version}", reason="a test")
    served = w.store.table("stars")
    newest = w.store.table(f"stars@{made.space_id}:{made.version}")
    assert (served.to_polars()["stars"].dtype, newest.to_polars()["stars"].dtype) == (pl.Int64, pl.Float64)
    kept = {item: v for item, v in vectors(served).items() if item not in GONE}
    w.store.purge(GONE)
    store = featstore.open(w.store.path)
    assert holding(w.store.path, GONE, but=MENTIONED) == []
    assert [one for one in store.verify(sample=0).findings if one.severity == "error"] == []
    assert vectors(store.table("stars")) == kept
    assert set(store.table("stars").to_polars()["stars"].to_list()) == {3}
    ahead = FeatureTable.open(store.layout, "stars", made.space_id)
    assert set(ahead.rows(["stars"])["stars"].to_pylist()) == {3.5}
    assert set(pl.read_delta(str(ahead.path))["stars"].to_list()) == {3.5}


def test_a_page_that_may_show_an_item_goes_whatever_its_id(first, tmp_path):
    w = copied(first, tmp_path)
    source = tmp_path / "texts.csv"
    say(source, list(range(1, 30)), odd={"1": "a text of its own"})
    w.store.extract(source, name="others", model=w.models[1], id_column="id", text_column="text")
    layout = w.store.layout
    page, record = (layout.migration_report("others", file) for file in ("report.html", "report.json"))
    layout.storage.write(page, b'<figure title="1"><img src="data:image/png;base64,AAAA"></figure>')
    layout.storage.write(record, documents.sign({"html": page, "figure": 1.5}))
    for dry_run in (True, False):
        report = w.store.purge(["1"], dry_run=dry_run)
        assert any(page in said for said in report.breaks)
        assert layout.storage.exists(page) == dry_run
    assert json.loads(layout.storage.read(record))["figure"] == 1.5
    assert json.loads(layout.storage.read(record))["html"] is None


def test_what_a_fine_tuning_shows_of_an_item_goes_and_its_weights_are_named(first, tmp_path):
    w = copied(first, tmp_path)
    layout = w.store.layout
    folder = layout.finetune("others", "0123456789abcdef")
    source = tmp_path / "texts.csv"
    say(source, list(range(1, 30)), odd={"1": "a text of its own"})
    table = w.store.extract(source, name="others", model=w.models[1], id_column="id", text_column="text")
    page, record = f"{folder}/report.html", f"{folder}/report.json"
    layout.storage.write(page, b'<figure title="1"><img src="data:image/png;base64,AAAA"></figure>')
    layout.storage.write(record, documents.sign({"html": page, "figure": 1.5}))
    layout.storage.write(f"{folder}/trained.safetensors", b"weights")
    card = models.load_card(layout, table.space_id)
    origin = Finetuning(
        base=card.space_id, base_model=card.model, base_weights=None, options={}, table="others", version=0,
        label="topic", key="0123456789abcdef", n_train=20, weights=card.onnx,
    )  # fmt: skip
    documents.write(layout.storage, layout.model_card(card.space_id), replace(card, finetuning=origin))
    for dry_run in (True, False):
        report = w.store.purge(["1"], tables=["others"], dry_run=dry_run)
        assert any(page in said for said in report.breaks)
        assert any("was fine-tuned on items of 'others'" in said for said in report.warnings)
        assert layout.storage.exists(page) == dry_run
    assert json.loads(layout.storage.read(record)) | {"document_sha256": ""} == {
        "figure": 1.5, "html": None, "document_sha256": "",
    }  # fmt: skip
    assert layout.storage.exists(f"{folder}/trained.safetensors")
