"""Damage is named and never answered with vectors; a commit is all or nothing, and one writer wins."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable, write_deltalake
from tables_kit import NAME, SPACE, add_run, filled, layout_at, raw_rows, vectors
from zlib_ng import zlib_ng as checksums

from featstore.errors import ConflictError, IntegrityError, StorageError, UsageError
from featstore.tables import FeatureTable, PartFile
from featstore.tables import log as log_module


def files_of(table: FeatureTable) -> list:
    return sorted(table.path.glob("_runs/*/*.parquet"))


def answer(layout, x, ids, rows) -> None:
    """Reads everything; must raise or be exactly right."""
    table = FeatureTable.open(layout, NAME, SPACE)
    got_ids, got = table.matrix()
    assert got.tobytes() == x.tobytes()
    assert got_ids.tolist() == ids.tolist()
    assert table.rows().equals(rows)


@pytest.mark.parametrize("seed", range(4))
def test_a_flipped_bit_never_changes_an_answer(tmp_path, seed):
    layout, table, x = filled(tmp_path, rows=300, parts=1, label=["cat", "dog"] * 150, n=list(range(300)))
    ids, rows = table.matrix()[0], table.rows()
    file = files_of(table)[0]
    good = file.read_bytes()
    random = np.random.default_rng(seed)
    footer = int.from_bytes(good[-8:-4], "little") + 8
    spots = [*random.integers(0, len(good), 40), *random.integers(len(good) - footer, len(good), 20)]
    messages = []
    for spot in spots:
        bad = bytearray(good)
        bad[spot] ^= 1 << int(random.integers(8))
        file.write_bytes(bad)
        try:
            answer(layout, x, ids, rows)
        except IntegrityError as error:
            messages.append(str(error))
        assert [p.code for p in FeatureTable.open(layout, NAME, SPACE).verify()] == ["damaged_file"]
    assert len(messages) >= 55
    assert all(file.name in message for message in messages)
    file.write_bytes(good)
    answer(layout, x, ids, rows)


def test_a_flipped_bit_in_the_log_never_changes_an_answer(tmp_path):
    layout, table, x = filled(tmp_path, rows=90, parts=3)
    add_run(layout, "run2", 10, start=90)
    table = FeatureTable.open(layout, NAME, SPACE)
    ids, rows, x = table.matrix()[0], table.rows(), np.concatenate([x, vectors(10, seed=1)])
    random = np.random.default_rng(0)
    for file in sorted(table.path.glob("_delta_log/*.json")):
        good = file.read_bytes()
        for spot in random.integers(0, len(good), 60):
            bad = bytearray(good)
            bad[spot] ^= 1 << int(random.integers(8))
            file.write_bytes(bad)
            try:
                new = FeatureTable.open(layout, NAME, SPACE)
                found = new.matrix()
                assert found[1].tobytes() == x.tobytes()
                assert found[0].tolist() == ids.tolist()
            except (IntegrityError, UsageError):
                continue
        file.write_bytes(good)
    answer(layout, x, ids, rows)


@pytest.mark.parametrize("keep", [-1, 0.5, 0])
def test_a_truncated_file_is_refused(tmp_path, keep):
    _, table, _ = filled(tmp_path)
    file = files_of(table)[1]
    size = file.stat().st_size
    os.truncate(file, size - 1 if keep == -1 else int(size * keep))
    for read in (table.matrix, table.rows, table.to_arrow):
        with pytest.raises(IntegrityError, match=file.name):
            read()
    assert [(p.code, p.path) for p in table.verify()] == [("damaged_file", "_runs/run1/00001.parquet")]


def test_a_file_cut_short_with_its_time_kept_is_refused(tmp_path):
    """Remembered as verified, and yet never read beyond its end."""
    _, table, _ = filled(tmp_path)
    table.matrix()
    file = files_of(table)[0]
    before = file.stat()
    os.truncate(file, before.st_size // 2)
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    with pytest.raises(IntegrityError, match=file.name):
        table.matrix()


def test_missing_and_stray_files(tmp_path):
    _, table, x = filled(tmp_path)
    (table.path / "notes.txt").write_text("hello")
    (table.path / "_runs" / "run1" / "99999.parquet").write_bytes(b"x")
    assert table.matrix()[1].tobytes() == x.tobytes()
    problems = table.verify()
    assert [(p.code, p.path, p.harmless) for p in problems] == [
        ("stray_file", "_runs/run1/99999.parquet", True),
        ("stray_file", "notes.txt", True),
    ]
    files_of(table)[1].unlink()
    for read in (table.matrix, table.rows):
        with pytest.raises(IntegrityError, match=r"00001\.parquet is missing"):
            read()
    assert ("missing_file", "_runs/run1/00001.parquet") in [(p.code, p.path) for p in table.verify()]


def test_verified_files_are_remembered_until_they_change(tmp_path, monkeypatch):
    layout, table, x = filled(tmp_path, parts=1)
    real, sums = checksums.crc32, []
    monkeypatch.setattr(checksums, "crc32", lambda *given: sums.append(1) or real(*given))
    table.matrix()
    assert sums, "the first load looks at every page"
    sums.clear()
    assert table.matrix()[1].tobytes() == x.tobytes()
    assert not sums, "the second trusts the first"
    file = files_of(table)[0]
    before = file.stat()
    data = bytearray(file.read_bytes())
    spot = data.find(x[500].tobytes())
    data[spot] ^= 1
    with open(file, "r+b") as handle:
        handle.write(data)
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))  # as a restored backup has it
    for verify in (False, True, False):
        with pytest.raises(IntegrityError, match="checksum"):
            table.matrix(verify=verify)
    data[spot] ^= 1
    file.write_bytes(data)
    layout.storage.local(layout.checked_files()).write_text("{ damaged")
    assert table.matrix()[1].tobytes() == x.tobytes()


def foreign(layout, table, rows: pa.Table) -> FeatureTable:
    write_deltalake(str(table.path), rows, mode="append")
    return FeatureTable.open(layout, NAME, SPACE)


def like(table, embedding, ids=("x1", "x2")) -> pa.Table:
    rows = table.align(raw_rows(2, start=5000, label=["a", "b"])).set_column(0, "item_id", pa.array(ids))
    kind = pa.list_(pa.field("element", pa.float32()))
    return rows.add_column(2, "embedding", pa.array(embedding, kind))


@pytest.mark.parametrize(
    ("embedding", "what"),
    [
        ([[1.0] * 16, None], "null"),
        ([[1.0] * 16, [1.0] * 15 + [None]], "null"),
        ([[1.0] * 15, [1.0] * 17], "length|values"),
        ([[1.0] * 16, []], "length|null|values"),
        ([[1.0] * 16, [float("nan")] + [1.0] * 15], "NaN"),
        ([[float("inf")] * 16, [1.0] * 16], "NaN"),
    ],
)
def test_bad_vectors_of_another_writer_are_refused(tmp_path, embedding, what):
    layout, table, x = filled(tmp_path)
    bad = foreign(layout, table, like(table, embedding))
    with pytest.raises(IntegrityError, match=what):
        bad.matrix()
    assert [p.code for p in bad.verify()] == ["damaged_file"]
    assert FeatureTable.open(layout, NAME, SPACE, 0).matrix()[1].tobytes() == x.tobytes()


def test_good_vectors_of_another_writer_are_read(tmp_path):
    layout, table, x = filled(tmp_path)
    new = foreign(layout, table, like(table, [[1.0] * 16, [2.0] * 16]))
    ids, found = new.matrix()
    by_id = dict(zip(ids, found, strict=True))
    assert by_id["x2"].tolist() == [2.0] * 16
    assert by_id["folder/item 000007.jpg"].tobytes() == x[7].tobytes()
    DeltaTable(str(table.path)).optimize.compact()
    new = FeatureTable.open(layout, NAME, SPACE)
    assert new.history()[0].operation == "optimize"
    for _ in range(2):
        ids, found = new.matrix()
        again = dict(zip(ids, found, strict=True))
        assert again.keys() == by_id.keys()
        assert all(again[i].tobytes() == by_id[i].tobytes() for i in by_id)
    rows = new.rows(["item_id"])
    pick = np.array([3, 900, 17])
    assert new.vectors([rows["_file"][int(i)].as_py() for i in pick], rows["_row"].to_numpy()[pick]).tobytes() == (
        found[pick].tobytes()
    )
    assert new.verify() == []


def test_duplicate_ids_are_refused(tmp_path):
    layout, table, _ = filled(tmp_path)
    new = foreign(layout, table, like(table, [[1.0] * 16] * 2, ids=("folder/item 000003.jpg", "x2")))
    with pytest.raises(IntegrityError, match=r"1 item_ids occur more than once .* 'folder/item 000003.jpg'"):
        new.matrix()
    assert [p.code for p in new.verify()] == ["duplicate_ids"]


def test_of_two_writers_on_one_base_one_wins(tmp_path):
    layout, _, _ = filled(tmp_path)
    first, second = (FeatureTable.open(layout, NAME, SPACE) for _ in range(2))
    parts = [
        table.write_part(run, 0, table.align(raw_rows(5, start=start, run=run)), vectors(5))
        for table, run, start in ((first, "run2", 1000), (second, "run3", 2000))
    ]
    assert first.commit(run_id="run2", add=[parts[0]]) == 1
    with pytest.raises(ConflictError, match="version 0"):
        second.commit(run_id="run3", add=[parts[1]])
    assert (second.path / parts[1].path).exists()
    assert FeatureTable.open(layout, NAME, SPACE).commit(run_id="run3", add=[parts[1]]) == 2
    assert len(FeatureTable.open(layout, NAME, SPACE).matrix()[0]) == 1010


def test_of_two_makers_of_a_table_one_wins(tmp_path):
    layout = layout_at(tmp_path)
    first, second = (FeatureTable.staging(layout, NAME, SPACE, 16) for _ in range(2))
    parts = [t.write_part(r, 0, t.align(raw_rows(5, run=r)), vectors(5)) for t, r in ((first, "r1"), (second, "r2"))]
    assert first.commit(run_id="r1", add=[parts[0]]) == 0
    with pytest.raises(ConflictError):
        second.commit(run_id="r2", add=[parts[1]])
    assert len(FeatureTable.open(layout, NAME, SPACE)) == 5


def test_a_run_commits_once(tmp_path):
    layout, table, _ = filled(tmp_path)
    part = table.write_part("run2", 0, table.align(raw_rows(5, start=1000)), vectors(5))
    assert [table.commit(run_id="run2", add=[part]) for _ in range(3)] == [1, 1, 1]
    assert FeatureTable.open(layout, NAME, SPACE).commit(run_id="run2", add=[part]) == 1
    assert len(FeatureTable.open(layout, NAME, SPACE)) == 1005


def test_what_is_committed_is_checked_before(tmp_path):
    _, table, _ = filled(tmp_path)
    part = table.write_part("run2", 0, table.align(raw_rows(5, start=1000)), vectors(5))
    where = table.path / part.path
    good = where.read_bytes()
    wrong_rows = PartFile(path=part.path, rows=6, bytes=part.bytes, sha256=part.sha256)
    with pytest.raises(IntegrityError, match="rows"):
        table.commit(run_id="run2", add=[wrong_rows])
    where.write_bytes(good[:-1])
    with pytest.raises(IntegrityError, match="bytes"):
        table.commit(run_id="run2", add=[part])
    bad = bytearray(good)
    bad[len(bad) // 3] ^= 4
    where.write_bytes(bad)
    with pytest.raises(IntegrityError, match="not the file"):
        table.commit(run_id="run2", add=[part])
    with pytest.raises(IntegrityError):
        table.read_part(part.path)
    where.unlink()
    with pytest.raises(IntegrityError, match="missing"):
        table.commit(run_id="run2", add=[part])
    with pytest.raises(ConflictError, match="no file"):
        table.commit(run_id="run2", add=[], remove=["_runs/run1/00009.parquet"])
    with pytest.raises(UsageError):
        table.commit(run_id="run2", add=[], remove=[])
    assert table.committed("run2") is None


class Hijacked(DeltaTable):
    """Commits, and then says that it did not."""

    def create_write_transaction(self, *args, **kwargs):
        super().create_write_transaction(*args, **kwargs)
        raise OSError("connection reset")


class Failing(DeltaTable):
    def create_write_transaction(self, *args, **kwargs):
        raise OSError("connection reset")


def test_a_commit_that_raises_after_it_took_effect_is_found(tmp_path, monkeypatch):
    layout, table, x = filled(tmp_path)
    part = table.write_part("run2", 0, table.align(raw_rows(5, start=1000)), vectors(5))
    old = "_runs/run1/00000.parquet"
    monkeypatch.setattr(log_module, "DeltaTable", Failing)
    with pytest.raises(StorageError, match="connection reset"):
        table.commit(run_id="run2", add=[part], remove=[old])
    assert table.committed("run2") is None
    monkeypatch.setattr(log_module, "DeltaTable", Hijacked)
    assert table.commit(run_id="run2", add=[part], remove=[old]) == 1
    monkeypatch.undo()
    assert len(FeatureTable.open(layout, NAME, SPACE)) == 1000 - 333 + 5
    assert FeatureTable.open(layout, NAME, SPACE, 0).matrix()[1].tobytes() == x.tobytes()


KILLED = """
    import os, signal, sys
    from pathlib import Path
    from tables_kit import *
    from featstore.tables import log
    layout = layout_at(Path(sys.argv[1]))
    table = FeatureTable.open(layout, NAME, SPACE)
    part = table.write_part("run2", 0, table.align(raw_rows(50, start=1000)), vectors(50))
    if sys.argv[2] == "after":
        log.durable.sync = lambda paths: os.kill(os.getpid(), signal.SIGKILL)
        table.commit(run_id="run2", add=[part])
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("when", ["before", "after"])
def test_killed_around_the_commit(tmp_path, when):
    layout, _table, x = filled(tmp_path)
    command = [sys.executable, "-c", textwrap.dedent(KILLED), str(tmp_path), when]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([os.path.dirname(__file__), os.getcwd()])}
    assert subprocess.run(command, env=environment, timeout=60).returncode == -signal.SIGKILL
    new = FeatureTable.open(layout, NAME, SPACE)
    staged = "_runs/run2/00000.parquet"
    assert (new.path / staged).exists()
    if when == "before":
        assert (new.version, len(new)) == (0, 1000)
        assert new.matrix()[1].tobytes() == x.tobytes()
        rows, found = new.read_part(staged)
        assert (len(rows), found.tobytes()) == (50, vectors(50).tobytes())
    else:
        assert (new.version, len(new), new.committed("run2")) == (1, 1050, 1)
    assert not list(layout.storage.local().rglob("*.tmp"))


