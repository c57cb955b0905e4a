"""Merging small files, removing old ones, and the table of rejects."""

from __future__ import annotations

import subprocess
import sys
import threading
import time

import polars as pl
import pyarrow as pa
import pytest
from tables_kit import NAME, SPACE, add_run, filled, layout_at, raw_rows, vectors

from featstore.errors import ConflictError, IntegrityError
from featstore.records import OpenRun, Reject
from featstore.storage import documents
from featstore.tables import FeatureTable, RejectsTable


def newest(layout) -> FeatureTable:
    return FeatureTable.open(layout, NAME, SPACE)


def test_compact_changes_nothing_but_the_files(tmp_path):
    layout, _, _ = filled(tmp_path, rows=1000, parts=5)
    for i in range(4):
        add_run(layout, f"run{i + 2}", 10, start=1000 + 10 * i, seed=i)
    before = newest(layout)
    ids, x = before.matrix()
    rows = before.rows()
    stale = newest(layout)
    assert before.compact("compact1", target_rows=420) == 5
    after = newest(layout)
    assert after.matrix()[0].tolist() == ids.tolist()
    assert after.matrix()[1].tobytes() == x.tobytes()
    assert after.rows().drop_columns(["_file", "_row"]).equals(rows.drop_columns(["_file", "_row"]))
    files = after.rows(["item_id"])["_file"].unique().to_pylist()
    assert len(files) == 3
    entry = after.history()[0]
    assert (entry.operation, entry.rows_added, entry.rows_removed, entry.files_added) == ("compact", 0, 0, 3)
    with pytest.raises(ConflictError):
        stale.compact("compact2", target_rows=100_000)
    assert after.compact("compact3", target_rows=420) is None
    assert pl.scan_delta(str(after.path)).collect().height == 1040
    assert before.matrix()[1].tobytes() == x.tobytes()


def test_vacuum_keeps_what_is_pinned_open_or_young(tmp_path):
    layout, table, x = filled(tmp_path)
    add_run(layout, "run2", 10, start=1000)
    table = newest(layout)
    assert table.compact("compact1") == 2
    new = newest(layout)
    killed = new.write_part("run8", 0, new.align(raw_rows(5, start=3000)), vectors(5))
    running = new.write_part("run9", 0, new.align(raw_rows(5, start=4000)), vectors(5))
    documents.write(
        layout.storage,
        layout.open_run(NAME, SPACE),
        OpenRun(run_id="run9", name=NAME, space_id=SPACE, plan_digest="", base_version=2),
    )
    assert new.vacuum([], 3600).files == ()
    assert set(new.vacuum([0], 0, dry_run=True).files) == {"_runs/run2/00000.parquet", killed.path}
    cleaned = new.vacuum([0], 0)
    assert set(cleaned.files) == {"_runs/run2/00000.parquet", killed.path}
    assert cleaned.bytes > killed.bytes
    assert not (new.path / "_runs/run8").exists()
    assert (new.path / running.path).exists()
    assert FeatureTable.open(layout, NAME, SPACE, 0).matrix()[1].tobytes() == x.tobytes()
    assert len(newest(layout).matrix()[0]) == 1010
    with pytest.raises(IntegrityError, match="missing"):
        FeatureTable.open(layout, NAME, SPACE, 1).matrix()
    assert newest(layout).verify() == []
    assert len(newest(layout).vacuum([], 0).files) == 3
    assert newest(layout).verify() == []


def test_a_reader_goes_on_while_a_newer_version_is_made_and_cleaned(tmp_path):
    layout, table, x = filled(tmp_path)
    errors = []

    def read() -> None:
        try:
            for _ in range(15):
                assert table.matrix()[1].tobytes() == x.tobytes()
        except Exception as error:
            errors.append(error)

    reader = threading.Thread(target=read)
    reader.start()
    for i in range(5):
        add_run(layout, f"run{i + 2}", 10, start=1000 + 10 * i)
        newest(layout).compact(f"compact{i}")
        newest(layout).vacuum([], 3600)
    reader.join()
    assert errors == []


