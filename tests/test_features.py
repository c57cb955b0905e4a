"""Features by id and time: what a brute-force reading of every snapshot says, and never anything later."""

from __future__ import annotations

import contextlib
import datetime as dt
import json
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from cli_world import inside, schema
from history_kit import DIM, NAME, SPACE, START, World, at, vector
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from stores import fresh

import featstore
from featstore import published
from featstore.errors import IntegrityError, NotFoundError, UsageError
from featstore.features import get_features
from featstore.records import PublishedState

ITEMS = ("a", "b/ü", "c")
SNAPSHOTS = st.dictionaries(
    st.sampled_from(ITEMS), st.tuples(st.integers(0, 3), st.one_of(st.none(), st.integers(0, 60))), max_size=3
)
RUNS = st.lists(st.tuples(SNAPSHOTS, st.integers(0, 12), st.booleans()), min_size=1, max_size=7)


def _world(folder: Path, runs: list[tuple[dict[str, tuple[int, int | None]], int, bool]], history_from: int) -> World:
    world = World(folder, history_from=history_from)
    now = 1.0
    for snapshot, pause, crash in [({"a": (9, None)}, 0, False), *runs]:
        now += pause
        world.sync(snapshot, now, crash=crash and bool(world.runs))
        now += 1
    return world


def _questions(world: World) -> pl.DataFrame:
    """Every item and one that never was, at, before and after everything that happened."""
    moments = {0.0, 200.0}
    for created, snapshot in world.runs:
        for happened in (created, *(event for _, event in snapshot.values() if event is not None)):
            moments |= {happened - 1e-6, float(happened), happened + 0.5}
    rows = [(item, moment) for item in (*ITEMS, "nobody") for moment in sorted(moments)]
    return pl.DataFrame(
        {"item_id": [i for i, _ in rows], "seconds": [s for _, s in rows], "when": [at(s) for _, s in rows]}
    )


@pytest.mark.heavy
@settings(max_examples=40, deadline=None)
@given(runs=RUNS)
def test_every_answer_is_what_the_snapshots_say(runs) -> None:
    with tempfile.TemporaryDirectory() as folder:
        world = _world(Path(folder) / "store", runs, 0)
        questions = _questions(world)
        found = get_features(world.layout, questions, [NAME, f"{NAME}[score]"], timestamp_column="when")
        assert found.columns == [*questions.columns, NAME, f"{NAME}[score]", f"{NAME}__missing"]
        for item, seconds, _, got, score, why in found.iter_rows():
            truth = world.truth(item, seconds)
            assert score == truth, (item, seconds, why)
            assert (got is None) == (truth is None) == (why is not None)
            if truth is not None:
                assert np.array_equal(got, vector(truth))
            if why == "unknown id":
                assert not any(item in snapshot for _, snapshot in world.runs)
            if why == "removed before that time":
                assert any(item in snapshot for created, snapshot in world.runs if created <= seconds)
            assert why is None or not why.startswith("history")


