"""Predicting: tables and sources, what is stored and what is embedded, formats, abstaining, refusals."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import head_world
import numpy as np
import polars as pl
import pyarrow.parquet as pq
import pytest
import tables_kit
from cli_world import environment, inside
from stores import damage, fresh, write_texts

import featstore
from featstore.errors import (
    IntegrityError,
    NotFoundError,
    SpaceMismatchError,
    TooManyRejectsError,
    UsageError,
)
from featstore.extract.progress import Reporter
from featstore.heads import opening, regression
from featstore.heads.conformal import calibrate
from featstore.store import Store
from featstore.tables import FeatureTable


@pytest.fixture(scope="module")
def flowers(model_store: Path, photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Photographs, their vectors, and the head ``kinds`` that tells flowers from buildings; not to be changed."""
    store = fresh(model_store, tmp_path_factory.mktemp("flowers"))
    table = store.extract(photos, model="efficientnet_lite0", label_from="folder")
    labels = [str(label) for label in table.features.rows(["label"])["label"].to_pylist()]
    head_world.train(store.layout, table.features, labels)
    return store


def tiny(folder: Path, rows: int = 1000, *, parts: int = 3) -> tuple[Store, FeatureTable]:
    """A table of random vectors and a head of its labels, without any model."""
    label = [("cat", "dog", "eel")[at % 3] for at in range(rows)]
    layout, features, _ = tables_kit.filled(folder, rows=rows, parts=parts, label=label, weight=list(range(rows)))
    head_world.train(layout, features, label)
    (folder / "store" / "store.json").unlink(missing_ok=True)
    from featstore import founding

    founding.found(layout)
    return featstore.open(folder / "store"), features


# ── tables ────────────────────────────────────────────────────────────────────────────────────


def test_a_table_is_predicted_as_the_head_says_in_the_tables_order(tmp_path: Path) -> None:
    store, features = tiny(tmp_path)
    done = store.predict("kinds", table="photos", top_k=2)
    rows = done.to_polars()
    ids, vectors = features.matrix()
    _, head = opening.open_head(store.layout, "kinds")
    expected = head.probabilities(vectors)
    assert rows["item_id"].to_list() == ids.tolist()
    assert rows["predicted"].to_list() == [head.classes[at] for at in expected.argmax(axis=1)]
    np.testing.assert_allclose(rows["probability"], expected.max(axis=1))
    order = np.argsort(-expected, axis=1)[:, :2]
    assert rows["top_labels"].to_list() == [[head.classes[at] for at in row] for row in order]
    assert rows["weight"].to_list() == list(range(1000))
    assert "rejected" not in rows.columns
    summary = done.summary
    assert (summary.items, summary.stored, summary.embedded, summary.rejected) == (1000, 1000, 0, 0)
    assert summary.source == f"photos@{tables_kit.SPACE}:0"
    assert rows["abstain"].sum() == summary.abstained


def test_sets_cover_as_much_as_was_asked_for_and_abstaining_is_a_set_that_is_not_one_class(tmp_path: Path) -> None:
    store, _ = tiny(tmp_path)
    for coverage in (0.8, 0.95):
        rows = store.predict("kinds", table="photos", coverage=coverage).to_polars()
        held = [label in members for label, members in zip(rows["label"], rows["set"], strict=True)]
        assert abs(np.mean(held) - coverage) < 0.02  # the head was calibrated on these very items
        assert rows["abstain"].to_list() == [len(members) != 1 for members in rows["set"]]
    done = store.predict("kinds", table="photos")
    assert done.summary.coverage == 0.9
    assert done.summary.empty_sets == sum(not len(members) for members in done.to_polars()["set"])
    with pytest.raises(UsageError, match="between 0 and 1"):
        store.predict("kinds", table="photos", coverage=1.0)


