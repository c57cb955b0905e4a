"""A table with history: what leaves it stands beside it, exactly once, whatever happens on the way."""

from __future__ import annotations

import datetime as dt
import json
import os
import shutil
import time
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from cli_world import inside, schema
from history_kit import NAME, SPACE, World, at, vector
from jsonschema import Draft202012Validator
from stores import damage, fresh, write_texts

import featstore
from featstore.errors import ConflictError, SettingsError, StorageError
from featstore.extract import late
from featstore.features import get_features
from featstore.tables import FeatureTable, companion

TEXTS = {f"t{i:02d}": text for i, text in enumerate(("a cat", "a dog", "bread", "soup", "a bank", "a loan", "rain"))}


def _rows(world: World) -> set[tuple[str, int, str, str]]:
    """What is kept: item, content, by which run and why."""
    kept = companion.opened(world.layout, world.name, world.space)
    if kept is None:
        return set()
    rows = kept.rows(["item_id", "score", "superseded_by", "superseded_as"]).to_pylist()
    found = [(r["item_id"], r["score"], r["superseded_by"], r["superseded_as"]) for r in rows]
    assert len(set(found)) == len(found)
    return set(found)


def test_what_leaves_is_kept_with_its_vector_and_why(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.sync({"a": (1, None), "b": (2, 3), "c": (4, None)}, 10)
    assert _rows(world) == set()
    world.sync({"a": (5, None), "c": (4, None)}, 20)
    assert _rows(world) == {("a", 1, "run002", "replaced"), ("b", 2, "run002", "removed")}
    world.sync({"a": (5, None), "b": (2, 3), "c": (4, None)}, 30)
    world.sync({"b": (2, 3)}, 40)
    assert _rows(world) == {
        ("a", 1, "run002", "replaced"),
        ("b", 2, "run002", "removed"),
        ("a", 5, "run004", "removed"),
        ("c", 4, "run004", "removed"),
    }
    # Polars reads it as any Delta table.
    found = pl.read_delta(str(tmp_path / "history" / NAME / SPACE)).sort("item_id", "superseded_ts")
    assert found["superseded_ts"].to_list() == [at(20), at(40), at(20), at(40)]
    assert np.array_equal(np.array(found["embedding"].to_list()), np.stack([vector(c) for c in (1, 5, 2, 4)]))
    assert found["event_ts"].to_list() == [None, None, at(3), None]
    assert found["created_ts"].to_list() == [at(10), at(20), at(10), at(10)]


def test_the_table_itself_stays_as_it_would_be_without(tmp_path: Path) -> None:
    snapshots = [{"a": (1, None), "b": (2, None)}, {"a": (3, None)}, {"a": (3, None), "c": (5, 9)}]
    worlds = [World(tmp_path / "with"), World(tmp_path / "without", history_from=99)]
    for world in worlds:
        for number, snapshot in enumerate(snapshots):
            world.sync(snapshot, 10 * number)
    one, two = (world.table() for world in worlds)
    assert one.files == two.files
    for file in one.files:
        assert (one.path / file).read_bytes() == (two.path / file).read_bytes()


def test_a_crash_between_the_two_commits_leaves_nothing_wrong(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.sync({"a": (1, None), "b": (2, None)}, 10)
    world.sync({"a": (3, None)}, 20, crash=True)
    frame = pl.DataFrame({"item_id": ["a", "b"], "t": [at(25)] * 2})
    found = get_features(world.layout, frame, [f"{NAME}[score]"], timestamp_column="t")
    assert found[f"{NAME}[score]"].to_list() == [1, 2]
    # The next run has another plan: what stands for the one that never took effect goes.
    world.sync({"a": (4, None), "b": (2, None)}, 30)
    assert _rows(world) == {("a", 1, "run003", "replaced")}
    found = get_features(world.layout, frame, [f"{NAME}[score]"], timestamp_column="t")
    assert found[f"{NAME}[score]"].to_list() == [1, 2]
    assert companion.verify(world.layout, NAME, SPACE) == []


def test_a_run_that_takes_effect_after_another_was_tried_keeps_its_rows(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.sync({"a": (1, None), "b": (2, None)}, 10)
    world.sync({"a": (5, None), "b": (2, None)}, 20, crash=True)
    world.sync({"a": (1, None), "b": (7, None)}, 30, crash=True)  # takes out what stands for the run before it
    for crash in (True, False):
        world.tried = 1  # the second run once more: somebody publishes it after all
        world.sync({"a": (5, None), "b": (2, None)}, 20, crash=crash)
    assert _rows(world) == {("a", 1, "run002", "replaced")}
    frame = pl.DataFrame({"item_id": ["a", "b"], "t": [at(15)] * 2})
    found = get_features(world.layout, frame, [f"{NAME}[score]"], timestamp_column="t")
    assert found[f"{NAME}[score]"].to_list() == [1, 2]
    assert companion.verify(world.layout, NAME, SPACE) == []


def test_keeping_twice_is_keeping_once(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.sync({"a": (1, None), "b": (2, None)}, 10)
    world.sync({"a": (1, None)}, 20)
    kept = companion.opened(world.layout, NAME, SPACE)
    assert kept is not None
    before = FeatureTable.open(world.layout, NAME, SPACE, 0)
    gone = [file for file in before.files if file not in world.table().files]
    again = companion.keep(
        world.layout, before, world.table(), run_id="run002", started_ts=at(20).isoformat(), remove=gone
    )
    assert again == 1
    now = companion.opened(world.layout, NAME, SPACE)
    assert now is not None
    assert now.version == kept.version


def test_a_new_column_and_a_changed_type_come_along(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.sync({"a": (1, None), "b": (2, None)}, 10)
    world.sync({"a": (3, None), "b": (2, None)}, 20, colour="red")
    world.sync({"a": (4, None), "b": (2, None)}, 30, colour="blue")
    table = world.table()
    rows = table.align(table.rows_at(np.arange(2), None))
    text = rows.set_column(rows.column_names.index("score"), "score", rows["score"].cast("string"))
    text = text.set_column(text.column_names.index("score"), "score", [["x", "y"]])
    assert table.retype(text, run_id="retype") is not None
    table = world.table()
    part = table.write_part("run9", 0, table.align(text.filter([True, False])), vector(8)[None])
    file, row = next((r["_file"], r["_row"]) for r in table.rows(["item_id"]).to_pylist() if r["item_id"] == "a")
    rewritten = table.rewrite_part("run9", 1, file, np.array([row]))
    add = [p for p in (part, rewritten) if p is not None]
    companion.keep(
        world.layout, table, table.with_staged(add, [file]), run_id="run9", started_ts=at(40).isoformat(), remove=[file]
    )
    table.commit(run_id="run9", add=add, remove=[file])
    frame = pl.DataFrame({"item_id": ["a"] * 3, "t": [at(s) for s in (15, 25, 35)]})
    found = get_features(world.layout, frame, [f"{NAME}[score]", f"{NAME}[colour]"], timestamp_column="t")
    assert found[f"{NAME}[score]"].to_list() == ["1", "3", "4"]
    assert found[f"{NAME}[colour]"].to_list() == [None, "red", "blue"]


def test_a_column_of_the_historys_own_name_is_refused_before_any_work(tmp_path: Path) -> None:
    world = World(tmp_path, history_from=1)
    world.sync({"a": (1, None)}, 10, Superseded_As="x")
    with pytest.raises(SettingsError, match="'Superseded_As' has a name"):
        world.sync({"a": (2, None)}, 20)


def test_verify_finds_damage_and_rows_that_were_not_kept(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.sync({"a": (1, None), "b": (2, None)}, 10)
    world.sync({"a": (3, None), "b": (2, None)}, 20)
    assert companion.verify(world.layout, NAME, SPACE) == []
    kept = companion.opened(world.layout, NAME, SPACE)
    assert kept is not None
    damage(kept.path / kept.files[0], "flip", bit=800)
    assert {p.code for p in companion.verify(world.layout, NAME, SPACE)} == {"damaged_file"}
    shutil.rmtree(kept.path)
    problems = companion.verify(world.layout, NAME, SPACE)
    assert [(p.code, "run002" in p.message) for p in problems] == [("missing_history", True)]
    (tmp_path / "history" / NAME / f"{SPACE}.json").write_text("{}")
    assert [p.code for p in companion.verify(world.layout, NAME, SPACE)] == ["damaged_history"]


def test_cleaning_merges_files_and_keeps_every_row(tmp_path: Path) -> None:
    world = World(tmp_path)
    for number in range(6):
        world.sync({"a": (number, None), "b": (10, None)}, 10 * number)
    before = _rows(world)
    kept = companion.opened(world.layout, NAME, SPACE)
    assert kept is not None
    files = len(kept.files)
    stray = kept.path / "_runs" / "killed" / "00000.parquet"
    stray.parent.mkdir()
    stray.write_bytes(b"half a file")
    told = companion.clean(world.layout, NAME, SPACE, run_id="gc1", older_than_seconds=-1, dry_run=True)
    assert told.files == ("_runs/killed/00000.parquet",)
    assert stray.exists()
    companion.clean(world.layout, NAME, SPACE, run_id="gc1", older_than_seconds=-1)
    now = companion.opened(world.layout, NAME, SPACE)
    assert now is not None
    assert len(now.files) < files
    assert _rows(world) == before
    assert not stray.exists()
    assert len(list((now.path / "_runs").rglob("*.parquet"))) == len(now.files)


# ── through extract ───────────────────────────────────────────────────────────────────────────


def _extract(store: featstore.Store, file: Path, texts: dict[str, str], **settings: object) -> featstore.Table:
    write_texts(file, texts)
    time.sleep(0.002)  # created_ts is in milliseconds
    return store.extract(file, model="minilm", id_column="id", text_column="text", name="texts", **settings)


def test_extract_keeps_up_a_history_once_it_has_begun(model_store: Path, tmp_path: Path) -> None:
    store, file = fresh(model_store, tmp_path), tmp_path / "texts.jsonl"
    first = _extract(store, file, TEXTS, history=True)
    times = [dt.datetime.now(dt.UTC)]
    old = dict(zip(*first.matrix(), strict=True))
    changed = {**TEXTS, "t00": "a tiger"}
    del changed["t06"]
    _extract(store, file, changed)  # without the flag: it is the table's, not the run's
    times.append(dt.datetime.now(dt.UTC))
    _extract(store, file, {**changed, "t01": TEXTS["t01"]})  # nothing new
    third = _extract(store, file, {**changed, "t06": "snow"})
    times.append(dt.datetime.now(dt.UTC))
    frame = pl.DataFrame({"item_id": ["t00", "t06", "t01"] * 3, "t": [t for t in times for _ in range(3)]})
    found = store.get_features(frame, ["texts", "texts[run_id]"], timestamp_column="t")
    new = dict(zip(*third.matrix(), strict=True))
    expected = [old["t00"], old["t06"], old["t01"], new["t00"], None, old["t01"], new["t00"], new["t06"], new["t01"]]
    for got, wanted in zip(found["texts"].to_list(), expected, strict=True):
        assert (got is None) == (wanted is None)
        assert wanted is None or np.array_equal(np.array(got, np.float32), wanted)
    assert found["texts__missing"].to_list()[4] == "removed before that time"
    record = json.loads((store.path / "history" / "texts" / f"{first.space_id}.json").read_text())
    Draft202012Validator(schema("documents/history.json")).validate(record)
    # Polars sees one row an item, as ever.
    assert pl.read_delta(str(first.path))["item_id"].n_unique() == pl.read_delta(str(first.path)).height == 7


def test_gc_and_verify_know_the_history(model_store: Path, tmp_path: Path) -> None:
    store, file = fresh(model_store, tmp_path), tmp_path / "texts.jsonl"
    _extract(store, file, TEXTS, history=True)
    then = dt.datetime.now(dt.UTC)
    for number in range(3):
        table = _extract(store, file, {**TEXTS, "t00": f"cat {number}"})
    assert store.verify(sample=0).ok
    store.gc(keep_versions=1, grace_hours=0)
    assert store.verify(sample=0).ok
    frame = pl.DataFrame({"item_id": ["t00"], "t": [then]})
    assert store.get_features(frame, ["texts"], timestamp_column="t")["texts__missing"].to_list() == [None]
    kept = companion.opened(store.layout, "texts", table.space_id)
    assert kept is not None
    assert (len(kept.files), len(kept)) == (1, 3)
    damage(kept.path / kept.files[0], "flip", bit=800)
    report = store.verify(sample=0)
    assert not report.ok
    assert [finding.path.startswith("history/texts/") for finding in report.findings] == [True]


def test_a_version_that_gc_took_is_read_from_the_history(model_store: Path, tmp_path: Path) -> None:
    store, file = fresh(model_store, tmp_path), tmp_path / "texts.jsonl"
    first = _extract(store, file, TEXTS, history=True)
    old = dict(zip(*first.matrix(), strict=True))
    then = dt.datetime.now(dt.UTC).isoformat()
    for number in range(3):
        _extract(store, file, {**{k: v for k, v in TEXTS.items() if k != "t05"}, "t00": f"cat {number}"})
    whole, some = tmp_path / "whole.parquet", tmp_path / "some.npz"
    before = store.export("texts", whole, as_of=then)
    kept = pl.read_parquet(whole).sort("item_id")
    store.gc(keep_versions=1, grace_hours=0)
    done = store.export("texts", whole, as_of=then)
    assert (done.rows, done.columns) == (before.rows, before.columns)
    found = pl.read_parquet(whole).sort("item_id")
    assert found.equals(kept)
    vectors = np.array(found["embedding"].to_list(), np.float32)
    assert np.array_equal(vectors, np.stack([old[item] for item in found["item_id"]]))
    (tmp_path / "ids.txt").write_text("t05\nt00\nnobody\n")
    told = inside(
        "export", "texts", "--ids", tmp_path / "ids.txt", "--as-of", then, "-o", some, "--store", store.path,
        "--columns", "created_ts", cwd=tmp_path,
    )  # fmt: skip
    assert told.code == 2
    assert "'nobody'" in told.err
    told = inside(
        "export", "texts", "--ids", tmp_path / "ids.txt", "--as-of", then, "-o", some, "--store", store.path,
        "--allow-missing", "--where", "item_id = 't05'", "--json", cwd=tmp_path,
    )  # fmt: skip
    assert told.code == 0, told.err
    assert told.json["missing_ids"] == ["nobody"]
    with np.load(some) as arrays:
        assert arrays["item_id"].tolist() == ["t05"]
        assert np.array_equal(arrays["embedding"][0], old["t05"])


def test_a_run_that_a_gate_refused_keeps_nothing_until_it_is_published(model_store: Path, tmp_path: Path) -> None:
    from featstore.extract import staging
    from featstore.settings import ExtractSettings, resolve

    store, file = fresh(model_store, tmp_path), tmp_path / "texts.jsonl"
    table = _extract(store, file, TEXTS, history=True)
    write_texts(file, {**TEXTS, "t00": "a lion"})
    given = {"source": str(file), "model": "minilm", "name": "texts"}
    resolved, origins = resolve(ExtractSettings, given)
    with staging(store.layout, resolved, origins.origins) as ready:
        ready.refuse("a test says so")
    assert companion.opened(store.layout, "texts", table.space_id) is None
    staged = late.find(store.layout, ready.run_id or "")
    assert staged is not None
    late.commit(store.layout, staged)
    kept = companion.opened(store.layout, "texts", table.space_id)
    assert kept is not None
    assert kept.rows(["item_id"])["item_id"].to_pylist() == ["t00"]
    assert companion.verify(store.layout, "texts", table.space_id) == []


@pytest.mark.parametrize("resumed", [True, False])
def test_a_failure_between_the_commits_is_made_good_by_the_next_run(
    model_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, resumed: bool
) -> None:
    store, file = fresh(model_store, tmp_path), tmp_path / "texts.jsonl"
    table = _extract(store, file, TEXTS, history=True)
    whole = FeatureTable.commit

    def refusing(self: FeatureTable, **given: object) -> int:
        if given.get("operation") != "history":
            raise StorageError("the disk is full")
        return whole(self, **given)  # type: ignore[arg-type]

    monkeypatch.setattr(FeatureTable, "commit", refusing)
    with pytest.raises(StorageError):
        _extract(store, file, {**TEXTS, "t00": "a lion"})
    monkeypatch.undo()
    kept = companion.opened(store.layout, "texts", table.space_id)
    assert kept is not None
    assert len(kept) == 1
    made = store.extract(file, model="minilm") if resumed else _extract(store, file, {**TEXTS, "t00": "a puma"})
    now = companion.opened(store.layout, "texts", table.space_id)
    assert now is not None
    assert (len(now), now.version) == (1, (kept.version or 0) + (not resumed))
    assert made.last_run is not None
    assert now.rows(["superseded_by"])["superseded_by"].to_pylist() == [made.last_run.run_id]
    assert companion.verify(store.layout, "texts", table.space_id) == []


def test_another_writer_of_the_history_is_a_conflict_and_changes_nothing(
    model_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, file = fresh(model_store, tmp_path), tmp_path / "texts.jsonl"
    table = _extract(store, file, TEXTS, history=True)
    _extract(store, file, {**TEXTS, "t00": "a lion"})
    log = next(iter(store.path.glob("history/texts/*/_delta_log")))
    whole = companion._aligned

    def racing(*given: object) -> object:
        found = whole(*given)  # type: ignore[arg-type]
        newest = sorted(log.glob("*.json"))[-1]
        shutil.copy(newest, log / f"{int(newest.stem) + 1:020d}.json")
        return found

    monkeypatch.setattr(companion, "_aligned", racing)
    with pytest.raises(ConflictError):
        _extract(store, file, {**TEXTS, "t00": "a puma"})
    assert store.table(f"texts@{table.space_id}").version == 1
    assert os.path.exists(log)
