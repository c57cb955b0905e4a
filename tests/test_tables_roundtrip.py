"""What goes into a feature table comes out again, to the byte, for us and for every other reader."""

from __future__ import annotations

import os

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tables_kit import NAME, SPACE, add_run, filled, layout_at, raw_rows, vectors

from featstore.errors import IntegrityError, NotFoundError, SettingsError, SpaceMismatchError, UsageError
from featstore.tables import FeatureTable
from featstore.tables.footer import opening
from featstore.tables.vectors import fill, gather


def test_matrix_gives_back_the_same_bytes(tmp_path):
    _, table, x = filled(tmp_path)
    for verify in (False, False, True):
        ids, found = table.matrix(verify=verify)
        assert found.tobytes() == x.tobytes()
        assert found.dtype == np.float32
        assert found.flags.c_contiguous
        assert found.flags.writeable
        assert ids.tolist() == raw_rows(1000)["item_id"].to_pylist()


@pytest.fixture
def few_open_files():
    resource = pytest.importorskip("resource")  # not on Windows
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/dev/fd")) + 120, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_table_may_have_more_files_than_a_process_may_open(tmp_path, few_open_files):
    _, table, x = filled(tmp_path, rows=600, parts=300)
    for verify in (False, True):
        ids, found = table.matrix(verify=verify)
        assert found.tobytes() == x.tobytes()
        assert ids.tolist() == raw_rows(600)["item_id"].to_pylist()


def test_equal_input_gives_equal_bytes(tmp_path):
    layout = layout_at(tmp_path)
    table = FeatureTable.staging(layout, NAME, SPACE, 16)
    rows = table.align(raw_rows(50, label=["a"] * 50))
    first = table.write_part("run1", 0, rows, vectors(50))
    second = table.write_part("run1", 1, rows, vectors(50))
    assert (first.sha256, first.bytes) == (second.sha256, second.bytes)
    assert table.write_part("run1", 0, rows, vectors(50)) == first


def test_staged_files_are_invisible_and_read_back(tmp_path):
    layout = layout_at(tmp_path)
    table = FeatureTable.staging(layout, NAME, SPACE, 16)
    rows = table.align(raw_rows(20, label=["a"] * 20))
    part = table.write_part("run1", 7, rows, vectors(20))
    assert part.path == "_runs/run1/00007.parquet"
    assert not FeatureTable.exists(layout, NAME, SPACE)
    with pytest.raises(NotFoundError):
        FeatureTable.open(layout, NAME, SPACE)
    found, x = table.read_part(part.path, sha256=part.sha256)
    assert found.equals(rows)
    assert x.tobytes() == vectors(20).tobytes()
    assert len(table) == 0
    assert table.matrix()[1].shape == (0, 16)
    assert table.rows().num_rows == 0


def test_rows_and_gather_agree_with_the_matrix(tmp_path):
    _, table, x = filled(tmp_path)
    rows = table.rows(["label", "item_id"])
    assert rows.column_names == ["label", "item_id", "_file", "_row"]
    pick = np.random.default_rng(3).permutation(1000)[:40]
    files, places = rows["_file"].to_pylist(), rows["_row"].to_numpy()
    for _ in range(2):  # first unverified, then by page
        got = table.vectors([files[i] for i in pick], places[pick])
        assert got.tobytes() == x[pick].tobytes()
    assert table.vectors([], np.array([], np.int64)).shape == (0, 16)
    with pytest.raises(NotFoundError):
        table.vectors([files[0]], np.array([5000]))
    with pytest.raises(NotFoundError):
        table.rows(["lable"])


