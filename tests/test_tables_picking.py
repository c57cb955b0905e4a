"""Some rows and vectors by their numbers, against the whole table."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tables_kit import NAME, SPACE, filled, layout_at

from featstore.errors import IntegrityError, NotFoundError
from featstore.tables import FeatureTable, writer


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    before, writer.ROW_GROUP_BYTES = writer.ROW_GROUP_BYTES, 64 * 16 * 4  # several row groups a file
    try:
        layout, table, x = filled(tmp_path_factory.mktemp("picking"))
    finally:
        writer.ROW_GROUP_BYTES = before
    return layout, table, x


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 999), max_size=40), st.booleans())
def test_any_rows_in_any_order_and_twice(world, rows, known):
    layout, table, x = world
    if known:
        table.matrix()
    fresh = FeatureTable.open(layout, NAME, SPACE)
    got = fresh.vectors_at(np.array(rows, np.int64))
    assert got.dtype == np.float32
    assert got.tobytes() == x[rows].tobytes()
    found = fresh.rows_at(np.array(rows, np.int64), ["label", "item_id"])
    assert found.equals(table.rows(["label", "item_id"]).drop_columns(["_file", "_row"]).take(np.array(rows, np.int64)))


def test_every_row_and_every_column(world):
    _, table, x = world
    rows = np.arange(1000)[::-1]
    assert table.vectors_at(rows).tobytes() == np.ascontiguousarray(x[::-1]).tobytes()
    everything = table.rows().drop_columns(["_file", "_row"])
    assert table.rows_at(rows).to_pylist() == everything.to_pylist()[::-1]


def test_what_is_not_there(world, tmp_path):
    _, table, _ = world
    for row in (-1, 1000):
        with pytest.raises(NotFoundError, match=f"no row {row:,}"):
            table.vectors_at(np.array([0, row]))
        with pytest.raises(NotFoundError, match=f"no row {row:,}"):
            table.rows_at(np.array([0, row]))
    with pytest.raises(NotFoundError, match="no column lable"):
        table.rows_at(np.array([0]), ["lable"])
    empty = FeatureTable.staging(layout_at(tmp_path), NAME, SPACE, 16)
    assert empty.vectors_at(np.array([], np.int64)).shape == (0, 16)
    assert empty.rows_at(np.array([], np.int64)).num_rows == 0
    with pytest.raises(NotFoundError, match="0 rows"):
        empty.vectors_at(np.array([0]))


def test_a_flipped_bit_is_seen_before_the_file_was_ever_read_whole(tmp_path):
    layout, table, x = filled(tmp_path)
    file = table.path / table.files[1]
    data = bytearray(file.read_bytes())
    at = data.find(x[400].tobytes())
    assert at > 0
    data[at + 2] ^= 1
    file.write_bytes(data)
    fresh = FeatureTable.open(layout, NAME, SPACE)
    assert fresh.vectors_at(np.array([0])).tobytes() == x[:1].tobytes()
    with pytest.raises(IntegrityError, match="checksum"):
        fresh.vectors_at(np.array([401]))


def test_ids_lead_to_their_rows(world):
    _, table, _ = world
    ids = table.rows(["item_id"])["item_id"].to_pylist()
    asked = [ids[999], "folder/item 9.jpg", ids[0], ids[500], ids[0], "", "zzz", "half \ud83d"]
    assert table.find(asked).tolist() == [999, -1, 0, 500, 0, -1, -1, -1]
    assert table.find([]).tolist() == []