def test_a_table_of_nobody_is_refused(tmp_path):
    layout = layout_at(tmp_path)
    where = layout.storage.local(layout.table(NAME, SPACE))
    write_deltalake(str(where), pa.table({"a": [1]}))
    with pytest.raises(IntegrityError, match="not one that featstore has made"):
        FeatureTable.open(layout, NAME, SPACE)


def test_the_log_keeps_what_delta_readers_need(tmp_path):
    _, table, _ = filled(tmp_path)
    delta = DeltaTable(str(table.path))
    assert delta.metadata().configuration == {
        "delta.logRetentionDuration": "interval 3650 days",
        "delta.enableExpiredLogCleanup": "false",
        "delta.deletedFileRetentionDuration": "interval 30 days",
    }
    lines = (table.path / "_delta_log" / f"{0:020d}.json").read_text().splitlines()
    info = next(json.loads(line)["commitInfo"] for line in lines if "commitInfo" in line)
    assert (info["run_id"], info["space_id"]) == ("run1", SPACE)
    for file in files_of(table):
        column = pq.read_metadata(file).row_group(0).column(2)
        assert (column.compression, column.has_dictionary_page) == ("UNCOMPRESSED", False)
        pq.read_table(file, page_checksum_verification=True)


@pytest.mark.parametrize(
    "protocol",
    [
        {"minReaderVersion": 99, "minWriterVersion": 99},
        {"minReaderVersion": 3, "minWriterVersion": 7, "readerFeatures": ["fancy"], "writerFeatures": ["fancy"]},
    ],
    ids=["version", "feature"],
)
def test_a_table_for_a_newer_reader_is_not_called_damaged(protocol, tmp_path):
    layout, table, _ = filled(tmp_path, rows=10)
    (log,) = (table.path / "_delta_log").glob("*0.json")
    actions = [json.loads(line) for line in log.read_text().splitlines()]
    actions = [{"protocol": protocol} if "protocol" in action else action for action in actions]
    log.chmod(0o644)
    log.write_text("".join(json.dumps(action) + "\n" for action in actions))
    with pytest.raises(IntegrityError, match="written for a newer reader") as caught:
        FeatureTable.open(layout, NAME, SPACE)
    assert "Upgrade featstore" in str(caught.value.hint)
    assert "backup" not in str(caught.value)