def test_every_reader_sees_the_same_rows(tmp_path):
    layout, _, x = filled(tmp_path)
    add_run(layout, "run2", 10, start=1000)
    table = FeatureTable.open(layout, NAME, SPACE)
    expected = np.concatenate([x, vectors(10, seed=1)])
    ids = table.matrix()[0].tolist()

    def same(frame_ids, lists):
        assert dict(zip(frame_ids, map(bytes, lists), strict=True)) == dict(
            zip(ids, (row.tobytes() for row in expected), strict=True)
        )

    lazy = pl.scan_delta(str(table.path)).collect()
    same(lazy["item_id"], [row.to_numpy().tobytes() for row in lazy["embedding"]])
    ours = table.to_polars()
    same(ours["item_id"], [row.to_numpy().tobytes() for row in ours["embedding"]])
    files = pl.read_parquet(sorted(table.path.glob("_runs/*/*.parquet")), missing_columns="insert")
    same(files.sort("item_id")["item_id"], [row.to_numpy().tobytes() for row in files.sort("item_id")["embedding"]])
    frame = DeltaTable(str(table.path)).to_pandas()
    same(frame["item_id"], [np.asarray(row, np.float32).tobytes() for row in frame["embedding"]])
    one = pd.read_parquet(sorted(table.path.glob("_runs/run1/*.parquet"))[0])
    assert np.stack(one["embedding"].to_numpy()).tobytes() == x[: len(one)].tobytes()
    arrow = DeltaTable(str(table.path)).to_pyarrow_table()
    same(arrow["item_id"].to_pylist(), [np.float32(row).tobytes() for row in arrow["embedding"].to_pylist()])
    assert table.to_arrow().schema.names == table.column_names
    assert pl.scan_delta(str(table.path)).select(pl.len()).collect().item() == 1010
    assert DeltaTable(str(table.path)).count() == 1010


def test_time_travel_and_history(tmp_path):
    layout, first, x = filled(tmp_path)
    assert add_run(layout, "run2", 10, start=1000) == 1
    old, new = FeatureTable.open(layout, NAME, SPACE, 0), FeatureTable.open(layout, NAME, SPACE)
    assert (len(old), len(new), first.version, new.version) == (1000, 1010, 0, 1)
    assert old.matrix()[1].tobytes() == x.tobytes()
    assert [(c.version, c.operation, c.run_id, c.rows_added, c.files_added) for c in new.history()] == [
        (1, "extract", "run2", 10, 1),
        (0, "extract", "run1", 1000, 3),
    ]
    assert new.committed("run1") == 0
    assert new.committed("run9") is None
    with pytest.raises(NotFoundError, match="0 to 1"):
        FeatureTable.open(layout, NAME, SPACE, 2)


def test_removed_rows_are_gone_and_the_others_untouched(tmp_path):
    layout, table, x = filled(tmp_path)
    file = table.rows(["item_id"])["_file"][0].as_py()
    part = table.rewrite_part("run2", 0, file, np.array([0, 5, 17]))
    assert part is not None
    assert table.rewrite_part("run2", 1, file, np.arange(333)) is None
    table.commit(run_id="run2", add=[part], remove=[file], details={"rows_added": "0", "rows_removed": "3"})
    new = FeatureTable.open(layout, NAME, SPACE)
    ids, found = new.matrix()
    gone = [0, 5, 17]
    by_id = dict(zip(ids, found, strict=True))
    kept = [i for i in range(1000) if i not in gone]
    assert len(by_id) == 997
    assert all(by_id[f"folder/item {i:06d}.jpg"].tobytes() == x[i].tobytes() for i in kept)
    assert (new.history()[0].rows_added, new.history()[0].rows_removed, new.history()[0].files_removed) == (0, 3, 1)
    assert len(table.matrix()[0]) == 1000  # the older handle still reads what it was opened on


def test_large_files_have_several_row_groups_and_rewrites_keep_them_right(tmp_path):
    layout = layout_at(tmp_path)
    dim = 4096
    table = FeatureTable.staging(layout, NAME, SPACE, dim)
    x = vectors(5000, dim)
    part = table.write_part("run1", 0, table.align(raw_rows(5000)), x)
    table.commit(run_id="run1", add=[part])
    table = FeatureTable.open(layout, NAME, SPACE)
    metadata = pq.read_metadata(table.path / part.path)
    assert metadata.num_row_groups > 1
    assert all(metadata.row_group(i).total_byte_size <= 65 * 2**20 for i in range(metadata.num_row_groups))
    assert table.matrix()[1].tobytes() == x.tobytes()
    drop = np.array([0, 4999])
    smaller = table.rewrite_part("run2", 0, part.path, drop)
    assert smaller is not None
    rows, found = table.read_part(smaller.path)
    assert found.tobytes() == np.delete(x, drop, axis=0).tobytes()
    assert rows["item_id"][0].as_py() == "folder/item 000001.jpg"