def test_where_and_limit_take_the_first_fitting_rows(tmp_path: Path) -> None:
    store, _ = tiny(tmp_path)
    rows = store.predict("kinds", table="photos", where="label = 'eel' AND weight > 500", limit=7).to_polars()
    assert rows["weight"].to_list() == [w for w in range(501, 1000) if w % 3 == 2][:7]
    assert store.predict("kinds", table="photos", where="weight < 0").to_polars().height == 0
    with pytest.raises(NotFoundError, match="no column 'wight'"):
        store.predict("kinds", table="photos", where="wight > 1")


def test_a_column_called_like_a_prediction_keeps_its_values_under_another_name(tmp_path: Path) -> None:
    label = ["a", "b"] * 20
    layout, features, _ = tables_kit.filled(tmp_path, rows=40, label=label, predicted=label, probability=[0.5] * 40)
    head_world.train(layout, features, label)
    from featstore import founding

    founding.found(layout)
    rows = featstore.open(tmp_path / "store").predict("kinds", table="photos").to_polars()
    assert rows["predicted_"].to_list() == label
    assert rows["probability_"].to_list() == [0.5] * 40
    assert set(rows["predicted"]) <= {"a", "b"}


@pytest.mark.parametrize("kind", ["parquet", "csv", "jsonl"])
def test_every_format_holds_the_same(tmp_path: Path, kind: str) -> None:
    store, _ = tiny(tmp_path, rows=301)
    whole = store.predict("kinds", table="photos").to_polars()
    file = tmp_path / f"said.{kind}"
    done = store.predict("kinds", table="photos", output=file)
    assert done.rows is None
    assert done.summary.path == str(file)
    with pytest.raises(UsageError, match="said"):
        done.to_polars()
    if kind == "parquet":
        assert pl.read_parquet(file).equals(whole)
        origin = json.loads(pq.read_schema(file).metadata[b"featstore"])
        assert origin["head"] == "kinds"
        assert origin["coverage"] == 0.9
        return
    if kind == "csv":
        found = list(csv.DictReader(io.StringIO(file.read_text("utf-8"))))
        lists = [json.loads(row["set"]) for row in found]
    else:
        found = [json.loads(line) for line in file.read_text("utf-8").splitlines()]
        lists = [row["set"] for row in found]
    assert lists == whole["set"].to_list()
    assert [row["item_id"] for row in found] == whole["item_id"].to_list()
    np.testing.assert_allclose([float(row["probability"]) for row in found], whole["probability"], rtol=1e-12)


