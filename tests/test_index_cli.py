"""``featstore index`` as a user runs it, and what other commands say of an index."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import numpy as np
import pytest
from cli_world import copied, inside, photos, schema, stocked
from stores import damage, fresh

from featstore.errors import SettingsError, UsageError


@pytest.fixture
def here(tmp_path: Path) -> Path:
    return copied(tmp_path)


def test_the_card_keeps_to_its_schema_and_show_names_the_index(here: Path) -> None:
    assert "make one with: featstore index photos" in inside("show", "photos", cwd=here).out
    done = inside("index", "photos", cwd=here)
    assert done.code == 0, done.err
    assert "built: there was no index" in done.out
    assert "recall" in done.out
    paths = inside("show", "photos", "--paths", "--json", cwd=here).json
    card = json.loads(Path(paths["index"]).with_name("card.json").read_text())
    jsonschema.validate(card, schema("documents/index.json"))
    assert Path(paths["index_ids"]).name == "ids.parquet"
    shown = inside("show", "photos", cwd=here).out
    assert "flat (Flat), recall@6 1.000" in shown
    summary = inside("ls", "--json", cwd=here).json[0]["index"]
    assert (summary["kind"], summary["version"], summary["recall"]) == ("flat", 0, 1.0)


def test_it_follows_an_extract(tmp_path: Path) -> None:
    here = stocked(tmp_path)
    photos(here / "photos", 12)
    assert inside("extract", "photos", "--model", "efficientnet_lite0", "-q", cwd=here).code == 0
    assert inside("index", "photos", "--kind", "hnsw", cwd=here).code == 0
    photos(here / "more", 3, seed=5)
    for at, new in enumerate(sorted((here / "more").iterdir())):
        new.rename(here / "photos" / f"new{at}.jpg")
    (here / "photos" / "0003.jpg").unlink()
    assert inside("extract", "photos", "--model", "efficientnet_lite0", "-q", cwd=here).code == 0
    found = inside("search", "photos", "--id", "new1.jpg", "-k", "20", "--json", cwd=here)
    ids = {hit["item_id"] for hit in found.json}
    assert {"new0.jpg", "new2.jpg"} <= ids
    assert "0003.jpg" not in ids
    assert "featstore index" in found.err
    assert "would be updated" in inside("index", "photos", "--dry-run", cwd=here).out
    card = inside("index", "photos", "--json", "-q", cwd=here).json
    assert (card["action"], card["added"], card["removed"], card["kind"]) == ("updated", 3, 1, "hnsw")
    assert "1 of its vectors" in inside("index", "photos", "--recall", "0.5", "-q", cwd=here).out


def test_a_damaged_index_is_passed_over_with_a_notice_and_verify_exits_with_4(here: Path) -> None:
    before = inside("search", "photos", "--id", "0001.jpg", "--json", cwd=here).json
    inside("index", "photos", cwd=here)
    assert inside("search", "photos", "--id", "0001.jpg", "--json", cwd=here).json == before
    paths = inside("show", "photos", "--paths", "--json", cwd=here).json
    damage(Path(paths["index"]), "flip", bit=999)
    done = inside("search", "photos", "--id", "0001.jpg", "--json", cwd=here)
    assert (done.code, done.json) == (0, before)
    assert "damaged" in done.err
    checked = inside("verify", "--sample", "0", cwd=here)
    assert checked.code == 4
    assert "damaged_index" in checked.out
    assert inside("index", "photos", cwd=here).code == 0
    assert inside("verify", "--sample", "0", cwd=here).code == 0
    damage(Path(paths["index"]).with_name("card.json"), "half")
    assert "is damaged; make it again" in inside("show", "photos", cwd=here).out


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["photos", "--factory", "PQ2x4", "--recall", "1"], 2, "PQ2x4"),
        (["photos", "--kind", "tree"], 2, "flat"),
        (["photos", "--recall", "2"], 2, "recall"),
        (["photos", "--memory", "lots"], 2, "a size is"),
        (["photos", "--memory", "1kB"], 2, "fits in 1,000 bytes"),
        (["photos", "--queries", "nowhere.txt"], 2, "nowhere.txt"),
        (["nothing"], 2, "no table"),
    ],
)
def test_what_cannot_be_is_named(here: Path, arguments: list[str], code: int, said: str) -> None:
    done = inside("index", *arguments, "-q", cwd=here)
    assert (done.code, said in done.err) == (code, True), done.err
    assert not (here / "featstore-data" / "indexes").exists()


def test_texts_are_tuned_on_as_they_will_be_asked(model_store: Path, texts_csv: Path, tmp_path: Path) -> None:
    store = fresh(model_store, tmp_path)
    store.extract(texts_csv, model="minilm", name="texts", id_column="id", text_column="text")
    asked = tmp_path / "asked.txt"
    asked.write_text("a cat asleep\ninterest rates\nhow to bake bread\nsorting a list\n", "utf-8")
    card = store.index("texts", queries=asked, kind="hnsw")
    assert card.measured is not None
    assert (card.measured.source, card.measured.queries, card.measured.tuned_on) == ("given", 2, 2)
    found = store.table("texts").search(text="a cat asleep", k=3)
    assert (
        found["item_id"].to_list()
        == store.table("texts").search(text="a cat asleep", k=3, exact=True)["item_id"].to_list()
    )
    vectors = store.table("texts").matrix()[1]
    assert store.index("texts", queries=vectors, rebuild=True).measured is not None
    np.save(tmp_path / "asked.npy", vectors[:, :7])
    with pytest.raises(UsageError):
        store.index("texts", queries=tmp_path / "asked.npy")
    with pytest.raises(SettingsError, match="did you mean 'recall'"):
        store.index("texts", recal=0.9)
