"""Searching a table: right hits, whatever is asked and however it is narrowed; against plain numpy."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
import warnings

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from cli_world import environment
from hypothesis import given, settings
from hypothesis import strategies as st
from own_models import save, text_card, text_model, tokenizer
from stores import damage, fresh, write_texts
from tables_kit import NAME, SPACE, add_run, filled, layout_at, raw_rows
from tables_kit import vectors as some_vectors

import featstore
from featstore import index
from featstore.errors import IntegrityError, ItemError, NotFoundError, SpaceMismatchError, UsageError
from featstore.search.picking import pick
from featstore.settings import IndexSettings
from featstore.table import Table
from featstore.tables import FeatureTable

ROWS = 600


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """A table of given vectors, without a model."""
    generator = np.random.default_rng(5)
    groups = [f"g{n}" if n % 7 else None for n in generator.integers(0, 40, ROWS).tolist()]
    folder = tmp_path_factory.mktemp("search")
    layout, features, x = filled(
        folder, rows=ROWS, label=["cat", "dog", "owl"] * (ROWS // 3), price=list(range(ROWS)), group=groups
    )
    return Table(layout, features), x, np.array(groups, object)


@pytest.fixture(scope="module")
def world(model_store, photos, texts_csv, tmp_path_factory):
    """A store with pictures and sentences; read it, never write into it."""
    store = fresh(model_store, tmp_path_factory.mktemp("searchworld"))
    store.extract(photos, model="efficientnet_lite0", name="photos", label_from="folder")
    store.extract(texts_csv, model="minilm", name="notes", id_column="id", text_column=("text",))
    return store


def unit(x):
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def item(row: int) -> str:
    return f"folder/item {row:06d}.jpg"


def expected(x, query, k, *, allowed=None, without=()):
    scores = unit(x) @ (query / np.linalg.norm(query))
    rows = [row for row in np.argsort(-scores, kind="stable").tolist() if row not in without]
    return [row for row in rows if allowed is None or allowed[row]][:k]


# ── what is asked ───────────────────────────────────────────────────────────────────────────────


def test_an_item_is_asked_and_is_not_its_own_hit(plain):
    table, x, _ = plain
    found = table.search(id=item(7), k=5)
    assert found.columns[:5] == ["query", "rank", "item_id", "score", "content_sha256"]
    assert found["query"].to_list() == [item(7)] * 5
    assert found["rank"].to_list() == [1, 2, 3, 4, 5]
    rows = expected(x, x[7], 5, without={7})
    assert found["item_id"].to_list() == [item(row) for row in rows]
    np.testing.assert_allclose(found["score"].to_numpy(), unit(x)[rows] @ unit(x)[7], atol=2e-6)
    assert found["label"].to_list() == [["cat", "dog", "owl"][row % 3] for row in rows]
    assert found["price"].to_list() == rows
    assert not {"run_id", "created_ts", "embedding", "_file"} & set(found.columns)


def test_vectors_of_any_length_and_type_are_asked(plain):
    table, x, _ = plain
    found = table.search(vectors=x[3], k=1)
    assert found["item_id"].to_list() == [item(3)]
    assert found["query"].to_list() == ["0"]
    for given_vectors in (x[:4].astype(np.float64) * 1e3, x[:4].astype(np.float16), x[:4].tolist()):
        found = table.search(vectors=given_vectors, k=1)
        assert found["item_id"].to_list() == [item(row) for row in range(4)]
        np.testing.assert_allclose(found["score"].to_numpy(), 1, atol=1e-3)
    assert table.search(vectors=(x[:2] * 100).astype(np.int32), k=1)["item_id"].to_list() == [item(0), item(1)]


def test_several_queries_of_several_kinds_at_once(plain):
    table, x, _ = plain
    found = table.search(id=[item(5), item(9), item(5)], vectors=x[1:3], k=2)
    assert found["query"].to_list() == [q for q in (item(5), item(9), "0", "1") for _ in range(2)]
    for query, row, own in ((item(5), 5, {5}), (item(9), 9, {9}), ("0", 1, ()), ("1", 2, ())):
        part = found.filter(pl.col("query") == query)
        assert part["item_id"].to_list() == [item(r) for r in expected(x, x[row], 2, without=own)]


def test_a_text_goes_through_the_models_own_way(world):
    notes = world.table("notes")
    found = notes.search(text="a pet dozes by the window", k=12)
    assert found["item_id"][0] == "s02"
    assert sorted(found["item_id"]) == sorted(f"s{at:02d}" for at in range(12))
    same = notes.search(text="The central bank raised interest rates by half a point.", k=1)
    assert same["score"][0] == pytest.approx(1, abs=1e-5)
    assert same["topic"].to_list() == ["money"]


def test_the_prompt_for_queries_is_used(tmp_path):
    tokenizer(tmp_path)
    model = save(tmp_path, text_model(), text_card(text={"max_length": 24, "prompt_query": "find: "}))
    rows = {"plain": "onions", "asked": "find: onions"}
    store = featstore.open(tmp_path / "store")
    table = store.extract(write_texts(tmp_path / "t.jsonl", rows), model=str(model), id_column="id")
    found = table.search(text="onions", k=2)
    assert found["item_id"].to_list() == ["asked", "plain"]
    assert found["score"][0] == pytest.approx(1, abs=1e-5)
    assert found["score"][1] < 0.99


def test_a_picture_is_a_path_or_bytes(world, photos):
    table = world.table("photos")
    path = photos / "flower" / "flower4.jpg"
    found = table.search(image=[path, path.read_bytes(), str(path)], k=1)
    assert found["item_id"].to_list() == ["flower/flower4.jpg"] * 3
    assert found["query"].to_list() == [str(path), "image 1", str(path)]
    np.testing.assert_allclose(found["score"].to_numpy(), 1, atol=1e-5)


def test_what_leads_nowhere_is_said(world, photos):
    with pytest.raises(UsageError, match=r"'notes' holds texts .* a picture was asked"):
        world.table("notes").search(image=photos / "flower" / "flower4.jpg")
    with pytest.raises(UsageError, match="nothing leads from a text") as caught:
        world.table("photos").search(text="a flower")
    assert "featstore bridge" in str(caught.value.hint)


@pytest.mark.parametrize(
    ("asked", "error", "message"),
    [
        ({}, UsageError, "nothing was asked"),
        ({"vectors": np.zeros((0, 16))}, UsageError, "nothing was asked"),
        ({"id": "nobody"}, NotFoundError, "'nobody' is not in photos"),
        ({"id": ["folder/item 000001.jpg", "x", "y"]}, NotFoundError, r"'x' is not in photos \(2 such ids"),
        ({"id": 5}, UsageError, "an id is a int"),
        ({"text": 5}, UsageError, "a text is a int"),
        ({"image": 5}, UsageError, "an image is a int"),
        ({"vectors": np.zeros(15)}, UsageError, "all zeros"),
        ({"vectors": np.ones(15)}, SpaceMismatchError, "'0' has 15 values.*have 16"),
        ({"vectors": np.full((2, 16), np.nan)}, UsageError, r"the query '0' \(and 1 more\) holds NaN"),
        ({"vectors": np.array([[1.0] * 16, [1.0] * 15 + [np.inf]])}, UsageError, "the query '1' holds NaN or infinity"),
        ({"vectors": np.full(16, 1e300)}, UsageError, "NaN or infinity"),
        ({"vectors": np.ones((2, 2, 16))}, UsageError, r"\(2, 2, 16\)"),
        ({"vectors": ["a"] * 16}, UsageError, "give numbers"),
        ({"vectors": [[1.0], [1.0, 2.0]]}, UsageError, "no matrix"),
        ({"k": 0}, UsageError, "k is 0"),
        ({"min_score": 1.5}, UsageError, "least score is 1.5"),
        ({"min_score": float("nan")}, UsageError, "least score is nan"),
        ({"where": "lable = 'cat'"}, NotFoundError, "Did you mean 'label'"),
        ({"where": "label ="}, UsageError, "no SQL expression"),
        ({"where": "embedding = 1"}, UsageError, "reads the vectors"),
        ({"group_by": "labl"}, NotFoundError, "Did you mean 'label'"),
        ({"group_by": "embedding"}, NotFoundError, "no column 'embedding'"),
        ({"not_id": "nobody"}, NotFoundError, "--not-id: 'nobody'"),
        ({"vectors": "nowhere.npy"}, NotFoundError, "no file nowhere.npy"),
        ({"queries": "nowhere.txt"}, NotFoundError, "no model"),
    ],
)
def test_what_cannot_be_asked_is_named(plain, asked, error, message):
    table, x, _ = plain
    if asked and not {"id", "text", "image", "vectors", "queries"} & set(asked):
        asked = {"vectors": x[0], **asked}
    with pytest.raises(error, match=message):
        table.search(**asked)


def test_an_empty_table_is_named(tmp_path):
    layout, features, x = filled(tmp_path, rows=10, parts=1)
    table = FeatureTable.staging(layout, NAME, SPACE, 16)
    kept = table.rewrite_part("run2", 0, features.files[0], np.arange(9))
    assert kept is not None
    table.commit(run_id="run2", add=[kept], remove=[features.files[0]])
    one = Table(layout, FeatureTable.open(layout, NAME, SPACE))
    assert one.search(vectors=x[0], k=5).height == 1
    table = FeatureTable.open(layout, NAME, SPACE)
    table.commit(run_id="run3", add=[], remove=list(table.files))
    with pytest.raises(NotFoundError, match="holds no items at version 2"):
        Table(layout, FeatureTable.open(layout, NAME, SPACE)).search(vectors=x[0])


# ── which hits ──────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("where", [None, "price >= 0", "price < 6", "label = 'owl' AND price > 100", "price = 17"])
def test_where_at_every_selectivity(plain, where):
    table, x, _ = plain
    price = np.arange(ROWS)
    allowed = {
        None: None,
        "price >= 0": price >= 0,
        "price < 6": price < 6,
        "label = 'owl' AND price > 100": (price % 3 == 2) & (price > 100),
        "price = 17": price == 17,
    }[where]
    for fresh_table in (table, Table(table._layout, FeatureTable.open(table._layout, NAME, SPACE))):
        found = fresh_table.search(vectors=x[20], k=8, where=where)
        assert found["price"].to_list() == expected(x, x[20], 8, allowed=allowed)


def test_where_that_nothing_fulfils_gives_a_frame_without_rows(plain):
    table, x, _ = plain
    found = table.search(vectors=x[:2], where="price < 0")
    assert found.height == 0
    assert found.columns == table.search(vectors=x[0], k=1).columns
    assert found.schema == table.search(vectors=x[0], k=1).schema


def test_k_beyond_the_table_gives_all_of_it(plain):
    table, x, _ = plain
    assert table.search(vectors=x[0], k=10 * ROWS).height == ROWS
    assert table.search(id=item(0), k=10 * ROWS).height == ROWS - 1
    assert table.search(vectors=x[0], k=10, where="price < 3").height == 3


def test_not_id_and_min_score(plain):
    table, x, _ = plain
    first = [item(row) for row in expected(x, x[0], 3)]
    found = table.search(vectors=x[0], k=4, not_id=first)
    assert found["price"].to_list() == expected(x, x[0], 7)[3:]
    assert table.search(vectors=x[0], k=1, not_id=first[0])["item_id"].to_list() == [first[1]]
    many = [item(row) for row in expected(x, x[0], 300)]
    assert table.search(vectors=x[0], k=2, not_id=many)["price"].to_list() == expected(x, x[0], 302)[300:]
    found = table.search(vectors=x[:5], k=ROWS, min_score=0.5)
    scores = unit(x[:5]) @ unit(x).T
    assert found.height == (scores >= 0.5).sum()
    assert found["score"].min() >= 0.5


@settings(max_examples=30, deadline=None)
@given(st.integers(0, ROWS - 1), st.integers(1, 60), st.booleans())
def test_of_each_group_the_best(plain, row, k, by_id):
    table, x, groups = plain
    asked = {"id": item(row)} if by_id else {"vectors": x[row]}
    found = table.search(**asked, k=k, group_by="group")
    wanted, seen = [], {groups[row]} - {None} if by_id else set()
    for other in expected(x, x[row], ROWS, without={row} if by_id else ()):
        if groups[other] is None or groups[other] not in seen:
            seen.add(groups[other])
            wanted.append(other)
    assert found["price"].to_list() == wanted[:k]


def test_chunks_are_found_once_for_each_text(model_store, tmp_path):
    store = fresh(model_store, tmp_path)
    long = {
        "cats": "The cat sleeps. " * 60,
        "money": "The bank raised rates. " * 60,
        "soup": "Stir the soup slowly. " * 60,
    }
    table = store.extract(write_texts(tmp_path / "long.jsonl", long), model="minilm", id_column="id", chunk_tokens=32)
    assert len(table) > 20
    found = table.search(text="a kitten", k=10)
    assert found["parent"].to_list()[0] == "cats"
    assert sorted(found["parent"]) == ["cats", "money", "soup"]
    assert table.search(text="a kitten", k=10, group_by="item_id").height == 10
    assert set(table.search(id="cats#0", k=10)["parent"]) == {"money", "soup"}
    assert table.neighbours("cats#0", k=10)["item_id"].to_list() == table.search(id="cats#0")["item_id"].to_list()


def test_columns_called_like_those_of_the_result_are_kept_apart(tmp_path):
    layout, features, x = filled(
        tmp_path, rows=6, parts=1, query=list("abcdef"), rank=list(range(6)), score=[0.5] * 6, score_=["s"] * 6
    )
    found = Table(layout, features).search(vectors=x[2], k=1)
    assert found.select("query", "rank", "query_", "rank_", "score__", "score_").row(0) == ("0", 1, "c", 2, 0.5, "s")
    assert found["score"][0] == pytest.approx(1)


def test_neighbours_are_a_search_by_id(plain):
    table, _, _ = plain
    assert table.neighbours(item(4), k=3).equals(table.search(id=item(4), k=3, exact=True).drop("query", "rank"))


def test_more_is_asked_for_until_enough_are_left():
    """An index that gives few at a time, or fewer than it was asked for, still leads to the right hits."""
    order = np.arange(100)

    def lookup(open_, wanted):
        rows = np.tile(order[:wanted], (len(open_), 1))
        return rows, np.tile((1 - order[:wanted] / 100).astype(np.float32), (len(open_), 1))

    groups = [min(row // 30, 2) for row in range(100)]
    own = np.array([-1, 0])
    found = pick(lookup, own, 3, most=100, groups=lambda rows: [groups[row] for row in rows])
    assert [hits.tolist() for hits, _ in found] == [[0, 30, 60], [30, 60]]

    def short(open_, wanted):
        rows, scores = lookup(open_, wanted)
        return np.where(rows < 5, rows, -1), scores

    found = pick(short, own[:1], 10, most=100)
    assert found[0][0].tolist() == [0, 1, 2, 3, 4]


# ── files of queries and vectors ────────────────────────────────────────────────────────────────


def test_vectors_from_files(plain, tmp_path):
    table, x, _ = plain
    np.save(tmp_path / "q.npy", x[4:6].astype(np.float64))
    assert table.search(vectors=tmp_path / "q.npy", k=1)["price"].to_list() == [4, 5]
    pq.write_table(
        pa.table({"item_id": ["a", "b"], "v": pa.array(x[4:6].tolist(), pa.list_(pa.float64()))}), tmp_path / "q.pq"
    )
    found = table.search(vectors=str(tmp_path / "q.pq"), k=1)
    assert found.select("query", "price").rows() == [("a", 4), ("b", 5)]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "neither a .npy nor a Parquet"),
        (b"hello", "neither"),
        (b"PAR1 hello", "cannot be read"),
        (b"\x93NUMPY\x01\x00", "cannot be read"),
        ("objects", "cannot be read"),
        ("none", "holds no vector"),
        ({"a": ["x"]}, "one column of lists of numbers, and has none; it has a"),
        ({"a": [[1.0]], "b": [[1.0]]}, "several: a, b"),
        ({"v": [[1.0, 2.0], [1.0]]}, "different lengths, from 1 to 2"),
        ({"v": pa.array([None, [1.0]], pa.list_(pa.float32()))}, "1 of 2 vectors are null"),
        ({"v": pa.array([], pa.list_(pa.float32()))}, "holds no vector"),
        ({"v": [[float("nan")] * 16]}, "the query '0' holds NaN"),
    ],
)
def test_files_that_hold_no_vectors_are_named(plain, tmp_path, content, message):
    table, _, _ = plain
    file = tmp_path / "q.bin"
    if isinstance(content, dict):
        pq.write_table(pa.table(content), file)
    elif content == "none":
        with file.open("wb") as stream:
            np.save(stream, np.zeros((0, 16), np.float32))
    elif content == "objects":
        np.save(tmp_path / "o.npy", np.array([{}], object), allow_pickle=True)
        (tmp_path / "o.npy").rename(file)
    else:
        file.write_bytes(content)
    with pytest.raises(UsageError, match=message) as caught:
        table.search(vectors=file)
    assert str(file) in caught.value.message


def test_vectors_of_another_space_are_refused_and_both_are_named(world, tmp_path):
    notes, photos = world.table("notes"), world.table("photos")
    notes.export(tmp_path / "notes.parquet")
    found = notes.search(vectors=tmp_path / "notes.parquet", k=1)
    assert found["query"].to_list() == found["item_id"].to_list()
    with pytest.raises(SpaceMismatchError) as caught:
        photos.search(vectors=tmp_path / "notes.parquet")
    assert notes.space_id in caught.value.message
    assert photos.space_id in caught.value.message
    # Equal lengths are no excuse.
    table = pq.read_table(tmp_path / "notes.parquet")
    origin = json.loads(table.schema.metadata[b"featstore"]) | {"space_id": "other-00000000", "digest": "0" * 64}
    pq.write_table(table.replace_schema_metadata({"featstore": json.dumps(origin)}), tmp_path / "other.parquet")
    with pytest.raises(SpaceMismatchError, match="other-00000000"):
        notes.search(vectors=tmp_path / "other.parquet")
    del origin["space_id"]
    pq.write_table(table.replace_schema_metadata({"featstore": json.dumps(origin)}), tmp_path / "other.parquet")
    with pytest.raises(SpaceMismatchError, match="digest 0000"):
        notes.search(vectors=tmp_path / "other.parquet")
    # The same function under another name is the same space.
    origin |= {"space_id": "renamed-1", "digest": notes.card.digest}
    pq.write_table(table.replace_schema_metadata({"featstore": json.dumps(origin)}), tmp_path / "same.parquet")
    assert notes.search(vectors=tmp_path / "same.parquet", k=1).height == 12


def test_queries_from_lines_json_lines_and_folders(world, photos, tmp_path):
    notes = world.table("notes")
    (tmp_path / "q.txt").write_bytes("\ufeffa kitten\r\n\n  interest rates \u2028 up\n".encode())
    found = notes.search(queries=tmp_path / "q.txt", k=1)
    assert found.select("query", "topic").rows() == [("a kitten", "cats"), ("interest rates \u2028 up", "money")]
    lines = [
        {"_id": "q1", "text": "a kitten", "metadata": {}},
        {"_id": 7, "text": "soup"},
        {"text": "program", "title": ""},
    ]
    (tmp_path / "q.jsonl").write_text("\n".join(map(json.dumps, lines)))
    found = notes.search(queries=tmp_path / "q.jsonl", k=1)
    assert found.select("query", "topic").rows() == [("q1", "cats"), ("7", "food"), ("3", "code")]
    (tmp_path / "texts" / "deep").mkdir(parents=True)
    (tmp_path / "texts" / "b.txt").write_text("a kitten")
    (tmp_path / "texts" / "deep" / "a.md").write_text("soup")
    (tmp_path / "texts" / "c.jpg").write_bytes(b"")
    found = notes.search(queries=tmp_path / "texts", k=1)
    assert found.select("query", "topic").rows() == [("b.txt", "cats"), ("deep/a.md", "food")]
    found = world.table("photos").search(queries=photos, k=1)
    assert found["query"].to_list() == found["item_id"].to_list()
    assert found.height == 12
    lines = [{"_id": "p", "image": "flower/flower1.jpg"}]
    folder = tmp_path / "with pictures"
    shutil.copytree(photos, folder)
    (folder / "q.jsonl").write_text("\n".join(map(json.dumps, lines)))
    found = world.table("photos").search(queries=folder / "q.jsonl", k=1)
    assert found.select("query", "item_id").rows() == [("p", "flower/flower1.jpg")]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "holds no query"),
        (b"\n  \n", "holds no query"),
        (b"caf\xe9\n", r"not UTF-8: byte 0xe9 at offset 3"),
        (b'{"_id": "a", "text": "x"}\nnext\n', "line 2 is no JSON"),
        (b'{"_id": "a", "text": "x"}\n[1]\n', "line 2 is no JSON object"),
        (b'{"_id": "a"}\n', "line 1 has neither a text nor an image"),
        (b'{"_id": "a", "text": "x", "image": "y"}\n', "line 1 has both"),
        (b'{"_id": ["a"], "text": "x"}\n', r"the _id is \['a'\]"),
        (b'{"_id": "a", "text": "x"}\n{"_id": "a", "text": "y"}\n', "the query 'a' stands there 2 times"),
    ],
)
def test_files_that_hold_no_queries_are_named(world, tmp_path, content, message):
    (tmp_path / "q").write_bytes(content)
    with pytest.raises(UsageError, match=message) as caught:
        world.table("notes").search(queries=tmp_path / "q")
    assert str(tmp_path / "q") in caught.value.message


def test_a_folder_without_what_the_table_holds(world, tmp_path):
    (tmp_path / "a.txt").write_text("x")
    with pytest.raises(UsageError, match="holds no image to search with"):
        world.table("photos").search(queries=tmp_path)


def test_one_broken_query_does_not_spoil_the_others(world, photos, tmp_path):
    table = world.table("photos")
    shutil.copytree(photos / "flower", tmp_path / "q")
    (tmp_path / "q" / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 no picture")
    (tmp_path / "q" / "empty.png").write_bytes(b"")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = table.search(queries=tmp_path / "q", k=1)
    assert found.height == 6
    told = sorted(str(w.message) for w in caught)
    assert told[0].startswith("broken.jpg: the picture")
    assert told[1] == "empty.png: the file is empty."
    with pytest.raises(UsageError, match=r"broken.jpg: .*incomplete"):
        table.search(image=tmp_path / "q" / "broken.jpg")
    with pytest.raises(UsageError, match="None of the 2 queries can be used"):
        table.search(image=[tmp_path / "q" / "broken.jpg", tmp_path / "nowhere.jpg"])
    with pytest.raises(UsageError, match=r"nowhere.jpg: there is no such file"):
        table.search(image=tmp_path / "nowhere.jpg")
    with pytest.raises(UsageError, match="the text is empty or blank"):
        world.table("notes").search(text=" ")
    asked = table.searcher().gather(queries=tmp_path / "q")
    answer = table.searcher().answer(asked, k=1)
    assert [(query.name, type(error)) for query, error in answer.refused] == [
        ("broken.jpg", ItemError), ("empty.png", ItemError)
    ]  # fmt: skip


# ── a searcher ──────────────────────────────────────────────────────────────────────────────────


def test_a_version_is_searched_as_it_was(tmp_path):
    layout, features, x = filled(tmp_path, rows=30, parts=1)
    add_run(layout, "run2", 10, start=30)
    new = Table(layout, FeatureTable.open(layout, NAME, SPACE))
    late = some_vectors(10, 16, 1)[3]
    assert new.search(vectors=late, k=1)["item_id"].to_list() == [item(33)]
    old = Table(layout, features)
    assert item(33) not in old.search(vectors=late, k=40)["item_id"].to_list()
    assert old.search(vectors=x[0], k=40).height == 30


def test_threads_share_a_searcher(plain):
    table, x, _ = plain
    searcher = Table(table._layout, table.features).searcher()
    found: dict[int, list[int]] = {}

    def ask(row: int) -> None:
        found[row] = searcher.search(vectors=x[row], k=3, where="price >= 0")["price"].to_list()

    threads = [threading.Thread(target=ask, args=(row,)) for row in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {row: expected(x, x[row], 3) for row in range(16)}


def test_a_damaged_table_gives_no_hits(tmp_path):
    layout, features, x = filled(tmp_path, rows=60)
    file = features.path / features.files[1]
    data = bytearray(file.read_bytes())
    data[data.find(x[25].tobytes()) + 2] ^= 1
    file.write_bytes(data)
    table = Table(layout, FeatureTable.open(layout, NAME, SPACE))
    with pytest.raises(IntegrityError, match="checksum"):
        table.search(vectors=x[0])


def test_the_columns_of_few_hits_are_read_for_them_alone(tmp_path, monkeypatch):
    """The first answers read row groups; a table of few bytes is then kept whole, a large one never."""
    from featstore.search import columns

    layout, features, x = filled(tmp_path, rows=40)
    reads: list[str] = []
    monkeypatch.setattr(
        FeatureTable, "rows_at", lambda self, *a, _old=FeatureTable.rows_at: reads.append("few") or _old(self, *a)
    )
    monkeypatch.setattr(
        FeatureTable, "rows", lambda self, *a, _old=FeatureTable.rows: reads.append("all") or _old(self, *a)
    )
    table = Table(layout, features)
    answers = [table.search(vectors=x[1], k=2) for _ in range(5)]
    assert reads == ["few", "few", "all"]
    assert all(answer.equals(answers[0]) for answer in answers)
    monkeypatch.setattr(columns, "_KEPT_BYTES", 10)
    reads.clear()
    table = Table(layout, features)
    assert [table.search(vectors=x[1], k=2).equals(answers[0]) for _ in range(4)] == [True] * 4
    assert reads == ["few"] * 4


def test_searching_imports_no_torch(world):
    program = (
        "import sys, featstore\n"
        f"store = featstore.open({str(world.path)!r})\n"
        "print(store.table('notes').search(text='a kitten', k=1)['item_id'][0])\n"
        "print(store.table('photos').search(id='flower/flower1.jpg', k=1).height)\n"
        "print([m for m in ('torch', 'transformers', 'timm', 'sklearn') if m in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", program], env=environment(), capture_output=True, text=True)
    assert done.stdout.split() == ["s01", "1", "[]"], done.stderr


def test_asking_for_an_item_opens_no_model(world, tmp_path):
    """Only texts and pictures need it: what a table holds is found although its model is gone."""
    copy = tmp_path / "store"
    shutil.copytree(world.path, copy)
    for folder in (copy / "models").iterdir():
        if folder.name.startswith("minilm"):
            shutil.rmtree(folder)
    notes = featstore.open(copy).table("notes")
    assert notes.search(id="s00", k=2).height == 2
    with pytest.raises(NotFoundError, match="no model"):
        notes.search(text="a kitten")


def test_rows_of_raw_rows_are_numbered_as_the_matrix(plain):
    table, x, _ = plain
    assert raw_rows(3)["item_id"].to_pylist() == [item(0), item(1), item(2)]
    ids, matrix = table.matrix()
    rows = table.features.find([item(3), item(599)])
    assert ids[rows].tolist() == [item(3), item(599)]
    assert matrix[rows].tobytes() == x[[3, 599]].tobytes()


# ── through an index ────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def indexed(tmp_path):
    """A table of clustered vectors with an index of inverted lists, of which only some are looked into."""
    generator = np.random.default_rng(3)
    centres = generator.standard_normal((30, 32), np.float32)
    x = centres[np.arange(3000) % 30] + 0.35 * generator.standard_normal((3000, 32), np.float32)
    layout = layout_at(tmp_path)
    table = FeatureTable.staging(layout, NAME, SPACE, 32)
    rows = raw_rows(3000, price=list(range(3000)), group=[f"g{n % 500}" for n in range(3000)])
    table.commit(run_id="run1", add=[table.write_part("run1", 0, table.align(rows), x)])
    features = FeatureTable.open(layout, NAME, SPACE)
    card = index.build(layout, features, IndexSettings(kind="ivf", recall=0.9))
    assert card.kind == "ivf"
    return layout, features, x


def test_an_index_gives_what_exact_search_gives(indexed):
    layout, features, x = indexed
    table = Table(layout, features)
    searcher = table.searcher()
    for asked in (
        {},
        {"where": "price >= 0"},
        {"where": "price % 50 = 7"},
        {"where": "price = 12"},
        {"group_by": "group"},
        {"not_id": [item(row) for row in range(5)]},
        {"not_id": [item(row) for row in range(500)]},
        {"min_score": 0.9},
    ):
        for queries in ({"vectors": x[:20]}, {"id": [item(row) for row in range(600, 620)]}):
            by_index = table.search(**queries, k=10, **asked)
            exact = table.search(**queries, k=10, exact=True, **asked)
            assert by_index.columns == exact.columns
            pairs = [set(frame.select("query", "item_id").rows()) for frame in (by_index, exact)]
            assert len(pairs[0] & pairs[1]) >= 0.85 * len(pairs[1]), asked
            both = by_index.join(exact, on=["query", "item_id"], suffix="_exact")
            np.testing.assert_allclose(both["score"], both["score_exact"], atol=2e-6)
            if "where" in asked and "price >=" not in asked["where"]:
                assert by_index.equals(exact), "few rows are compared with exactly"
    answer = searcher.answer(searcher.gather(vectors=x[:2]), k=3)
    assert (answer.how, answer.notes) == ("ivf", ())
    assert searcher.answer(searcher.gather(vectors=x[:2]), exact=True).how == "exact"


def test_through_an_index_the_matrix_is_never_loaded(indexed, monkeypatch):
    layout, features, x = indexed

    def refuse(self, *arguments, **more):
        raise AssertionError("the whole matrix was read")

    monkeypatch.setattr(FeatureTable, "matrix", refuse)
    found = Table(layout, features).search(vectors=x[:3], id=item(9), k=4, where="price >= 0")
    assert found.height == 16


def test_a_damaged_index_is_not_used_and_said(indexed):
    layout, features, x = indexed
    (file,) = layout.storage.root.glob("indexes/*/*/*/index.faiss")
    damage(file, "flip", bit=8 * 5000)
    os.utime(file)
    table = Table(layout, FeatureTable.open(layout, NAME, SPACE))
    with pytest.warns(UserWarning, match=r"the search was exact.*featstore index photos"):
        found = table.search(vectors=x[:5], k=5)
    assert found.equals(table.search(vectors=x[:5], k=5, exact=True))
    table.search(vectors=x[:5], k=5)  # said once
    file.unlink()
    with pytest.warns(UserWarning, match="the search was exact"):
        assert Table(layout, features).search(vectors=x[:5], k=5).equals(found)


def test_an_index_of_an_earlier_version_still_gives_right_hits(indexed):
    layout, features, x = indexed
    table = FeatureTable.open(layout, NAME, SPACE)
    more = some_vectors(400, 32, 9)
    part = table.write_part("run2", 0, table.align(raw_rows(400, start=3000, run="run2", price=[0] * 400)), more)
    kept = table.rewrite_part("run2", 1, table.files[0], np.arange(100))
    table.commit(run_id="run2", add=[part, kept], remove=[table.files[0]])
    new = Table(layout, FeatureTable.open(layout, NAME, SPACE))
    with pytest.warns(UserWarning, match="400 of 3,300 items are not in it and 100 in it are gone"):
        found = new.search(vectors=np.concatenate([more[:5], x[:5]]), k=3)
    first = found.filter(pl.col("rank") == 1)["item_id"].to_list()
    assert first[:5] == [item(row) for row in range(3000, 3005)]
    assert not {item(row) for row in range(100)} & set(found["item_id"])
    assert Table(layout, features).search(vectors=x[:5], k=1)["price"].to_list() == [0, 1, 2, 3, 4]