def test_vectors_that_must_not_be_stored_are_refused(tmp_path):
    table = FeatureTable.staging(layout_at(tmp_path), NAME, SPACE, 16)
    rows = table.align(raw_rows(4))
    bad = vectors(4)
    bad[2, 3] = np.nan
    for wrong in (vectors(4, 8), vectors(3), vectors(4).astype(np.float64), bad):
        with pytest.raises(UsageError):
            table.write_part("run1", 0, rows, wrong)
    with pytest.raises(SettingsError, match="aligned"):
        table.write_part("run1", 0, raw_rows(4, label=pa.array([1, 2, 3, 4], pa.int8())), vectors(4))
    assert not list(table.path.glob("_runs/*/*"))


def test_spaces_never_meet(tmp_path):
    layout, table, _ = filled(tmp_path)
    with pytest.raises(SpaceMismatchError):
        FeatureTable.staging(layout, NAME, SPACE, 32)
    other = FeatureTable.staging(layout, NAME, "other-99999999", 32)
    part = other.write_part("run2", 0, other.align(raw_rows(4)), vectors(4, 32))
    (table.path / "_runs/run2").mkdir()
    (table.path / part.path).write_bytes((other.path / part.path).read_bytes())
    with pytest.raises(SpaceMismatchError, match="32"):
        table.commit(run_id="run2", add=[part])
    table.path.rename(table.path.with_name("moved-11111111"))
    with pytest.raises(SpaceMismatchError, match=SPACE):
        FeatureTable.open(layout, NAME, "moved-11111111")


def test_it_shows_itself(tmp_path):
    _, table, _ = filled(tmp_path, label=["<b>"] * 1000)
    assert "photos" in repr(table)
    assert "1,000 rows × 16" in repr(table)
    assert "version 0" in repr(table)
    page = table._repr_html_()
    assert "&lt;b&gt;" in page
    assert "<b>" not in page
    assert "item 000004" in page
    assert "item 000005" not in page


def test_a_store_may_lie_in_a_folder_with_any_name(tmp_path):
    layout, table, x = filled(tmp_path / "my föto's 100% #1 [a]?*")
    add_run(layout, "run2", 10, start=1000)
    new = FeatureTable.open(layout, NAME, SPACE)
    assert new.matrix()[1][:1000].tobytes() == x.tobytes()
    assert new.verify() == []
    assert table.committed("run2") == 1
    with pytest.raises(UsageError, match="%20"):
        filled(tmp_path / "my%20photos")


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    dim=st.integers(1, 700),
    rows=st.integers(1, 900),
    group=st.integers(1, 1000),
    page=st.integers(64, 40_000),
    batch=st.integers(1, 5_000),
    checksum=st.booleans(),
    version=st.sampled_from(["1.0", "2.0"]),
    nullable=st.booleans(),
)
def test_any_layout_of_pages_reads_back_exactly(
    tmp_path_factory, dim, rows, group, page, batch, checksum, version, nullable
):
    """Files of another writer: any page and group size, rows across pages, both page versions."""
    where = tmp_path_factory.mktemp("any") / "x.parquet"
    x = vectors(rows, dim, seed=rows)
    kind = pa.list_(pa.field("element", pa.float32(), nullable=nullable))
    column = pa.ListArray.from_arrays(
        pa.array(np.arange(rows + 1, dtype=np.int32) * dim), pa.array(x.reshape(-1)), type=kind
    )
    pq.write_table(
        pa.table({"embedding": column}),
        where,
        row_group_size=group,
        data_page_size=page,
        write_batch_size=batch,
        data_page_version=version,
        write_page_checksum=checksum,
        compression="none",
        use_dictionary=False,
    )
    out = np.zeros((rows, dim), np.float32)
    with opening(where) as file:
        fill(out, [(file, 0, True)])
        assert out.tobytes() == x.tobytes()
        if version == "1.0":
            pick = np.array([0, rows - 1, rows // 2])
            assert gather(file, pick, dim).tobytes() == x[pick].tobytes()
        if dim > 1:
            with pytest.raises(IntegrityError):
                fill(np.zeros((rows, dim - 1), np.float32), [(file, 0, False)])