@pytest.mark.heavy
def test_many_commits_are_found_beyond_a_checkpoint(tmp_path):
    layout = layout_at(tmp_path)
    table = FeatureTable.staging(layout, NAME, SPACE, 2)
    rows = table.align(raw_rows(1))
    for i in range(104):
        one = rows.set_column(0, "item_id", pa.array([f"i{i}"]))
        table = FeatureTable.staging(layout, NAME, SPACE, 2)
        table.commit(run_id=f"run{i:03d}", add=[table.write_part(f"run{i:03d}", 0, one, vectors(1, 2, seed=i))])
    table = newest(layout)
    assert list(table.path.glob("_delta_log/*.checkpoint.parquet"))
    assert table.matrix()[1].tobytes() == b"".join(vectors(1, 2, seed=i).tobytes() for i in range(104))
    assert (table.committed("run000"), table.committed("run103"), len(table.history())) == (0, 103, 104)
    assert table.verify() == []


def reject(i: int) -> Reject:
    return Reject(item_id=f"bad {i}", content_sha256=None, stage="decode", code="truncated_image", message="cut")


def test_rejects_are_kept_once(tmp_path):
    layout = layout_at(tmp_path)
    assert RejectsTable.read(layout, NAME, SPACE).num_rows == 0
    RejectsTable.append(layout, NAME, run_id="run1", space_id=SPACE, rejects=[])
    assert not layout.storage.exists(layout.rejects(NAME))
    batch = [(0, reject(1)), (0, reject(2)), (3, reject(3))]
    for _ in range(3):
        RejectsTable.append(layout, NAME, run_id="run1", space_id=SPACE, rejects=batch)
    RejectsTable.append(layout, NAME, run_id="run1", space_id=SPACE, rejects=[*batch, (4, reject(4))])
    RejectsTable.append(layout, NAME, run_id="run1", space_id="other", rejects=batch[:1])
    RejectsTable.append(layout, NAME, run_id="run2", space_id=SPACE, rejects=batch[:1])
    found = RejectsTable.read(layout, NAME, SPACE)
    assert list(zip(found["run_id"].to_pylist(), found["shard"].to_pylist(), strict=True)) == [
        ("run1", 0),
        ("run1", 0),
        ("run1", 3),
        ("run1", 4),
        ("run2", 0),
    ]
    assert found["item_id"].to_pylist()[:3] == ["bad 1", "bad 2", "bad 3"]
    assert RejectsTable.read(layout, NAME).num_rows == 6
    assert pl.scan_delta(str(layout.storage.local(layout.rejects(NAME)))).collect().height == 6


def test_strange_names_can_be_rejected(tmp_path):
    layout = layout_at(tmp_path)
    odd = Reject(item_id="a\udcffb", content_sha256=None, stage="scan", code="name", message="\udc80\n\x00")
    RejectsTable.append(layout, NAME, run_id="run1", space_id=SPACE, rejects=[(0, odd)])
    assert RejectsTable.read(layout, NAME, SPACE)["item_id"].to_pylist() == ["a\\udcffb"]


def test_rejects_of_many_writers_all_arrive(tmp_path):
    layout = layout_at(tmp_path)
    errors = []

    def write(space: str) -> None:
        try:
            for shard in range(4):
                RejectsTable.append(layout, NAME, run_id="run1", space_id=space, rejects=[(shard, reject(shard))])
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=write, args=(f"space-{i}",)) for i in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert RejectsTable.read(layout, NAME).num_rows == 12


def test_a_damaged_rejects_file_is_named(tmp_path):
    layout = layout_at(tmp_path)
    RejectsTable.append(layout, NAME, run_id="run1", space_id=SPACE, rejects=[(0, reject(1))])
    file = next(layout.storage.local(layout.rejects(NAME)).glob("_runs/*/*.parquet"))
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    with pytest.raises(IntegrityError, match=file.name):
        RejectsTable.read(layout, NAME, SPACE)


def test_importing_the_package_is_light():
    heavy = ("pyarrow", "deltalake", "numpy", "polars")
    code = f"import sys, featstore.tables; print([m for m in {heavy} if m in sys.modules])"
    start = time.perf_counter()
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"
    assert time.perf_counter() - start < 5
