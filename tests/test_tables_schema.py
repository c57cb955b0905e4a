"""Metadata becomes plain types at the first write, and stays of one type afterwards."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal

import polars as pl
import pyarrow as pa
import pytest
from deltalake import DeltaTable
from tables_kit import NAME, SPACE, filled, layout_at, raw_rows, vectors

from featstore.errors import IntegrityError, SettingsError
from featstore.tables import FeatureTable

MOMENT = datetime(2026, 1, 2, 3, 4, 5, 678901)

NORMAL = [
    (pa.array([1, None], pa.int8()), pa.int64(), [1, None]),
    (pa.array([1, 2**63 - 1], pa.uint64()), pa.int64(), [1, 2**63 - 1]),
    (pa.array([0.5, None], pa.float16()), pa.float64(), [0.5, None]),
    (pa.array(["a", None], pa.large_string()), pa.string(), ["a", None]),
    (pa.array(["a", None], pa.string_view()), pa.string(), ["a", None]),
    (pa.array(["a", "b"]).dictionary_encode(), pa.string(), ["a", "b"]),
    (pa.array([True, None]), pa.bool_(), [True, None]),
    (pa.array([b"ab", None], pa.large_binary()), pa.binary(), [b"ab", None]),
    (pa.array([date(2026, 1, 2), None], pa.date64()), pa.date32(), [date(2026, 1, 2), None]),
    (pa.array([Decimal("1.50"), None], pa.decimal128(5, 2)), pa.decimal128(5, 2), [Decimal("1.50"), None]),
    (pa.array([Decimal("1.50"), None], pa.decimal256(60, 2)), pa.string(), ["1.50", None]),
    (pa.array([time(1, 2, 3), None], pa.time32("s")), pa.string(), ["01:02:03", None]),
    (pa.array([time(1, 2, 3, 4), None], pa.time64("ns")), pa.string(), ["01:02:03.000004", None]),
    (pa.array([timedelta(seconds=90), None], pa.duration("ms")), pa.string(), ["90.0", None]),
    (pa.array([[1, 2], None], pa.list_(pa.int16())), pa.string(), ["[1, 2]", None]),
    (pa.array([{"a": "é", "b": [MOMENT]}, None]), pa.string(), None),
    (pa.array([MOMENT, None], pa.timestamp("us")), pa.timestamp("us", "UTC"), [MOMENT.replace(tzinfo=UTC), None]),
    (
        pa.array([1767322800123456789, None], pa.timestamp("ns", "Asia/Tokyo")),
        pa.timestamp("us", "UTC"),
        [datetime(2026, 1, 2, 3, 0, 0, 123456, tzinfo=UTC), None],
    ),
]


@pytest.mark.parametrize(
    ("column", "kind", "values"), NORMAL, ids=lambda v: str(v)[:30] if isinstance(v, pa.DataType) else ""
)
def test_metadata_is_normalised_and_read_by_all(tmp_path, column, kind, values):
    layout = layout_at(tmp_path)
    table = FeatureTable.staging(layout, NAME, SPACE, 16)
    rows = table.align(raw_rows(2, thing=column))
    assert rows.schema.field("thing").type == kind
    table.commit(run_id="run1", add=[table.write_part("run1", 0, rows, vectors(2))])
    table = FeatureTable.open(layout, NAME, SPACE)
    found = table.rows(["thing"])["thing"].to_pylist()
    if values is None:
        assert json.loads(found[0]) == {"a": "é", "b": [MOMENT.isoformat()]}
    else:
        assert found == values
    assert pl.scan_delta(str(table.path)).collect().height == 2
    assert DeltaTable(str(table.path)).to_pyarrow_table()["thing"].to_pylist() == found


def test_the_fixed_columns_are_always_there(tmp_path):
    _, table, _ = filled(tmp_path, nothing=pa.nulls(1000), label=pa.array([None] * 1000, pa.string()))
    assert table.column_names == ["item_id", "content_sha256", "embedding", "event_ts", "created_ts", "run_id"]
    assert table.rows(["event_ts"])["event_ts"].null_count == 1000


@pytest.mark.parametrize("name", ["embedding", "Item_ID", "_file", "RUN_ID", ""])
def test_names_that_are_taken_are_refused(tmp_path, name):
    table = FeatureTable.staging(layout_at(tmp_path), NAME, SPACE, 16)
    with pytest.raises(SettingsError, match="name"):
        table.align(raw_rows(2, **{name: ["a", "b"]}))


def test_names_that_differ_in_case_only_are_refused(tmp_path):
    table = FeatureTable.staging(layout_at(tmp_path), NAME, SPACE, 16)
    with pytest.raises(SettingsError, match="'label' and 'Label'"):
        table.align(raw_rows(2, label=["a", "b"], Label=["a", "b"]))
    _, table, _ = filled(tmp_path)
    with pytest.raises(SettingsError, match="case"):
        table.align(raw_rows(2, LABEL=["a", "b"]))


def test_missing_columns_nulls_and_values_out_of_range_are_refused(tmp_path):
    table = FeatureTable.staging(layout_at(tmp_path), NAME, SPACE, 16)
    with pytest.raises(SettingsError, match="content_sha256"):
        table.align(raw_rows(2).drop_columns(["content_sha256"]))
    with pytest.raises(SettingsError, match="1 of 2 rows have no item_id"):
        table.align(raw_rows(2).set_column(0, "item_id", pa.array(["a", None])))
    with pytest.raises(SettingsError, match="'big'"):
        table.align(raw_rows(1, big=pa.array([2**64 - 1], pa.uint64())))


def test_a_new_column_is_added_and_null_before(tmp_path):
    layout, table, _ = filled(tmp_path)
    rows = table.align(raw_rows(5, start=1000, run="run2", label=["cow"] * 5, weight=[1.5] * 5))
    version = table.commit(run_id="run2", add=[table.write_part("run2", 0, rows, vectors(5))])
    assert version == 2  # the column, then the data
    new = FeatureTable.open(layout, NAME, SPACE)
    assert new.column_names[-1] == "weight"
    weights = new.rows(["weight"])["weight"]
    assert weights.null_count == 1000
    assert weights.to_pylist()[-1] == 1.5
    assert pl.scan_delta(str(new.path)).select("weight").collect()["weight"].drop_nulls().to_list() == [1.5] * 5
    assert DeltaTable(str(new.path)).to_pyarrow_table()["weight"].null_count == 1000
    assert FeatureTable.open(layout, NAME, SPACE, 0).column_names == table.column_names
    file = new.rows(["label"])["_file"][0].as_py()
    part = new.rewrite_part("run3", 0, file, new.rows(["label"])["_row"].to_numpy()[:1])
    new.commit(run_id="run3", add=[part], remove=[file])
    assert len(FeatureTable.open(layout, NAME, SPACE).matrix()[0]) == 1004


def test_a_column_that_is_all_null_now_stays_in_the_table(tmp_path):
    layout, table, _ = filled(tmp_path)
    rows = table.align(raw_rows(5, start=1000, run="run2", label=pa.nulls(5)))
    table.commit(run_id="run2", add=[table.write_part("run2", 0, rows, vectors(5))])
    assert FeatureTable.open(layout, NAME, SPACE).rows(["label"])["label"].null_count == 5


def test_a_changed_type_is_refused(tmp_path):
    _, table, _ = filled(tmp_path, size=[1] * 1000, label=["1"] * 1000)
    with pytest.raises(SettingsError, match=r"'size' is int64 .* double") as caught:
        table.align(raw_rows(2, size=[1.0, 2.0]))
    assert "--retype" in str(caught.value)
    assert table.align(raw_rows(2, size=[1.0, 2.0]), retype=True)["size"].to_pylist() == [1, 2]
    with pytest.raises(SettingsError, match="change values"):
        table.align(raw_rows(2, size=[1.5, 2.0]), retype=True)
    assert table.align(raw_rows(1, label=[7]), retype=True)["label"].to_pylist() == ["7"]


def test_retype_rewrites_the_table(tmp_path):
    layout, table, x = filled(tmp_path, size=[1] * 1000, code=["7"] * 1000, label=["a"] * 1000)
    incoming = raw_rows(2, start=1000, run="run2", size=[1.5, 2.0], code=[1, 2], label=["a", "b"])
    assert table.retype(incoming, run_id="retype1") == 1
    assert table.retype(incoming, run_id="retype1") == 1
    new = FeatureTable.open(layout, NAME, SPACE)
    assert [new.rows().schema.field(n).type for n in ("size", "code", "label")] == [
        pa.float64(),
        pa.int64(),
        pa.string(),
    ]
    assert new.matrix()[1].tobytes() == x.tobytes()
    rows = new.align(incoming)
    new.commit(run_id="run2", add=[new.write_part("run2", 0, rows, vectors(2))])
    frame = pl.scan_delta(str(new.path)).collect()
    assert frame["size"].sum() == 1003.5
    assert frame["code"].sum() == 7003
    assert FeatureTable.open(layout, NAME, SPACE, 0).rows(["size"])["size"].type == pa.int64()
    assert FeatureTable.open(layout, NAME, SPACE).retype(incoming, run_id="retype2") is None
    mixed = raw_rows(1, start=2000, size=["large"])
    FeatureTable.open(layout, NAME, SPACE).retype(mixed, run_id="retype3")
    assert FeatureTable.open(layout, NAME, SPACE).align(mixed)["size"].to_pylist() == ["large"]


def test_files_of_other_columns_are_refused_at_the_commit(tmp_path):
    _layout, table, _ = filled(tmp_path, size=[1] * 1000)
    other = FeatureTable.staging(layout_at(tmp_path / "other"), NAME, SPACE, 16)
    part = other.write_part("run2", 0, other.align(raw_rows(2, size=["a", "b"])), vectors(2))
    (table.path / "_runs/run2").mkdir()
    (table.path / part.path).write_bytes((other.path / part.path).read_bytes())
    with pytest.raises(SettingsError, match="'size'"):
        table.commit(run_id="run2", add=[part])
    import pyarrow.parquet as pq

    stranger = table.path / "_runs/run2/00001.parquet"
    pq.write_table(pa.table({"embedding": [[1.0] * 16]}), stranger)
    from featstore.storage import hashing
    from featstore.tables import PartFile

    size = stranger.stat().st_size
    with pytest.raises(IntegrityError):
        table.commit(
            run_id="run2",
            add=[PartFile(path="_runs/run2/00001.parquet", rows=1, bytes=size, sha256=hashing.of_file(stranger))],
        )
    assert table.committed("run2") is None