def test_memory_stays_flat_however_long_the_table_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No block is larger than the one that was read, and none is held once it is written."""
    store, features = tiny(tmp_path, rows=6000, parts=12)
    monkeypatch.setattr("featstore.export.selection._BLOCK_BYTES", 10_000)
    sizes: list[int] = []

    class Sink(io.BytesIO):
        def write(self, data: object) -> int:
            sizes.append(len(bytes(data)))  # type: ignore[call-overload]
            return sizes[-1]

    store.predict("kinds", table="photos", output=Sink(), format="csv")
    assert len(sizes) == 1 + len(features.files)
    assert max(sizes[1:]) < 2 * min(sizes[1:])


def test_the_same_file_twice_is_the_same_to_the_byte_and_an_error_leaves_the_old_one(tmp_path: Path) -> None:
    store, features = tiny(tmp_path)
    first, second = tmp_path / "a.parquet", tmp_path / "b.parquet"
    for file in (first, second):
        store.predict("kinds", table="photos", output=file)
    assert first.read_bytes() == second.read_bytes()
    damage(features.path / features.files[-1], "half")
    with pytest.raises(IntegrityError):
        store.predict("kinds", table="photos", output=first)
    assert first.read_bytes() == second.read_bytes()
    assert sorted(p.name for p in tmp_path.glob("*.parquet*")) == ["a.parquet", "b.parquet"]


def test_an_interrupt_leaves_no_file(tmp_path: Path) -> None:
    from featstore.extract.progress import Reporter

    class Impatient(Reporter):
        def advance(self, done: int, rejected: int = 0) -> None:
            raise KeyboardInterrupt

    store, _ = tiny(tmp_path, rows=60)
    with pytest.raises(KeyboardInterrupt):
        store.predict("kinds", table="photos", output=tmp_path / "said.parquet", reporter=Impatient())
    assert [path.name for path in tmp_path.iterdir()] == ["store"]


def test_another_space_is_refused_and_both_are_named(tmp_path: Path) -> None:
    store, features = tiny(tmp_path, rows=60)
    head = head_world.prototypes(tables_kit.vectors(60), ["a", "b"] * 30)
    head_world.keep(store.layout, head, head="other", space_id="else-99999999", table="photos")
    with pytest.raises(SpaceMismatchError) as caught:
        store.predict("other", table="photos")
    assert "else-99999999" in caught.value.message
    assert features.space_id in caught.value.message
    narrow = head_world.prototypes(tables_kit.vectors(60, 8), ["a", "b"] * 30)
    head_world.keep(store.layout, narrow, head="narrow", space_id=features.space_id, table="photos")
    with pytest.raises(SpaceMismatchError, match="8 values"):
        store.predict("narrow", table="photos")


def test_of_several_spaces_under_one_name_the_heads_own_is_taken(tmp_path: Path) -> None:
    store, features = tiny(tmp_path, rows=60)
    other = FeatureTable.staging(store.layout, "photos", "else-99999999", 8)
    part = other.write_part("run9", 0, other.align(tables_kit.raw_rows(5)), tables_kit.vectors(5, 8))
    other.commit(run_id="run9", add=[part])
    done = store.predict("kinds", table="photos")
    assert (done.summary.items, done.summary.source) == (60, f"photos@{features.space_id}:0")
    head_world.keep(store.layout, head_world.linear("regression", (), 4), head="third", space_id="third-1")
    with pytest.raises(SpaceMismatchError) as caught:
        store.predict("third", table="photos")
    for space in ("third-1", "else-99999999", features.space_id):
        assert space in caught.value.message


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "one of the two"),
        ({"source": ".", "table": "photos"}, "one of the two"),
        ({"table": "photos", "into": "x"}, "--into needs a SOURCE"),
        ({"table": "photos", "text_column": ("a",)}, "--text-column needs a SOURCE"),
        ({"table": "photos", "limit": 0}, "at least 1"),
        ({"table": "photos", "top_k": 0}, "at least 1"),
        ({"table": "photos", "output": "x.txt"}, "which format"),
        ({"table": "photos", "output": "x", "format": "xml"}, "no format 'xml'"),
        ({"table": "photos:9"}, "9"),
        ({"table": "nothing"}, "no table 'nothing'"),
    ],
)
def test_requests_that_cannot_be_met_are_refused(tmp_path: Path, arguments: dict[str, object], message: str) -> None:
    store, _ = tiny(tmp_path, rows=60)
    with pytest.raises(UsageError, match=message):
        store.predict("kinds", **arguments)  # type: ignore[arg-type]


def test_nothing_is_written_into_the_store(tmp_path: Path) -> None:
    store, _ = tiny(tmp_path, rows=60)
    with pytest.raises(UsageError, match="within the store"):
        store.predict("kinds", table="photos", output=store.path / "said.csv")


# ── other tasks ───────────────────────────────────────────────────────────────────────────────


def test_a_head_of_numbers_gives_numbers_and_one_of_labels_gives_lists(tmp_path: Path) -> None:
    store, features = tiny(tmp_path, rows=90)
    _, vectors = features.matrix()
    numbers = head_world.linear("regression", (), 16)
    head_world.keep(store.layout, numbers, head="price", space_id=features.space_id)
    rows = store.predict("price", table="photos").to_polars()
    np.testing.assert_allclose(rows["predicted"], numbers.predict(vectors))
    assert not {"probability", "set", "top_labels"} & set(rows.columns)
    middle = numbers.predict(vectors)
    bounds = regression.calibrate(middle, middle + np.linspace(-1, 1, 90), np.arange(90))
    head_world.keep(store.layout, numbers, head="price", version=2, space_id=features.space_id, conformal=bounds)
    for asked, half in ((None, 0.9), (0.5, 0.5)):
        rows = store.predict("price", table="photos", coverage=asked).to_polars()
        np.testing.assert_allclose(rows["high"] - rows["predicted"], half, atol=0.03)
        np.testing.assert_allclose(rows["predicted"] - rows["low"], half, atol=0.03)
    labels = head_world.linear("multilabel", ("big", "red", "wet"), 16)
    head_world.keep(store.layout, labels, head="tags", space_id=features.space_id)
    rows = store.predict("tags", table="photos", top_k=5).to_polars()
    said = labels.predict(vectors)
    assert rows["predicted"].to_list() == [[labels.classes[at] for at in np.flatnonzero(row)] for row in said]
    assert set(map(len, rows["top_labels"])) == {3}
    for head in ("price:1", "tags"):
        with pytest.raises(UsageError, match="was not calibrated"):
            store.predict(head, table="photos", coverage=0.9)


def test_very_many_classes_are_predicted_in_little_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store, features = tiny(tmp_path, rows=90)
    _, vectors = features.matrix()
    head = head_world.linear("classification", tuple(f"c{at:05d}" for at in range(2000)), 16)
    probabilities = head.probabilities(vectors)
    truth = probabilities.argmax(axis=1)
    bounds = calibrate(probabilities, truth, np.arange(90))
    head_world.keep(store.layout, head, head="many", space_id=features.space_id, conformal=bounds)
    whole = store.predict("many", table="photos").to_polars()
    monkeypatch.setattr("featstore.predicting.columns._VALUES", 7 * 2000)
    assert store.predict("many", table="photos").to_polars().equals(whole)
    assert whole["predicted"].to_list() == [head.classes[at] for at in truth]


# ── sources ───────────────────────────────────────────────────────────────────────────────────


def test_a_folder_of_known_pictures_needs_no_model_and_equals_the_table(flowers: Store, photos: Path) -> None:
    name = flowers.tables()[0].name
    known = flowers.predict("kinds", table=name).to_polars().sort("item_id")
    asked = flowers.predict("kinds", photos)
    assert (asked.summary.stored, asked.summary.embedded) == (12, 0)
    rows = asked.to_polars()
    assert rows["item_id"].to_list() == sorted(rows["item_id"].to_list())
    assert rows.select("item_id", "predicted", "probability").equals(
        known.select("item_id", "predicted", "probability")
    )
    assert rows["predicted"].to_list() == [item.split("/")[0] for item in rows["item_id"]]
    assert rows["rejected"].null_count() == 12


def test_new_pictures_are_embedded_once_each_and_not_stored(flowers: Store, photos: Path, tmp_path: Path) -> None:
    new = tmp_path / "new"
    new.mkdir()
    for name, source in (("a.jpg", "flower/flower0.jpg"), ("c.jpg", "building/building0.jpg")):
        (new / name).write_bytes((photos / source).read_bytes())
    from PIL import Image

    turned = Image.open(photos / "flower/flower1.jpg").transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    turned.save(new / "b.jpg")
    (new / "d.jpg").write_bytes((new / "b.jpg").read_bytes())
    (new / "e.jpg").write_bytes(b"\xff\xd8\xff\xe0 this is no picture")
    before = sorted(flowers.layout.storage.files("features"))
    done = flowers.predict("kinds", new)
    assert sorted(flowers.layout.storage.files("features")) == before
    summary = done.summary
    assert (summary.items, summary.stored, summary.embedded, summary.rejected) == (4, 2, 2, 1)
    rows = done.to_polars()
    assert rows["item_id"].to_list() == ["a.jpg", "b.jpg", "c.jpg", "d.jpg", "e.jpg"]
    assert rows["predicted"].to_list() == ["flower", "flower", "building", "flower", None]
    assert rows["probability"][1] == rows["probability"][3]
    assert rows["rejected"].null_count() == 4
    assert sum(summary.reject_codes.values()) == 1
    assert rows["abstain"][4] is None


def test_too_many_bad_items_are_an_error_and_the_others_are_predicted(flowers: Store, tmp_path: Path) -> None:
    new = tmp_path / "new"
    new.mkdir()
    for at in range(11):
        (new / f"{at:02d}.jpg").write_bytes(b"\xff\xd8\xff\xe0 no picture" + bytes([at]))
    file = tmp_path / "said.jsonl"
    with pytest.raises(TooManyRejectsError, match="11 of 11") as caught:
        flowers.predict("kinds", new, output=file)
    assert len(file.read_text().splitlines()) == 11
    assert caught.value.context["predictions"].summary.rejected == 11
    assert flowers.predict("kinds", new, max_reject_share=1.0).summary.items == 0


def test_into_extracts_first_and_predicts_the_table(
    model_store: Path, flowers: Store, photos: Path, tmp_path: Path
) -> None:
    store = fresh(model_store, tmp_path)
    card, head = opening.open_head(flowers.layout, "kinds")
    fields = {f.name: getattr(card, f.name) for f in dataclasses.fields(card)}
    head_world.keep(store.layout, head, **{k: v for k, v in fields.items() if k not in ("head_file", "predictions")})
    done = store.predict("kinds", photos, into="fresh")
    assert (done.summary.items, done.summary.stored, done.summary.embedded) == (12, 0, 12)
    assert store.table("fresh").version == 0
    again = store.predict("kinds", photos, into="fresh")
    assert (again.summary.stored, again.summary.embedded) == (12, 0)


def test_a_table_of_texts_is_read_as_the_heads_own_was(model_store: Path, tmp_path: Path) -> None:
    store = fresh(model_store, tmp_path)
    texts = {f"t{at}": text for at, text in enumerate(("a cat", "a dog", "the cat sleeps", "the dog barks"))}
    source = write_texts(tmp_path / "old.jsonl", texts, topic={"t0": "cat", "t1": "dog", "t2": "cat", "t3": "dog"})
    made = store.extract(source, model="minilm", text_column=("text",), id_column="id", label_column="topic")
    labels = [str(v) for v in made.features.rows(["label"])["label"].to_pylist()]
    head_world.train(store.layout, made.features, labels, name="pets")
    new = write_texts(tmp_path / "new.jsonl", {"n1": "cats are asleep", "n2": "a dog", "n3": " "}, note={"n1": "x"})
    rows = store.predict("pets", new).to_polars()
    assert rows["item_id"].to_list() == ["n1", "n2", "n3"]
    assert rows["predicted"].to_list() == ["cat", "dog", None]
    assert rows["note"].to_list() == ["x", None, None]
    assert "blank" in rows["rejected"][2]
    picked = store.predict("pets", new, where="note = 'x'").to_polars()
    assert picked["item_id"].to_list() == ["n1"]
    (tmp_path / "other.csv").write_text("code,words\n1,a dog that barks\n")
    rows = store.predict("pets", tmp_path / "other.csv", text_column=("words",), id_column="code").to_polars()
    assert rows.select("item_id", "predicted").rows() == [("1", "dog")]


def test_a_head_of_chunks_says_that_whole_texts_are_something_else(model_store: Path, tmp_path: Path) -> None:
    store = fresh(model_store, tmp_path)
    long = " ".join(f"the cat number {at} sleeps on the warm mat." for at in range(8))
    source = write_texts(tmp_path / "old.jsonl", {"t0": long, "t1": long.replace("cat", "dog")})
    made = store.extract(source, model="minilm", text_column=("text",), id_column="id", chunk_tokens=16)
    labels = ["cat" if str(item).startswith("t0") else "dog" for item in made.features.matrix()[0]]
    head_world.train(store.layout, made.features, labels, name="pets")
    new = write_texts(tmp_path / "new.jsonl", {"n1": f"Look: {long}"})
    (warning,) = store.predict("pets", new).summary.warnings
    assert "--chunk-tokens 16" in warning
    done = store.predict("pets", new, chunk_tokens=16)
    assert not done.summary.warnings
    rows = done.to_polars()
    assert rows["item_id"].to_list()[:2] == ["n1#0", "n1#1"]
    assert set(rows["parent"]) == {"n1"}
    assert set(rows["predicted"]) == {"cat"}


@pytest.fixture(scope="module")
def pets(model_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Store:
    """A table of texts with columns of its own names, and the head ``pets``."""
    folder = tmp_path_factory.mktemp("pets")
    store = fresh(model_store, folder)
    (folder / "a.csv").write_text("code,words,other\nt0,a cat,1\nt1,a dog,2\n")
    made = store.extract(folder / "a.csv", model="minilm", text_column=("words",), id_column="code")
    head_world.train(store.layout, made.features, ["cat", "dog"], name="pets")
    return store


def test_into_reads_a_source_as_without(pets: Store, tmp_path: Path) -> None:
    new = tmp_path / "new.csv"
    new.write_text("code,words,other\nn0,one cat,1\nn1,one dog,2\n")
    for into in (None, "read-alike"):
        assert pets.predict("pets", new, into=into).to_polars()["item_id"].to_list() == ["n0", "n1"]
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "a.txt").write_text("a cat")
    assert pets.predict("pets", tmp_path / "folder", into="read-otherwise").summary.items == 1


def test_into_counts_what_was_refused_and_predicts_the_others(pets: Store, tmp_path: Path) -> None:
    for name, bad in (("few", 2), ("many", 20)):
        source = write_texts(tmp_path / f"{name}.jsonl", {"t": "one cat", **{f"e{at}": " " * at for at in range(bad)}})
    few = pets.predict("pets", tmp_path / "few.jsonl", into="few", text_column=("text",), id_column="id")
    assert (few.summary.items, few.summary.rejected) == (1, 2)
    with pytest.raises(TooManyRejectsError) as caught:
        pets.predict("pets", source, into="many", text_column=("text",), id_column="id", output=tmp_path / "out.csv")
    assert caught.value.context["predictions"].summary.rejected == 20
    assert len((tmp_path / "out.csv").read_text().splitlines()) == 2


def test_a_source_is_not_written_over_and_a_coverage_is_checked_before_any_work(pets: Store, tmp_path: Path) -> None:
    source = tmp_path / "b.csv"
    source.write_text("code,words\nn0,one cat\n")
    with pytest.raises(UsageError, match="is the source"):
        pets.predict("pets", source, output=source)
    with pytest.raises(UsageError, match=r"from 0\.5 to 0\.999"):
        pets.predict("pets", source, into="covered", coverage=0.3)
    assert source.read_text() == "code,words\nn0,one cat\n"
    assert "covered" not in [table.name for table in pets.tables()]


def test_progress_is_told_while_the_model_works(pets: Store, tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []

    class Told(Reporter):
        def advance(self, done: int, rejected: int = 0) -> None:
            told.append((done, rejected))

    texts = {f"t{at}": f"one cat {at // 2}" for at in range(300)}
    source = write_texts(tmp_path / "c.jsonl", {"k": "a cat", "e": " ", "f": " ", **texts})
    pets.predict("pets", source, reporter=Told(), text_column=("text",), id_column="id", token_budget=64)
    assert [sum(part) for part in zip(*told, strict=True)] == [303, 2]
    assert len(told) > 3


def test_a_folder_whose_name_is_no_text_is_a_source(flowers: Store, photos: Path, tmp_path: Path) -> None:
    folder = Path(os.fsdecode(os.fsencode(tmp_path) + b"/pictures\xff"))
    folder.mkdir()
    shutil.copy(photos / "flower/flower0.jpg", folder / "a.jpg")
    assert flowers.predict("kinds", folder, output=tmp_path / "a.parquet").summary.items == 1
    assert pq.read_table(tmp_path / "a.parquet").num_rows == 1


def test_a_link_or_url_of_one_picture_is_that_picture(flowers: Store, photos: Path, tmp_path: Path) -> None:
    (tmp_path / "link.jpg").symlink_to(photos / "flower/flower0.jpg")
    for source in (tmp_path / "link.jpg", f"file://{photos}/flower/flower0.jpg"):
        assert flowers.predict("kinds", source).to_polars()["predicted"].to_list() == ["flower"]


def test_one_picture_is_a_source_too(flowers: Store, photos: Path, tmp_path: Path) -> None:
    done = flowers.predict("kinds", photos / "flower" / "flower0.jpg")
    assert done.to_polars().select("item_id", "predicted").rows() == [("flower0.jpg", "flower")]
    assert (done.summary.stored, done.summary.source) == (1, str(photos / "flower" / "flower0.jpg"))
    (tmp_path / "bad.png").write_bytes(b"no picture")
    bad = flowers.predict("kinds", tmp_path / "bad.png").summary
    assert (bad.items, bad.stored, bad.embedded, bad.rejected) == (0, 0, 0, 1)
    (tmp_path / "note.txt").write_text("a text")
    with pytest.raises(UsageError, match="is not a table"):
        flowers.predict("kinds", tmp_path / "note.txt")


def test_an_empty_or_missing_source_is_refused(flowers: Store, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("nothing to see")
    with pytest.raises(UsageError, match=r"holds no images \(1 other files\)"):
        flowers.predict("kinds", tmp_path)
    with pytest.raises(NotFoundError, match="does not exist"):
        flowers.predict("kinds", tmp_path / "gone")


def test_without_the_model_of_its_space_a_head_still_predicts_tables(tmp_path: Path) -> None:
    store, _ = tiny(tmp_path, rows=60)
    with pytest.raises(NotFoundError, match="whose model is not in the store"):
        store.predict("kinds", tmp_path)


def test_predicting_needs_neither_torch_nor_scikit_learn(flowers: Store, photos: Path, tmp_path: Path) -> None:
    from PIL import Image

    (tmp_path / "new").mkdir()
    with Image.open(photos / "flower/flower1.jpg") as picture:
        picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(tmp_path / "new" / "b.jpg")
    command = ["predict", "kinds", "new", "--store", str(flowers.path)]
    program = (
        "import sys\nfrom featstore.cli import main\n"
        f"try: main({command!r})\n"
        "finally: print([m for m in ('torch', 'sklearn', 'faiss', 'transformers') if m in sys.modules], "
        "'onnxruntime' in sys.modules, file=sys.stderr)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr.splitlines()[-1] == "[] True"


# ── the command ───────────────────────────────────────────────────────────────────────────────


def test_the_command_shows_the_first_and_pipes_all(tmp_path: Path) -> None:
    store, _ = tiny(tmp_path, rows=60)
    at = ("--store", str(store.path))
    shown = inside("predict", "kinds", "--table", "photos", *at, cwd=tmp_path)
    assert shown.code == 0, shown.err
    assert "… 40 more" in shown.out
    assert "abstains on" in shown.out
    assert "kinds:1 on photos@" in shown.out
    piped = inside("predict", "kinds", "--table", "photos", "--format", "jsonl", *at, cwd=tmp_path)
    assert len(piped.out.splitlines()) == 60
    assert json.loads(piped.out.splitlines()[0])["predicted"] in ("cat", "dog", "eel")
    assert "kinds:1 on photos@" in piped.err
    summary = inside("predict", "kinds", "--table", "photos", "--json", *at, cwd=tmp_path)
    assert summary.json["items"] == 60
    refused = inside("predict", "kinds", "--table", "photos", "--json", "--format", "csv", *at, cwd=tmp_path)
    assert refused.code == 2
    refused = inside("predict", "none", "--table", "photos", *at, cwd=tmp_path)
    assert refused.code == 2
    assert "heads: kinds" in refused.err