@pytest.mark.heavy
@settings(max_examples=30, deadline=None)
@given(runs=RUNS, history_from=st.integers(1, 5))
def test_without_all_of_the_past_an_answer_is_right_or_missing(runs, history_from: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        world = _world(Path(folder) / "store", runs, history_from)
        found = get_features(world.layout, _questions(world), [NAME, f"{NAME}[score]"], timestamp_column="when")
        kept = world.runs[max(0, min(history_from, len(world.runs)) - 1) :]
        for item, seconds, _, _, score, why in found.iter_rows():
            truth = world.truth(item, seconds)
            if score is not None:
                assert score == truth
            elif why == "unknown id":
                assert not any(item in snapshot for _, snapshot in kept)
            elif not why.startswith("history is not kept"):
                assert truth is None, (item, seconds, why)


@pytest.mark.heavy
@settings(max_examples=15, deadline=None)
@given(runs=RUNS, version=st.integers(0, 6))
def test_a_version_answers_as_it_did_when_it_was_the_newest(runs, version: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        world = _world(Path(folder) / "store", runs, 0)
        version = min(version, world.table().version or 0)
        past = World(world.folder, runs=world.runs[: version + 1])
        questions = _questions(world)
        address = f"{NAME}:{version}"
        found = get_features(world.layout, questions, [f"{address}[score]"], timestamp_column="when")
        truths = [past.truth(item, seconds) for item, seconds in questions.select("item_id", "seconds").iter_rows()]
        assert found[f"{address}[score]"].to_list() == truths


def test_now_is_what_the_table_holds(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.sync({"a": (1, 500), "b/ü": (2, None), "c": (3, None)}, 1)
    world.sync({"a": (1, 500), "b/ü": (4, 2)}, 10)
    frame = pl.DataFrame({"item_id": ["a", "b/ü", "c", "nobody", None]})
    found = get_features(world.layout, frame, [f"{NAME}[score]", NAME])
    assert found[f"{NAME}[score]"].to_list() == [1, 4, None, None, None]
    assert found[f"{NAME}__missing"].to_list() == [None, None, "removed", "unknown id", "no id given"]
    assert np.array_equal(found[NAME].head(2).to_numpy(), np.stack([vector(1), vector(4)]))


def test_a_clock_that_was_moved_back_brings_nothing_old_back(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.sync({"a": (1, None)}, 100)
    world.sync({"a": (2, None)}, 50)
    frame = pl.DataFrame({"item_id": ["a"] * 3, "t": [at(40), at(60), at(200)]})
    found = get_features(world.layout, frame, [f"{NAME}[score]"], timestamp_column="t")
    assert found[f"{NAME}[score]"].to_list() == [None, 2, 2]


def test_each_reason(tmp_path: Path) -> None:
    world = World(tmp_path, history_from=1)
    world.sync({"a": (1, None), "b/ü": (2, None)}, 10)
    world.sync({"a": (3, None), "c": (5, None)}, 20)
    world.sync({"a": (3, None), "c": (5, None), "d": (6, 50)}, 30)
    asked = [("a", 5), ("a", 15), ("c", 15), ("d", 25), ("d", 40), ("b/ü", 15), ("b/ü", 25), ("x", 15), (None, 15)]
    frame = pl.DataFrame({"item_id": [*(i for i, _ in asked), "a"], "t": [*(at(s) for _, s in asked), None]})
    found = get_features(world.layout, frame, [NAME, f"{NAME}[score]"], timestamp_column="t")
    assert found[f"{NAME}__missing"].to_list() == [
        "not yet created at that time",
        None,
        "history is not kept before 2026-01-01T00:00:20.000+00:00",
        "not yet created at that time",
        "not yet created at that time",
        None,
        "removed before that time",
        "unknown id",
        "no id given",
        "no time given",
    ]
    assert found[f"{NAME}[score]"].to_list() == [None, 1, None, None, None, 2, None, None, None, None]


def test_without_history_a_vector_that_is_too_new_says_so(tmp_path: Path) -> None:
    world = World(tmp_path, history_from=99)
    world.sync({"a": (1, None), "b/ü": (2, None)}, 10)
    world.sync({"a": (3, None), "b/ü": (2, None)}, 20)
    frame = pl.DataFrame({"item_id": ["a", "a", "b/ü"], "t": [at(15), at(20), at(5)]})
    found = get_features(world.layout, frame, [f"{NAME}[score]"], timestamp_column="t")
    assert found[f"{NAME}[score]"].to_list() == [None, 3, None]
    assert found[f"{NAME}__missing"].to_list() == ["history is not kept", None, "not yet created at that time"]


def _two(folder: Path) -> World:
    world = World(folder)
    world.sync({"a": (1, None), "b/ü": (2, None)}, 10)
    world.sync({"a": (3, None), "b/ü": (2, None)}, 20)
    other = World(folder, name="other.v2", space="clip.v1-ffff0000")
    other.sync({"a": (7, None)}, 15)
    return world


KINDS = {
    "polars": lambda frame: frame,
    "pandas": lambda frame: frame.to_pandas(),
    "arrow": lambda frame: frame.to_arrow(),
}


@pytest.mark.parametrize("kind", KINDS)
def test_several_tables_stand_side_by_side_in_any_kind_of_frame(tmp_path: Path, kind: str) -> None:
    world = _two(tmp_path)
    frame = KINDS[kind](pl.DataFrame({"note": [1, 2, 3], "id": ["b/ü", "a", "a"], "t": [at(10), at(30), at(12)]}))
    asked = ["other.v2@clip.v1", NAME, "other.v2@clip.v1[score]"]
    found = get_features(world.layout, frame, asked, timestamp_column="t", on="id")
    assert type(found) is type(frame)
    names = list(found.column_names if kind == "arrow" else found.columns)
    assert names == [
        "note", "id", "t", "other.v2@clip.v1", "other.v2@clip.v1[score]", "other.v2@clip.v1__missing", NAME,
        f"{NAME}__missing",
    ]  # fmt: skip
    assert len(frame.columns) == 3  # what was given is as it was
    values = {name: found[name].to_pylist() if kind == "arrow" else list(found[name]) for name in names}
    assert values["note"] == [1, 2, 3]
    assert [v is not None for v in values["other.v2@clip.v1"]] == [False, True, False]
    assert np.array_equal(values["other.v2@clip.v1"][1], vector(7))
    assert [np.array_equal(got, vector(c)) for got, c in zip(values[NAME], (2, 3, 1), strict=True)] == [True] * 3


def test_a_pandas_frame_keeps_its_index_and_types(tmp_path: Path) -> None:
    world = _two(tmp_path)
    frame = pd.DataFrame(
        {"item_id": pd.Categorical(["a", None, "b/ü"]), "t": pd.to_datetime([at(10), at(10), None], utc=True)},
        index=[7, 7, 3],
    )
    found = get_features(world.layout, frame, [NAME, f"{NAME}[created_ts]"], timestamp_column="t")
    assert list(found.index) == [7, 7, 3]
    assert found[f"{NAME}[created_ts]"].iloc[0] == at(10)
    assert found[f"{NAME}__missing"].tolist()[1:] == ["no id given", "no time given"]


@pytest.mark.parametrize(
    "column",
    [
        pl.Series([START.replace(tzinfo=None) + dt.timedelta(seconds=s) for s in (9, 10)]),
        pl.Series([at(9), at(10)]).dt.convert_time_zone("Asia/Tokyo"),
        pl.Series([at(9), at(10)]).dt.cast_time_unit("ns"),
        pl.Series(["2026-01-01T00:00:09", "2026-01-01T01:00:10+01:00"]),
        pl.Series([dt.date(2026, 1, 1), dt.date(2026, 1, 2)]),
    ],
    ids=["naive", "zone", "ns", "text", "date"],
)
def test_times_of_every_type(tmp_path: Path, column: pl.Series) -> None:
    frame = pl.DataFrame({"item_id": ["a", "a"], "t": column})
    found = get_features(_two(tmp_path).layout, frame, [f"{NAME}[score]"], timestamp_column="t")
    assert found[f"{NAME}[score]"].to_list() == [None, 1 if column.dtype != pl.Date else 3]


def test_no_rows_make_no_rows(tmp_path: Path) -> None:
    world = _two(tmp_path)
    typed = pa.table({"item_id": pa.array([], pa.string()), "t": pa.array([], pa.timestamp("s"))})
    for frame in (pl.DataFrame({"item_id": [], "t": []}), typed):
        found = get_features(world.layout, frame, [NAME, f"{NAME}[score]"], timestamp_column="t")
        assert len(found) == 0


@pytest.mark.parametrize(
    ("features", "frame", "said"),
    [
        ([], {}, "in a list"),
        ("things", {}, "in a list"),
        (["things]"], {}, "is not a feature"),
        (["things:x"], {}, "is not a table's address"),
        (["things[scor]"], {}, "score"),
        (["things"], {"things": [1]}, "already"),
        (["things"], {"item_id": [1]}, "ids are texts"),
        (["things"], {"t": [1]}, "not a time"),
        (["things"], {"t": ["yesterday"]}, "is no time"),
    ],
)
def test_what_cannot_be_asked(tmp_path: Path, features, frame, said: str) -> None:
    world = _two(tmp_path)
    rows = pl.DataFrame({"item_id": ["a"], "t": [at(1)], **frame})
    with pytest.raises((UsageError, NotFoundError)) as caught:
        get_features(world.layout, rows, features, timestamp_column="t")
    assert said in f"{caught.value.message} {caught.value.hint}"


def test_a_frame_of_another_kind_or_without_the_column_is_refused(tmp_path: Path) -> None:
    world = _two(tmp_path)
    with pytest.raises(UsageError, match="no table to put"):
        get_features(world.layout, {"item_id": ["a"]}, [NAME])
    with pytest.raises(UsageError, match="0 columns 'item_id'"):
        get_features(world.layout, pl.DataFrame({"id": ["a"]}), [NAME])
    with pytest.raises(NotFoundError, match="no table 'photos'"):
        get_features(world.layout, pl.DataFrame({"item_id": ["a"]}), ["photos"])


def test_an_item_that_stands_twice_is_damage(tmp_path: Path) -> None:
    world = _two(tmp_path)
    table = world.table()
    rows = table.align(table.rows_at(np.array([0]), None))
    table.commit(run_id="again", add=[table.write_part("again", 0, rows, vector(1)[None])])
    with pytest.raises(IntegrityError, match="more than once"):
        get_features(world.layout, pl.DataFrame({"item_id": ["a", "b/ü"]}), [NAME])


@pytest.mark.parametrize("at_once", [1, 150, 10**6])
def test_ids_are_found_however_many_groups_are_searched_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at_once: int
) -> None:
    from featstore.tables import picking, writer

    monkeypatch.setattr(writer, "ROW_GROUP_BYTES", 100 * (4 * DIM + 200))
    monkeypatch.setattr(picking, "_IDS_AT_ONCE", at_once)
    world = World(tmp_path)
    world.sync({f"{i:05d}": (i, None) for i in range(300)}, 1)
    world.sync({f"{i:05d}": (i % 290, None) for i in range(600)}, 2)
    asked = np.random.default_rng(0).permutation(700)
    found = get_features(world.layout, pl.DataFrame({"item_id": [f"{i:05d}" for i in asked]}), [f"{NAME}[score]"])
    assert found[f"{NAME}[score]"].to_list() == [int(i % 290) if i < 600 else None for i in asked]


def test_only_row_groups_that_may_hold_an_id_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from featstore.tables import writer
    from featstore.tables.reading import Reader

    monkeypatch.setattr(writer, "ROW_GROUP_BYTES", 100 * (4 * DIM + 200))
    world = World(tmp_path)
    world.sync({f"{i:05d}": (i, None) for i in range(2000)}, 1)
    read = []
    whole = Reader.read_group

    def counting(self: Reader, file: object, names: list[str], group: int) -> pa.Table:
        read.append(group)
        return whole(self, file, names, group)  # type: ignore[arg-type]

    monkeypatch.setattr(Reader, "read_group", counting)
    found = get_features(world.layout, pl.DataFrame({"item_id": ["00700", "00701"]}), [NAME])
    assert np.array_equal(found[NAME].to_numpy(), np.stack([vector(700), vector(701)]))
    assert len(set(read)) <= 2


# ── one file of several tables ────────────────────────────────────────────────────────────────


def _read(file: Path) -> tuple[list[str], dict[str, list[int | None]]]:
    """The ids, and for each address the content that its vectors are of."""
    if file.suffix == ".parquet":
        found = pl.read_parquet(file)
        vectors = {n: found[n].to_list() for n in (NAME, "other.v2")}
        return found["item_id"].to_list(), {
            n: [None if v is None else int(v[0]) for v in x] for n, x in vectors.items()
        }
    if file.suffix == ".csv":
        frame = pd.read_csv(file)
        first = {n: frame[f"{n}_0"] for n in (NAME, "other.v2")}
        return frame["item_id"].tolist(), {n: [None if pd.isna(v) else int(v) for v in x] for n, x in first.items()}
    with np.load(file) as arrays:
        first = {n: arrays[n][:, 0] for n in (NAME, "other.v2")}
        return arrays["item_id"].tolist(), {n: [None if np.isnan(v) else int(v) for v in x] for n, x in first.items()}


@pytest.fixture
def stocked(model_store: Path, tmp_path: Path) -> featstore.Store:
    """Two tables with history in the spaces of real models, whose cards say where vectors come from."""
    store = fresh(model_store, tmp_path)
    spaces = {card.modality: card.space_id for card in store.models()}
    world = World(store.path, space=spaces["text"])
    world.sync({"a": (1, None), "b/ü": (2, None)}, 10)
    world.sync({"a": (3, None), "c": (4, None)}, 20)
    World(store.path, name="other.v2", space=spaces["image"]).sync({"a": (7, None)}, 15)
    return store


@pytest.mark.parametrize("form", ["parquet", "csv", "npz"])
def test_a_file_of_several_tables_at_a_time(stocked: featstore.Store, tmp_path: Path, form: str) -> None:
    (tmp_path / "ids.txt").write_text("b/ü\nnobody\na\nc\n", "utf-8")
    target = tmp_path / f"out.{form}"
    done = inside(
        "export", NAME, "other.v2", f"{NAME}[score]", "--ids", tmp_path / "ids.txt", "--as-of", at(16).isoformat(),
        "-o", target, "--store", stocked.path, "--json", cwd=tmp_path,
    )  # fmt: skip
    assert done.code == 0, done.err
    Draft202012Validator(schema("outputs/export-features.json")).validate(done.json)
    assert _read(target) == (["b/ü", "nobody", "a", "c"], {NAME: [2, None, 1, None], "other.v2": [None, None, 7, None]})
    told = {table["address"]: table for table in done.json["tables"]}
    assert told[NAME]["reasons"] == {"unknown id": 1, "not yet created at that time": 1}
    assert told["other.v2"]["missing"] == 3
    assert told["other.v2"]["model"] == "efficientnet_lite0"
    again = tmp_path / f"again.{form}"
    stocked.export_features([NAME, "other.v2", f"{NAME}[score]"], again, ids=["b/ü", "nobody", "a", "c"], as_of=at(16))
    assert again.read_bytes() == target.read_bytes()


def test_without_ids_the_items_of_the_first_table_are_written(stocked: featstore.Store, tmp_path: Path) -> None:
    stocked.export_features([NAME, "other.v2"], tmp_path / "now.parquet")
    assert _read(tmp_path / "now.parquet") == (["a", "c"], {NAME: [3, 4], "other.v2": [7, None]})
    stocked.export_features([NAME, "other.v2"], tmp_path / "then.parquet", as_of=at(12))
    ids, found = _read(tmp_path / "then.parquet")
    assert dict(zip(ids, found[NAME], strict=True)) == {"a": 1, "b/ü": 2}
    origin = json.loads((pq.read_schema(tmp_path / "then.parquet").metadata or {})[b"featstore"])
    assert origin["as_of"] == "2026-01-01T00:00:12Z"
    assert [table["table"] for table in origin["tables"]] == [NAME, "other.v2"]


def test_a_large_file_is_written_in_blocks(
    stocked: featstore.Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from featstore.features import writing

    stocked.export_features([NAME], tmp_path / "whole.parquet", ids=["a", "x", "c"])
    monkeypatch.setattr(writing, "_BLOCK_BYTES", 1)
    stocked.export_features([NAME], tmp_path / "blocks.parquet", ids=["a", "x", "c"])
    assert pq.read_table(tmp_path / "blocks.parquet").equals(pq.read_table(tmp_path / "whole.parquet"))


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["-o", "out.safetensors"], "cannot be written as 'safetensors'"),
        (["-o", "out.parquet", "--where", "score = 1"], "--where is for one table"),
        (["-o", "out.parquet", "--as-of", "never"], "is no time"),
        (["-o", "featstore-data/out.parquet", "--store", "featstore-data"], "within the store"),
    ],
)
def test_what_cannot_be_exported(stocked: featstore.Store, tmp_path: Path, more: list[str], said: str) -> None:
    with contextlib.suppress(FileExistsError):
        (tmp_path / "featstore-data").symlink_to(stocked.path)
    done = inside("export", NAME, "other.v2", *more, cwd=tmp_path)
    assert done.code == 2
    assert said in done.err
    assert not (tmp_path / "out.parquet").exists()


def test_a_bare_name_means_what_is_published(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.sync({"a": (1, None), "b/ü": (2, None)}, 10)
    world.sync({"a": (3, None)}, 20)
    state = PublishedState(
        space_id=SPACE, table_version=0, index_version=None, heads={}, run_id="run001", published_ts=at(10).isoformat()
    )
    published.swap(world.layout, NAME, state, expected=None)
    frame = pl.DataFrame({"item_id": ["a", "b/ü"], "t": [at(30)] * 2})
    for asked in ({"timestamp_column": "t"}, {}):
        found = get_features(world.layout, frame, [f"{NAME}[score]", f"{NAME}:1[score]"], **asked)
        assert found[f"{NAME}[score]"].to_list() == [1, 2]
        assert found[f"{NAME}:1[score]"].to_list() == [3, None]


def test_the_space_is_part_of_the_address(tmp_path: Path) -> None:
    world = _two(tmp_path)
    found = get_features(world.layout, pl.DataFrame({"item_id": ["a"]}), [f"{NAME}@{SPACE}:0[score]", f"{NAME}@tiny"])
    assert found[f"{NAME}@{SPACE}:0[score]"].to_list() == [1]
